from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from fleetward.features.devices.model import DeviceState
from fleetward.features.messaging.model import (
    AdmissionRecord,
    Grant,
    Refusal,
    RefusalCode,
    SessionCertificate,
    decide,
    refusal_of,
)

NOW = datetime(2026, 6, 1, 12, 0, 0, 500_000, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
CERTIFICATE = SessionCertificate("cam-1", "aa", NOW - MINUTE, NOW.replace(microsecond=0) + 60 * MINUTE)
RECORD = AdmissionRecord(
    "cam-1",
    7,
    DeviceState.ACTIVE,
    requires_appraisal=True,
    is_appraisal_good=True,
    appraisal_expires_at=NOW + 10 * MINUTE,
    live_serials=frozenset({"aa"}),
)


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


def test_an_expired_certificate_is_refused_at_its_second() -> None:
    assert refused(now=CERTIFICATE.not_after) is RefusalCode.CERTIFICATE_EXPIRED


def test_a_certificate_before_its_time_is_refused() -> None:
    assert refused(now=CERTIFICATE.not_before - MINUTE) is RefusalCode.CERTIFICATE_NOT_YET_VALID


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


def test_a_stale_appraisal_is_refused() -> None:
    assert refused(now=NOW + 10 * MINUTE) is RefusalCode.APPRAISAL_EXPIRED


def test_a_session_that_would_end_within_its_first_second_is_refused() -> None:
    ending = replace(RECORD, appraisal_expires_at=NOW + timedelta(milliseconds=200))
    assert refused(ending) is RefusalCode.APPRAISAL_EXPIRED


def test_a_running_session_ends_for_the_reasons_a_new_one_is_refused() -> None:
    assert refusal_of(RECORD, "aa", NOW) is None
    for changed in (
        replace(RECORD, state=DeviceState.QUARANTINED),
        replace(RECORD, is_appraisal_good=False),
        replace(RECORD, revoked_serials=frozenset({"aa"})),
    ):
        running = refusal_of(changed, "aa", NOW)
        assert running is not None
        assert running.code is refused(changed)
