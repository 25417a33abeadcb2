from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from fleetward.features.devices.model import DeviceState
from fleetward.features.messaging.model.gates import (
    GATES,
    MAY_CHANGE_SOON,
    AdmissionRecord,
    Gate,
    Grant,
    Hold,
    Refusal,
    RefusalCode,
    SessionCertificate,
    ask_all,
    decide,
    find_refusal,
)

NOW = datetime(2026, 6, 1, 12, 0, 0, 500_000, tzinfo=UTC)
MINUTE, TICK = timedelta(minutes=1), timedelta(microseconds=1)
NOT_BEFORE, NOT_AFTER = NOW - MINUTE, NOW.replace(microsecond=0) + 60 * MINUTE
CERTIFICATE = SessionCertificate("cam-1", "aa", NOT_BEFORE, NOT_AFTER)
RECORD = AdmissionRecord(
    "cam-1",
    7,
    DeviceState.ACTIVE,
    requires_appraisal=True,
    is_appraisal_good=True,
    appraisal_expires_at=NOW + 10 * MINUTE,
    live_serials=frozenset({"aa"}),
)


def closed(record: AdmissionRecord, certificate: SessionCertificate, now: datetime) -> list[str]:
    return [one.gate.name for one in ask_all(record, certificate, now) if one.refusal is not None]


def refused(
    record: AdmissionRecord | None = RECORD,
    certificate: SessionCertificate = CERTIFICATE,
    client_id: str = "cam-1",
    now: datetime = NOW,
) -> RefusalCode:
    decision = decide(record, certificate, client_id, now)
    assert isinstance(decision, Refusal)
    return decision.code


def granted(record: AdmissionRecord = RECORD, now: datetime = NOW) -> Grant:
    decision = decide(record, CERTIFICATE, "cam-1", now)
    assert isinstance(decision, Grant)
    return decision


def test_a_session_ends_when_the_appraisal_does_if_that_is_first() -> None:
    assert granted().expires_at == (NOW + 10 * MINUTE).replace(microsecond=0)


def test_a_session_ends_when_the_certificate_does_if_that_is_first() -> None:
    late = replace(RECORD, appraisal_expires_at=NOW + 600 * MINUTE)
    assert granted(late).expires_at == CERTIFICATE.not_after


def test_without_attestation_the_certificate_alone_sets_the_end() -> None:
    plain = AdmissionRecord(
        "cam-1", 1, DeviceState.ACTIVE, requires_appraisal=False, live_serials=frozenset({"aa"})
    )
    assert granted(plain).expires_at == CERTIFICATE.not_after


def test_a_session_grants_the_devices_own_topics_and_no_other() -> None:
    grant = granted()
    assert grant.publish == (
        "d.cam-1.t.*",
        "d.cam-1.log",
        "d.cam-1.metrics",
        "d.cam-1.shadow.reported",
        "d.cam-1.cmd.*.result",
    )
    assert grant.subscribe == ("d.cam-1.shadow.desired", "d.cam-1.cmd.*")


@pytest.mark.parametrize("client_id", ["cam-2", "", "cam-1x", "CAM-1"])
def test_a_device_may_not_use_another_client_id(client_id: str) -> None:
    assert refused(client_id=client_id) is RefusalCode.CLIENT_ID_MISMATCH


def test_an_unknown_device_is_refused() -> None:
    assert refused(None) is RefusalCode.DEVICE_UNKNOWN


@pytest.mark.parametrize(
    ("now", "code"),
    [
        (NOT_BEFORE - TICK, RefusalCode.CERTIFICATE_NOT_YET_VALID),
        (NOT_BEFORE, None),
        (NOT_BEFORE + TICK, None),
        (NOT_AFTER - TICK, None),
        (NOT_AFTER, RefusalCode.CERTIFICATE_EXPIRED),
        (NOT_AFTER + TICK, RefusalCode.CERTIFICATE_EXPIRED),
    ],
)
def test_a_certificate_is_good_from_its_first_moment_to_the_one_before_its_last(
    now: datetime, code: RefusalCode | None
) -> None:
    late = replace(RECORD, appraisal_expires_at=NOT_AFTER + MINUTE)
    found = find_refusal(late, CERTIFICATE, now)
    assert (found and found.code) == code
    assert closed(late, CERTIFICATE, now) == ([] if code is None else ["certificate"])


def test_a_revoked_certificate_is_refused() -> None:
    revoked = replace(RECORD, live_serials=frozenset(), revoked_serials=frozenset({"aa"}))
    assert refused(revoked) is RefusalCode.CERTIFICATE_REVOKED


