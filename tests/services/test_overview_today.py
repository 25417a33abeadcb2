"""The front page shows what waits for a decision, and only that; an acknowledged alert leaves it."""

from datetime import timedelta
from pathlib import Path

import pytest

from fleetward.base.db import Database
from fleetward.base.errors import NotFoundError
from fleetward.base.events import Severity, emit, list_events
from fleetward.features.access.model.roles import Role
from fleetward.features.access.service import breakglass, reviews
from fleetward.features.attestation.model import ReasonCode
from fleetward.features.audit import service as audit
from fleetward.features.devices import service as devices
from fleetward.features.devices.model import DeviceState
from fleetward.features.overview.service import alerts, today, waiting
from fleetward.features.overview.service.cards import Card, CardKind, arrange
from fleetward.features.overview.service.people import list_people
from support.clock import ManualClock
from support.overview import CAMERA, HOUR, SENSOR, Fleet, make_fleet
from support.people import add_operator

ALL = None


@pytest.fixture
def fleet(tmp_path: Path, db: Database, clock: ManualClock) -> Fleet:
    return make_fleet(tmp_path, db, clock)


def cards(fleet: Fleet, groups: frozenset[str] | None = ALL) -> dict[CardKind, Card]:
    with fleet.db.read() as tx:
        found = [
            *today.list_device_cards(tx, groups),
            today.find_alerts(tx, groups),
            today.find_ending_authorities(tx, fleet.authority),
        ]
    return {card.kind: card for card in arrange(found)}


def named(card: Card) -> list[str | None]:
    return [item.device for item in card.items]


def test_a_quiet_fleet_has_an_empty_front_page(fleet: Fleet) -> None:
    fleet.enroll("s-1")
    fleet.enroll("c-1", CAMERA)
    fleet.attest("c-1")
    assert cards(fleet) == {}


def test_certificates_show_when_their_renewal_is_overdue_and_when_they_ran_out(fleet: Fleet) -> None:
    fleet.enroll("s-1")
    fleet.clock.advance(2 * HOUR)
    fleet.enroll("s-2")
    fleet.clock.advance(17 * HOUR)
    assert named(cards(fleet)[CardKind.CERTIFICATES_EXPIRING]) == ["s-1"], "past three quarters of its life"
    fleet.clock.advance(6 * HOUR)
    found = cards(fleet)
    assert named(found[CardKind.CERTIFICATES_EXPIRED]) == ["s-1"]
    assert named(found[CardKind.CERTIFICATES_EXPIRING]) == ["s-2"]
    fleet.enroll("s-1")
    fleet.enroll("s-2")
    assert cards(fleet) == {}, "renewed"


def test_an_ended_device_owes_no_certificate(fleet: Fleet) -> None:
    fleet.enroll("s-1")
    fleet.clock.advance(25 * HOUR)
    with fleet.db.write("operator:bob") as tx:
        devices.end(tx, "s-1", DeviceState.RETIRED, "done")
    assert CardKind.CERTIFICATES_EXPIRED not in cards(fleet)


def test_a_failing_appraisal_shows_until_a_good_one(fleet: Fleet) -> None:
    fleet.enroll("c-1", CAMERA)
    fleet.fail_attestation("c-1", ReasonCode.UNKNOWN_IMAGE, "Never signed off.")
    found = cards(fleet)[CardKind.APPRAISALS_FAILING]
    assert (named(found), found.count, found.severity) == (["c-1"], 1, Severity.CRITICAL)
    assert "Never signed off." in found.items[0].label
    fleet.attest("c-1")
    assert CardKind.APPRAISALS_FAILING not in cards(fleet)


def test_a_stuck_update_shows_until_the_release_runs(fleet: Fleet) -> None:
    fleet.enroll("s-1")
    fleet.enroll("s-2")
    fleet.publisher.publish("1.1.0", b"two", model=SENSOR)
    fleet.tell("s-1", "update.rolled_back", "the lens does not answer", severity="critical")
    fleet.tell("s-2", "update.failed", "disk full")
    fleet.report_firmware("s-2", version="1.1.0", state="idle")
    assert named(cards(fleet)[CardKind.UPDATES_STUCK]) == ["s-1"]
    fleet.clock.advance(HOUR)
    fleet.publisher.publish("1.2.0", b"three", model=SENSOR)
    assert CardKind.UPDATES_STUCK not in cards(fleet), "the trouble was with the release before"


def test_a_release_that_does_not_run_everywhere_shows_after_a_day(fleet: Fleet) -> None:
    fleet.enroll("s-1")
    fleet.enroll("s-2")
    fleet.publisher.publish("1.1.0", b"two", model=SENSOR)
    fleet.report_firmware("s-2", version="1.1.0", state="idle")
    assert CardKind.ROLLOUTS_BEHIND not in cards(fleet)
    fleet.clock.advance(25 * HOUR)
    card = cards(fleet)[CardKind.ROLLOUTS_BEHIND]
    assert "1 of 2 active devices do not run it" in card.items[0].label


