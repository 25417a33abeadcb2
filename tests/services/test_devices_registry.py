import pytest

from fleetward.base.db import Database, Tx
from fleetward.base.errors import ConflictError, InvalidInputError, NotFoundError
from fleetward.base.events import list_events
from fleetward.features.audit import service as audit
from fleetward.features.devices import service
from fleetward.features.devices.model import (
    AttestationPolicy,
    DeviceState,
    HardwareIdentity,
    HardwareKind,
    KeyTier,
    KeyTierError,
    LifecycleError,
    Model,
    Order,
    Selection,
    SortKey,
    render_cursor,
)

CHIP = HardwareIdentity(HardwareKind.TPM_EK, "ab" * 32)


@pytest.fixture
def camera(tx: Tx) -> Model:
    return service.add_model(tx, Model("cam"))


@pytest.mark.usefixtures("camera")
def test_every_change_is_audited_and_told(tx: Tx) -> None:
    service.register(tx, "cam-1", "cam", hardware=CHIP)
    service.record_enrollment(tx, "cam-1", KeyTier.TPM)
    service.record_good_appraisal(tx, "cam-1")
    service.transition(tx, "cam-1", DeviceState.QUARANTINED, "odd traffic")
    actions = [entry.action for entry, _ in audit.search(tx, subject="device:cam-1")]
    assert actions == ["device.registered", "device.enrolled", "device.active", "device.quarantined"]
    told = [(event.kind, event.details.get("to")) for event in list_events(tx, device="cam-1")]
    assert told == [
        ("device.registered", None),
        ("device.state_changed", "enrolled"),
        ("device.state_changed", "active"),
        ("device.state_changed", "quarantined"),
    ]


@pytest.mark.usefixtures("camera")
def test_an_id_or_a_chip_is_registered_once(tx: Tx) -> None:
    service.register(tx, "cam-1", "cam", hardware=CHIP)
    with pytest.raises(ConflictError, match="registered"):
        service.register(tx, "cam-1", "cam")
    with pytest.raises(ConflictError, match="cam-1"):
        service.register(tx, "cam-2", "cam", hardware=CHIP)


def test_a_device_needs_a_known_model(tx: Tx) -> None:
    with pytest.raises(NotFoundError, match="fleetward model add"):
        service.register(tx, "cam-1", "toaster")


@pytest.mark.usefixtures("camera")
def test_a_bad_id_is_refused(tx: Tx) -> None:
    with pytest.raises(InvalidInputError):
        service.register(tx, "cam/1", "cam")


def test_adding_the_same_model_again_is_no_change_and_another_one_a_conflict(tx: Tx, camera: Model) -> None:
    assert service.add_model(tx, camera) == camera
    with pytest.raises(ConflictError):
        service.add_model(tx, Model("cam", min_tier=KeyTier.TPM))


@pytest.mark.usefixtures("camera")
def test_a_good_appraisal_does_not_free_a_quarantined_device(tx: Tx) -> None:
    service.register(tx, "cam-1", "cam")
    service.record_enrollment(tx, "cam-1", KeyTier.TPM)
    service.transition(tx, "cam-1", DeviceState.QUARANTINED, "odd traffic")
    assert service.record_good_appraisal(tx, "cam-1").state is DeviceState.QUARANTINED


@pytest.mark.usefixtures("camera")
def test_only_a_quarantined_device_can_be_released(tx: Tx) -> None:
    service.register(tx, "cam-1", "cam")
    with pytest.raises(LifecycleError):
        service.release(tx, "cam-1", "why not")


def test_enrollment_respects_the_models_floor(tx: Tx) -> None:
    service.add_model(tx, Model("vault", min_tier=KeyTier.TPM))
    service.register(tx, "v-1", "vault")
    with pytest.raises(KeyTierError):
        service.record_enrollment(tx, "v-1", KeyTier.SOFTWARE)
    assert service.get_device(tx, "v-1").state is DeviceState.REGISTERED


def test_without_attestation_a_device_is_active_once_enrolled(tx: Tx) -> None:
    service.add_model(tx, Model("plain", attestation=AttestationPolicy.NONE))
    service.register(tx, "p-1", "plain")
    service.record_enrollment(tx, "p-1", KeyTier.SOFTWARE)
    assert service.get_device(tx, "p-1").state is DeviceState.ACTIVE