def test_a_certificate_we_do_not_know_is_refused_whoever_signed_it() -> None:
    assert refused(replace(RECORD, live_serials=frozenset({"bb"}))) is RefusalCode.CERTIFICATE_UNKNOWN


@pytest.mark.parametrize("state", [state for state in DeviceState if state is not DeviceState.ACTIVE])
def test_only_active_devices_hold_sessions(state: DeviceState) -> None:
    assert refused(replace(RECORD, state=state)) is RefusalCode.DEVICE_NOT_ACTIVE


def test_a_model_that_demands_attestation_gets_no_session_without() -> None:
    assert refused(replace(RECORD, appraisal_expires_at=None)) is RefusalCode.APPRAISAL_MISSING


def test_a_bad_appraisal_is_refused() -> None:
    assert refused(replace(RECORD, is_appraisal_good=False)) is RefusalCode.APPRAISAL_FAILED


@pytest.mark.parametrize(
    ("ahead", "code"),
    [(TICK, None), (0 * TICK, RefusalCode.APPRAISAL_EXPIRED), (-TICK, RefusalCode.APPRAISAL_EXPIRED)],
)
def test_an_appraisal_is_stale_in_the_moment_it_ends(ahead: timedelta, code: RefusalCode | None) -> None:
    found = find_refusal(replace(RECORD, appraisal_expires_at=NOW + ahead), CERTIFICATE, NOW)
    assert (found and found.code) == code


@pytest.mark.parametrize(
    ("is_good", "end", "code"),
    [
        (False, None, RefusalCode.APPRAISAL_MISSING),
        (False, NOW, RefusalCode.APPRAISAL_FAILED),
        (True, NOW, RefusalCode.APPRAISAL_EXPIRED),
    ],
)
def test_of_an_appraisal_the_first_that_is_wrong_is_said(
    is_good: bool, end: datetime | None, code: RefusalCode
) -> None:
    assert refused(replace(RECORD, is_appraisal_good=is_good, appraisal_expires_at=end)) is code


def test_of_several_closed_gates_the_first_is_said() -> None:
    """In the order in which a device could mend them: what its certificate is, who it is, what holds it."""
    record = replace(
        RECORD,
        state=DeviceState.QUARANTINED,
        is_appraisal_good=False,
        live_serials=frozenset(),
        holds=(Hold("watch", "odd", NOW),),
    )
    said = []
    for mended, now in (
        ({}, NOT_AFTER),
        ({}, NOW),
        ({"live_serials": frozenset({"aa"})}, NOW),
        ({"state": DeviceState.ACTIVE}, NOW),
        ({"is_appraisal_good": True}, NOW),
        ({"holds": ()}, NOW),
    ):
        record = replace(record, **mended)
        found = find_refusal(record, CERTIFICATE, now)
        said.append(found and found.code)
    assert said == [
        RefusalCode.CERTIFICATE_EXPIRED,
        RefusalCode.CERTIFICATE_UNKNOWN,
        RefusalCode.DEVICE_NOT_ACTIVE,
        RefusalCode.APPRAISAL_FAILED,
        RefusalCode.HELD,
        None,
    ]


def test_what_no_event_on_its_way_can_mend_is_refused_at_once() -> None:
    """A refusal of any other kind is looked at again when the record changes, a hold that is lifted too."""
    assert set(RefusalCode) - MAY_CHANGE_SOON == {
        RefusalCode.NOT_A_DEVICE,
        RefusalCode.CERTIFICATE_UNTRUSTED,
        RefusalCode.CERTIFICATE_NOT_YET_VALID,
        RefusalCode.CERTIFICATE_EXPIRED,
        RefusalCode.CERTIFICATE_REVOKED,
        RefusalCode.CLIENT_ID_MISMATCH,
    }


def test_a_closed_gate_does_not_say_when_it_will_close() -> None:
    late = ask_all(RECORD, CERTIFICATE, NOT_AFTER)
    assert [one.gate.name for one in late if one.closes_at is not None] == []
    open_now = ask_all(RECORD, CERTIFICATE, NOW)
    assert [one.closes_at for one in open_now if one.closes_at] == [NOT_AFTER, RECORD.appraisal_expires_at]


def test_of_a_strangers_client_id_no_more_than_64_characters_are_repeated() -> None:
    found = decide(RECORD, CERTIFICATE, "x" * 64 + "y", NOW)
    assert isinstance(found, Refusal)
    assert repr("x" * 64) in found.finding


def test_where_no_appraisal_is_asked_for_a_bad_one_counts_for_nothing() -> None:
    plain = replace(RECORD, requires_appraisal=False, is_appraisal_good=False, appraisal_expires_at=NOW)
    assert find_refusal(plain, CERTIFICATE, NOW) is None
    assert granted(plain).expires_at == NOT_AFTER