def test_a_quarantined_device_waits_for_a_decision(fleet: Fleet) -> None:
    fleet.enroll("s-1")
    with fleet.db.write("operator:bob") as tx:
        devices.transition(tx, "s-1", DeviceState.QUARANTINED, "odd traffic")
    assert cards(fleet)[CardKind.DEVICES_QUARANTINED].items[0].label == "s-1: odd traffic"


def test_who_may_see_one_group_sees_its_cards_alone(fleet: Fleet) -> None:
    for device, group in (("e-1", "east"), ("w-1", "west")):
        fleet.enroll(device, CAMERA, group=group)
        fleet.fail_attestation(device, ReasonCode.UNKNOWN_IMAGE, "Never signed off.")
        fleet.tell(device, "boot.refused", "slot a")
        with fleet.db.write("operator:bob") as tx:
            devices.transition(tx, device, DeviceState.QUARANTINED, "failed")
    with fleet.db.write("system") as tx:
        emit(tx, "test.trouble", "The disk is full.", severity=Severity.CRITICAL)
    east = cards(fleet, frozenset({"east"}))
    for card in east.values():
        assert set(named(card)) == {"e-1"}, card.kind
    assert cards(fleet, frozenset()) == {}
    assert len(cards(fleet)[CardKind.ALERTS].items) > len(east[CardKind.ALERTS].items) * 2


def test_authorities_show_sixty_days_before_their_end(fleet: Fleet) -> None:
    ends_at = min(fleet.authority.ends.values())
    fleet.clock.set(ends_at - timedelta(days=61))
    assert CardKind.AUTHORITIES_EXPIRING not in cards(fleet)
    fleet.clock.set(ends_at - timedelta(days=59))
    assert cards(fleet)[CardKind.AUTHORITIES_EXPIRING].count >= 1


def test_the_gravest_card_comes_first(fleet: Fleet) -> None:
    fleet.enroll("c-1", CAMERA)
    fleet.fail_attestation("c-1", ReasonCode.UNKNOWN_IMAGE, "Never signed off.")
    with fleet.db.write("operator:bob") as tx:
        devices.transition(tx, "c-1", DeviceState.QUARANTINED, "failed")
    order = list(cards(fleet))
    assert order[0] is CardKind.APPRAISALS_FAILING
    assert order[-1] is CardKind.DEVICES_QUARANTINED


def test_an_acknowledged_alert_leaves_the_front_page_and_stays_audited(fleet: Fleet) -> None:
    fleet.enroll("s-1")
    fleet.tell("s-1", "boot.refused", "slot a")
    alert = cards(fleet)[CardKind.ALERTS].items[0]
    assert alert.event is not None
    with fleet.db.write("operator:bob") as tx:
        made = alerts.acknowledge(tx, alert.event, "replaced the board")
    assert CardKind.ALERTS not in cards(fleet)
    with fleet.db.write("operator:eve") as tx:
        assert alerts.acknowledge(tx, alert.event, "me too") == made, "the first one stays"
    with fleet.db.read() as tx:
        entries = [entry for entry, _ in audit.search(tx, action="event.acknowledged")]
        assert [(one.actor, one.details["note"]) for one in entries] == [
            ("operator:bob", "replaced the board")
        ]
        assert list_events(tx, device="s-1")[-1].id == alert.event, "the event itself does not change"


def test_alerts_are_of_the_last_day(fleet: Fleet) -> None:
    fleet.enroll("s-1")
    fleet.tell("s-1", "boot.refused", "slot a")
    fleet.enroll("s-1")
    fleet.clock.advance(timedelta(hours=24, seconds=1))
    assert CardKind.ALERTS not in cards(fleet)


def test_an_event_of_another_group_cannot_be_acknowledged(fleet: Fleet) -> None:
    fleet.enroll("w-1", group="west")
    with fleet.db.read() as tx:
        number = list_events(tx, device="w-1")[0].id
    for missing, groups in ((number, frozenset({"east"})), (10_000, None)):
        with pytest.raises(NotFoundError, match="event"), fleet.db.write("operator:bob") as tx:
            alerts.acknowledge(tx, missing, "", groups=groups)


def test_what_waits_for_people_is_shown_from_their_rooms(fleet: Fleet) -> None:
    with fleet.db.write("operator:ann") as tx:
        add_operator(tx, "ann", (Role.ADMINISTRATOR, "*"))
        reviews.start(tx, "Spring", timedelta(days=1))
        breakglass.request(tx, "ann", "the plant burns")
    fleet.publisher.publish("2.0.0", b"two", model=SENSOR)
    with fleet.db.read() as tx:
        assert waiting.find_emergencies(tx).items[0].label == "ann asks for it: the plant burns"
        assert (
            waiting.find_approvals(tx).items[0].label == f"{SENSOR} 2.0.0 by operator:test: 0 of 2 approvals"
        )
        assert waiting.find_overdue_reviews(tx).count == 0
        assert waiting.find_people_without_spare(tx).items[0].label.startswith("ann has one way")
        assert [one.is_administrator for one in list_people(tx)] == [True]
    fleet.clock.advance(timedelta(days=2))
    with fleet.db.read() as tx:
        assert waiting.find_overdue_reviews(tx).items[0].label.startswith("Spring: 0 of 1 decided")
        assert waiting.find_emergencies(tx).count == 0, "nobody answered the request in time"