@pytest.mark.usefixtures("camera")
def test_ending_a_device_is_final(tx: Tx) -> None:
    service.register(tx, "cam-1", "cam")
    service.end(tx, "cam-1", DeviceState.REVOKED, "stolen")
    with pytest.raises(LifecycleError):
        service.record_enrollment(tx, "cam-1", KeyTier.TPM)
    service.end(tx, "cam-1", DeviceState.RETIRED, "gone")
    with pytest.raises(LifecycleError):
        service.transition(tx, "cam-1", DeviceState.ACTIVE, "please")


@pytest.mark.usefixtures("camera")
def test_a_chip_is_bound_once(tx: Tx) -> None:
    service.register(tx, "cam-1", "cam")
    service.bind_hardware(tx, "cam-1", CHIP)
    service.bind_hardware(tx, "cam-1", CHIP)
    with pytest.raises(ConflictError):
        service.bind_hardware(tx, "cam-1", HardwareIdentity(HardwareKind.TPM_EK, "cd" * 32))


@pytest.mark.usefixtures("camera")
def test_pages_cover_all_devices_once(tx: Tx) -> None:
    rows = [(f"d{number:03}", "cam", "default", HardwareIdentity(HardwareKind.IDEVID, f"{number:064x}"))
            for number in range(25)]  # fmt: skip
    assert service.register_shipment(tx, rows, batch="b1", factory="f1") == 25
    seen, after = [], ""
    while page := service.list_devices(tx, after=after, limit=10):
        seen += [device.id for device in page]
        after = page[-1].id
    assert seen == [row[0] for row in rows]
    assert [d.id for d in service.list_devices(tx, Selection(search="D00_"))] == []


def test_a_shipment_with_a_known_device_registers_nothing(db: Database) -> None:
    with db.write("t") as tx:
        service.add_model(tx, Model("cam"))
        service.register(tx, "d1", "cam")
    rows = [("d0", "cam", "g", CHIP), ("d1", "cam", "g", HardwareIdentity(HardwareKind.IDEVID, "0" * 64))]
    with pytest.raises(ConflictError), db.write("t") as tx:
        service.register_shipment(tx, rows, batch="b", factory="f")
    with db.read() as tx:
        assert service.find_device(tx, "d0") is None


def register_varied(tx: Tx, count: int = 60) -> None:
    """Register devices of three models, two groups and four firmware versions, some unknown."""
    for name in ("cam", "lock", "meter"):
        service.add_model(tx, Model(name, attestation=AttestationPolicy.NONE))
    for number in range(count):
        device = f"d{number:03}"
        service.register(tx, device, ("cam", "lock", "meter")[number % 3], group=("east", "west")[number % 2])
        if number % 4:
            service.record_enrollment(tx, device, KeyTier.SOFTWARE)
            service.set_firmware_version(tx, device, f"1.{number % 4}")


@pytest.mark.parametrize("key", list(SortKey))
@pytest.mark.parametrize("is_descending", [False, True])
def test_pages_and_row_numbers_give_the_same_order(tx: Tx, key: SortKey, is_descending: bool) -> None:
    register_varied(tx)
    order = Order(key, is_descending)
    whole = [one.id for one in service.list_devices(tx, order=order)]
    assert len(set(whole)) == 60
    paged: list[str] = []
    after = ""
    while page := service.list_devices(tx, order=order, after=after, limit=7):
        paged += [one.id for one in page]
        after = render_cursor(page[-1], order)
    assert paged == whole
    assert [one.id for one in service.list_devices(tx, order=order, at=33, limit=9)] == whole[33:42]


def test_a_cursor_of_another_order_is_refused(tx: Tx) -> None:
    with pytest.raises(InvalidInputError, match="next_after"):
        service.list_devices(tx, order=Order(SortKey.CHANGED), after="cam-1")


def test_counts_are_of_what_the_list_shows(tx: Tx) -> None:
    register_varied(tx)
    counts = service.count_devices(tx)
    assert counts.by_state == {"active": 45, "registered": 15}
    assert counts.by_firmware == {"": 15, "1.1": 15, "1.2": 15, "1.3": 15}
    assert counts.by_model == {"cam": 20, "lock": 20, "meter": 20}
    assert counts.by_group == {"east": 30, "west": 30}
    for selection in (
        Selection(model="cam", firmware="1.2"),
        Selection(search="D00"),
        Selection(firmware=""),
        Selection(group="west", groups=frozenset({"east"})),
        Selection(groups=frozenset({"east"})),
        Selection(groups=frozenset()),
    ):
        assert service.count_devices(tx, selection).total == len(service.list_devices(tx, selection))
    assert service.count_devices(tx, Selection(groups=frozenset())).total == 0
    assert service.count_devices(tx, Selection(groups=frozenset({"east"}))).by_group == {"east": 30}
