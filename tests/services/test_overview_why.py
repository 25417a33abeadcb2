"""Why a device is denied, offline or not updating: each real situation, answered from its own facts."""

from datetime import timedelta
from pathlib import Path

import pytest

from fleetward.base.db import Database
from fleetward.base.errors import NotFoundError
from fleetward.base.events import Severity
from fleetward.features.attestation.model import ReasonCode
from fleetward.features.devices import service as devices
from fleetward.features.devices.model import DeviceState
from fleetward.features.messaging import service as messaging
from fleetward.features.overview.model.situation import Answer, Question
from fleetward.features.pki import service as pki
from fleetward.features.updates import service as updates
from support.clock import ManualClock
from support.overview import CAMERA, HOUR, SENSOR, Fleet, make_fleet

DAY = timedelta(days=1)


@pytest.fixture
def fleet(tmp_path: Path, db: Database, clock: ManualClock) -> Fleet:
    return make_fleet(tmp_path, db, clock)


def bad(answer: Answer) -> set[str]:
    return {fact.what for fact in answer.facts if not fact.good}


def test_a_connected_device_is_said_to_be(fleet: Fleet) -> None:
    fleet.enroll("s-1")
    answers = fleet.why("s-1", fleet.connected("s-1"))
    assert answers[Question.CONNECTED].good
    assert bad(answers[Question.CONNECTED]) == set()
    assert answers[Question.NO_VIDEO].good
    assert Question.DENIED not in answers
    assert Question.OFFLINE not in answers


def test_one_that_never_enrolled_needs_a_claim(fleet: Fleet) -> None:
    fleet.add("s-1")
    denied = fleet.why("s-1")[Question.DENIED]
    assert (denied.code, denied.command) == ("never_enrolled", "fleetward device claim s-1")
    assert bad(denied) == {"life", "certificate", "session"}


@pytest.mark.parametrize("state", [DeviceState.REVOKED, DeviceState.RETIRED])
def test_an_ended_device_is_told_its_end_and_nothing_else(fleet: Fleet, state: DeviceState) -> None:
    fleet.enroll("s-1")
    with fleet.db.write("operator:bob") as tx:
        devices.end(tx, "s-1", state, "stolen from the yard")
    answers = fleet.why("s-1", fleet.gone("s-1"))
    assert set(answers) == {Question.DENIED}
    assert f"{state}" in answers[Question.DENIED].answer
    assert "stolen from the yard" in answers[Question.DENIED].answer
    assert bad(answers[Question.DENIED]) == {"life", "certificate", "session"}


def test_a_quarantined_one_names_the_reason_and_the_release(fleet: Fleet) -> None:
    fleet.enroll("s-1")
    with fleet.db.write("operator:bob") as tx:
        devices.transition(tx, "s-1", DeviceState.QUARANTINED, "odd traffic")
    answers = fleet.why("s-1", fleet.gone("s-1"))
    denied = answers[Question.DENIED]
    assert (denied.code, denied.command) == ("quarantined", "fleetward device release s-1")
    assert "odd traffic" in denied.answer
    assert answers[Question.NO_VIDEO].code == "quarantined"
    assert not answers[Question.NO_VIDEO].good


def test_an_expired_certificate_is_told_apart_from_a_revoked_one(fleet: Fleet) -> None:
    fleet.enroll("s-1")
    fleet.enroll("s-2")
    with fleet.db.write("operator:bob") as tx:
        pki.revoke_device(tx, "s-2", "key leaked")
    assert fleet.why("s-2")[Question.DENIED].code == "certificate_revoked"
    fleet.clock.advance(25 * HOUR)
    denied = fleet.why("s-1")[Question.DENIED]
    assert denied.code == "certificate_expired"
    assert "2026-06-02 12:00:00 UTC" in denied.answer
    assert denied.command == "fleetward device claim s-1"
    assert bad(denied) == {"certificate", "session"}


