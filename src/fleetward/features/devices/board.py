"""What is shown of devices: cards of quarantine and of certificates not renewed, a point of the checklist."""

from collections.abc import Iterable, Sequence

from fleetward.base.board import MAX_ITEMS, Card, Item, count_of, device_href
from fleetward.base.checklist import Check, CheckState
from fleetward.base.clock import say_time
from fleetward.base.db import Tx
from fleetward.base.events import Severity
from fleetward.base.feature import Groups, House
from fleetward.features.devices import service
from fleetward.features.devices.model import AttestationPolicy, DeviceState, Model, Selection
from fleetward.features.pki import service as pki
from fleetward.features.pki.model import EndingCertificate

CERTIFICATES_EXPIRING = "certificates_expiring"
CERTIFICATES_EXPIRED = "certificates_expired"
QUARANTINED = "devices_quarantined"
MODELS_ATTESTED = "models_attested"
# A certificate is renewed at half of its life: past three quarters something hinders it.
_OVERDUE_PART = 4
_SPEAKING = frozenset({DeviceState.ENROLLED, DeviceState.ACTIVE})


def find_cards(_house: House, tx: Tx, groups: Groups) -> list[Card]:
    """Return the cards about devices of these groups."""
    return [*_certificates(tx, groups), _quarantined(tx, groups)]


def _certificates(tx: Tx, groups: Groups) -> tuple[Card, Card]:
    """Return the cards of certificates whose renewal is overdue, and of those that have ended."""
    found: list[EndingCertificate] = []
    for model in service.list_models(tx):
        among = service.select_ids(groups=groups, states=_SPEAKING, model=model.id)
        found += pki.list_ending(tx, tx.now + model.cert_lifetime / _OVERDUE_PART, among)
    found.sort(key=lambda one: one.not_after)
    ended = [one for one in found if one.not_after <= tx.now]
    ending = found[len(ended) :]
    return (
        Card(
            CERTIFICATES_EXPIRING, Severity.WARNING,
            count_of(len(ending), "certificate ends soon and was not renewed",
                     "certificates end soon and were not renewed"),
            len(ending), _certificate_items(ending, "ends"), "fleetward device list --state active",
        ),
        Card(
            CERTIFICATES_EXPIRED, Severity.WARNING,
            count_of(len(ended), "certificate ran out", "certificates ran out"),
            len(ended), _certificate_items(ended[::-1], "ended"), "fleetward device why ID",
        ),
    )  # fmt: skip


def _certificate_items(found: Iterable[EndingCertificate], word: str) -> tuple[Item, ...]:
    items = [
        Item(f"{one.device_id} {word} at {say_time(one.not_after)}", one.device_id,
             device_href(one.device_id), one.not_after)
        for one in list(found)[:MAX_ITEMS]
    ]  # fmt: skip
    return tuple(items)


def _quarantined(tx: Tx, groups: Groups) -> Card:
    selection = Selection(state=DeviceState.QUARANTINED, groups=groups)
    count = service.count_devices(tx, selection).total
    found = service.list_devices(tx, selection, limit=MAX_ITEMS) if count else []
    items = (
        Item(f"{one.id}: {one.state_reason}", one.id, device_href(one.id), one.state_changed_at)
        for one in found
    )
    title = count_of(count, "device is quarantined: release or revoke it",
                     "devices are quarantined: release or revoke them")  # fmt: skip
    command = "fleetward device list --state quarantined"
    return Card(QUARANTINED, Severity.NOTICE, title, count, tuple(items), command)


def find_checks(_house: House, tx: Tx) -> list[Check]:
    """Return what is to be said of the models."""
    return [check_models(service.list_models(tx))]


def check_models(models: Sequence[Model]) -> Check:
    """Return whether every model demands attestation."""
    title = "Every model demands attestation"
    open_ones = [one.id for one in models if one.attestation is AttestationPolicy.NONE]
    if not open_ones:
        return Check(
            MODELS_ATTESTED, title, CheckState.OK, f"all {len(models)} do" if models else "no model yet"
        )
    fix = "For hardware with a TPM, add a model that demands attestation, and register devices under it."
    found = f"without attestation: {', '.join(open_ones[:5])}"
    return Check(MODELS_ATTESTED, title, CheckState.WARN, found, fix, "fleetward model list")