def test_a_hold_refuses_and_names_itself() -> None:
    first = Hold("segmentation", "it spoke to a stranger", NOW)
    held = replace(RECORD, holds=(first, Hold("watch", "odd traffic", NOW)))
    assert refused(held) is RefusalCode.HELD
    found = find_refusal(held, None, NOW)
    assert found is not None
    assert found.finding == (
        "Device cam-1 is held by segmentation since 2026-06-01T12:00:00.500Z: it spoke to a stranger. "
        "And 1 more hold it."
    )
    alone = find_refusal(replace(RECORD, holds=(first,)), None, NOW)
    assert alone is not None
    assert "more" not in alone.finding


def test_without_a_certificate_shown_any_live_one_will_do() -> None:
    assert find_refusal(RECORD, None, NOW) is None
    bare = replace(RECORD, live_serials=frozenset())
    for record, code in (
        (bare, RefusalCode.CERTIFICATE_EXPIRED),
        (replace(bare, revoked_serials=frozenset({"aa"})), RefusalCode.CERTIFICATE_REVOKED),
        (replace(RECORD, revoked_serials=frozenset({"bb"})), None),
        (None, RefusalCode.DEVICE_UNKNOWN),
    ):
        found = find_refusal(record, None, NOW)
        assert (found and found.code) == code


def test_a_certificate_known_by_its_serial_alone_has_no_end_here() -> None:
    assert find_refusal(RECORD, SessionCertificate("cam-1", "aa"), NOW) is None
    assert closed(RECORD, SessionCertificate("cam-1", "bb"), NOW) == ["issued"]


def test_a_gate_is_closed_from_the_moment_it_says_and_not_before() -> None:
    for gate in GATES:
        end = gate.closes_at(RECORD, CERTIFICATE)
        if end is not None:
            assert gate.check(RECORD, CERTIFICATE, end - TICK) is None
            assert gate.check(RECORD, CERTIFICATE, end) is not None
    closing = {gate.name for gate in GATES if gate.closes_at(RECORD, CERTIFICATE) is not None}
    assert closing == {"certificate", "appraisal"}


@pytest.mark.parametrize("gate", GATES, ids=[gate.name for gate in GATES])
def test_every_gate_alone_closes_the_way_and_says_what_to_do(gate: Gate) -> None:
    worst = replace(
        RECORD,
        state=DeviceState.QUARANTINED,
        is_appraisal_good=False,
        live_serials=frozenset(),
        holds=(Hold("watch", "odd", NOW),),
    )
    refusal = gate.check(worst, CERTIFICATE, NOT_AFTER)
    assert refusal is not None
    assert gate.check(RECORD, CERTIFICATE, NOW) is None
    assert refusal.device == "cam-1"
    assert refusal.fix
    assert refusal.command.startswith("fleetward ")
    assert [one.gate.name for one in ask_all(worst, CERTIFICATE, NOT_AFTER) if one.refusal] == [
        one.name for one in GATES
    ]
    assert [one.refusal for one in ask_all(RECORD, CERTIFICATE, NOW)] == [None] * len(GATES)


def test_a_session_that_would_end_within_its_first_second_is_refused() -> None:
    ending = replace(RECORD, appraisal_expires_at=NOW + timedelta(milliseconds=200))
    assert refused(ending) is RefusalCode.APPRAISAL_EXPIRED


def test_a_session_may_last_one_full_second_and_no_less() -> None:
    whole = NOW.replace(microsecond=0)
    ending = replace(RECORD, appraisal_expires_at=whole + timedelta(seconds=1))
    assert granted(ending, whole + timedelta(seconds=1) - TICK).expires_at == whole + timedelta(seconds=1)
    late = whole + timedelta(seconds=1)
    almost = replace(RECORD, appraisal_expires_at=late + timedelta(milliseconds=999))
    assert refused(almost, now=late) is RefusalCode.APPRAISAL_EXPIRED


def test_a_running_session_ends_for_the_reasons_a_new_one_is_refused() -> None:
    assert find_refusal(RECORD, SessionCertificate("cam-1", "aa"), NOW) is None
    for changed in (
        replace(RECORD, state=DeviceState.QUARANTINED),
        replace(RECORD, is_appraisal_good=False),
        replace(RECORD, revoked_serials=frozenset({"aa"})),
        replace(RECORD, holds=(Hold("watch", "odd", NOW),)),
    ):
        running = find_refusal(changed, SessionCertificate("cam-1", "aa"), NOW)
        assert running is not None
        assert running.code is refused(changed)