def test_one_not_yet_attested_waits_for_its_agent(fleet: Fleet) -> None:
    fleet.enroll("c-1", CAMERA)
    denied = fleet.why("c-1")[Question.DENIED]
    assert denied.code == "appraisal_missing"
    assert bad(denied) == {"life", "attestation", "session"}


def test_a_failed_appraisal_gives_its_reasons_and_what_to_do(fleet: Fleet) -> None:
    fleet.enroll("c-1", CAMERA)
    fleet.attest("c-1")
    fleet.fail_attestation(
        "c-1", ReasonCode.UNKNOWN_IMAGE, "The firmware image measured is no reference value."
    )
    denied = fleet.why("c-1", fleet.gone("c-1"))[Question.DENIED]
    assert denied.code == "appraisal_failed"
    assert "no reference value" in denied.answer
    assert "quarantine" in denied.fix
    fleet.fail_attestation("c-1", ReasonCode.WITHDRAWN_IMAGE, "It was withdrawn.")
    assert "Publish a newer release" in fleet.why("c-1")[Question.DENIED].fix


def test_a_stale_appraisal_says_when_it_ran_out(fleet: Fleet) -> None:
    fleet.enroll("c-1", CAMERA)
    fleet.attest("c-1", HOUR)
    assert fleet.why("c-1", fleet.connected("c-1"))[Question.CONNECTED].good
    fleet.clock.advance(2 * HOUR)
    denied = fleet.why("c-1", fleet.gone("c-1"))[Question.DENIED]
    assert denied.code == "appraisal_expired"
    assert "13:00:00 UTC" in denied.answer


def test_a_held_device_names_who_holds_it_and_what_for(fleet: Fleet) -> None:
    fleet.enroll("s-1")
    with fleet.db.write("system:watch") as tx:
        messaging.set_hold(tx, "s-1", "watch", "odd traffic")
    answer = fleet.why("s-1", fleet.connected("s-1"))[Question.DENIED]
    assert answer.code == "held"
    assert "held by watch" in answer.answer
    assert "odd traffic" in answer.answer
    assert bad(answer) == {"hold"}
    assert answer.command == "fleetward events --device s-1"
    with fleet.db.write("system:watch") as tx:
        messaging.lift_hold(tx, "s-1", "watch")
    assert Question.CONNECTED in fleet.why("s-1", fleet.connected("s-1"))


def test_an_offline_device_is_told_apart_from_a_denied_one(fleet: Fleet) -> None:
    fleet.enroll("s-1")
    never = fleet.why("s-1")[Question.OFFLINE]
    assert "never has" in never.answer
    offline = fleet.why("s-1", fleet.gone("s-1", "keep alive timeout"))[Question.OFFLINE]
    assert "keep alive timeout" in offline.answer
    assert bad(offline) == {"session"}


def test_one_turned_away_since_it_was_last_seen_says_why(fleet: Fleet) -> None:
    fleet.enroll("s-1")
    seen = fleet.gone("s-1")
    fleet.clock.advance(HOUR)
    with fleet.db.write("system:messaging") as tx:
        messaging.record_refusal(
            tx, "session.refused", "Device s-1 asked for a session under the client id 'x', not its own.",
            device="s-1", severity=Severity.CRITICAL, repeats=0, reason="client_id_mismatch",
        )  # fmt: skip
    denied = fleet.why("s-1", seen)[Question.DENIED]
    assert denied.code == "client_id_mismatch"
    assert "client id" in denied.fix
    assert bad(denied) == {"session", "last refusal"}
    fleet.clock.advance(HOUR)
    assert Question.OFFLINE in fleet.why("s-1", fleet.gone("s-1")), "it was let in since"


def test_without_a_release_there_is_nothing_to_update_to(fleet: Fleet) -> None:
    fleet.enroll("s-1")
    answer = fleet.why("s-1")[Question.NOT_UPDATING]
    assert (answer.good, answer.code) == (True, "no_release")


def test_a_device_on_its_release_is_up_to_date(fleet: Fleet) -> None:
    fleet.enroll("s-1")
    fleet.publisher.publish("1.0.0", b"one", model=SENSOR)
    fleet.report_firmware("s-1", version="1.0.0", state="idle")
    assert fleet.why("s-1")[Question.NOT_UPDATING].code == "up_to_date"


def behind(fleet: Fleet) -> None:
    """Let s-1 run 1.0.0 while 1.1.0 is out."""
    fleet.enroll("s-1")
    fleet.publisher.publish("1.0.0", b"one", model=SENSOR)
    fleet.report_firmware("s-1", version="1.0.0", state="idle")
    fleet.publisher.publish("1.1.0", b"two", model=SENSOR)


def test_an_update_on_its_way_is_no_trouble(fleet: Fleet) -> None:
    behind(fleet)
    fleet.report_firmware("s-1", version="1.0.0", state="downloading", progress=45)
    answer = fleet.why("s-1", fleet.connected("s-1"))[Question.NOT_UPDATING]
    assert answer.good
    assert "downloading 45 %" in answer.answer


@pytest.mark.parametrize(
    ("kind", "said", "fix"),
    [
        ("update.refused", "An offered firmware was refused: not signed by pinned keys", "pinned keys"),
        ("update.rolled_back", "Firmware 1.1.0 was rolled back: the lens does not answer", "new version"),
        ("update.failed", "An update did not go on: disk full", "tries again"),
    ],
)
def test_a_trouble_the_device_told_is_the_answer(fleet: Fleet, kind: str, said: str, fix: str) -> None:
    behind(fleet)
    fleet.tell("s-1", kind, said)
    answer = fleet.why("s-1", fleet.connected("s-1"))[Question.NOT_UPDATING]
    assert answer.code == kind.replace(".", "_")
    assert said in answer.answer
    assert fix in answer.fix
    fleet.clock.advance(DAY)
    fleet.enroll("s-1")
    fleet.publisher.publish("1.2.0", b"three", model=SENSOR)
    assert fleet.why("s-1", fleet.connected("s-1"))[Question.NOT_UPDATING].code == "not_looked_yet"


def test_a_blocked_update_says_what_blocks_it(fleet: Fleet) -> None:
    behind(fleet)
    fleet.report_firmware("s-1", version="1.0.0", state="blocked", error="slot: read-only file system")
    answer = fleet.why("s-1", fleet.connected("s-1"))[Question.NOT_UPDATING]
    assert answer.code == "blocked"
    assert "read-only file system" in answer.answer


def test_an_offline_device_cannot_tell_of_its_update(fleet: Fleet) -> None:
    behind(fleet)
    assert fleet.why("s-1", fleet.gone("s-1"))[Question.NOT_UPDATING].code == "offline"


def test_updates_need_a_certificate(fleet: Fleet) -> None:
    behind(fleet)
    fleet.clock.advance(2 * DAY)
    assert fleet.why("s-1", fleet.gone("s-1"))[Question.NOT_UPDATING].code == "no_certificate"


def test_an_agent_that_reports_no_firmware_does_not_update(fleet: Fleet) -> None:
    fleet.enroll("s-1")
    fleet.publisher.publish("1.0.0", b"one", model=SENSOR)
    assert fleet.why("s-1", fleet.connected("s-1"))[Question.NOT_UPDATING].code == "not_managed"


def test_a_withdrawn_release_that_runs_asks_for_a_new_version(fleet: Fleet) -> None:
    behind(fleet)
    fleet.report_firmware("s-1", version="1.1.0", state="idle")
    updates.withdraw(fleet.db, fleet.publisher.context, "operator:bob", SENSOR, "1.1.0", "it burns")
    answer = fleet.why("s-1", fleet.connected("s-1"))[Question.NOT_UPDATING]
    assert (answer.code, answer.good) == ("ahead", False)
    assert "withdrawn" in bad(answer)


def test_an_unknown_device_is_not_there(fleet: Fleet) -> None:
    with pytest.raises(NotFoundError):
        fleet.why("ghost")
