"""The front page shows what waits for a decision, and only that; an acknowledged alert leaves it."""

import re
from datetime import timedelta
from pathlib import Path

import pytest

from fleetward.base.board import Card, arrange_cards
from fleetward.base.db import Database
from fleetward.base.errors import NotFoundError
from fleetward.base.events import Severity, emit, list_events
from fleetward.base.feature import House
from fleetward.features.access.model.roles import Role
from fleetward.features.access.service import breakglass, reviews
from fleetward.features.access.service.people import list_people
from fleetward.features.attestation.model import ReasonCode
from fleetward.features.audit import service as audit
from fleetward.features.devices import service as devices
from fleetward.features.devices.model import DeviceState
from fleetward.features.messaging import service as messaging
from fleetward.features.overview.service import alerts
from fleetward.programs.server.doors import DOORS, cards_of
from support.clock import ManualClock
from support.overview import CAMERA, HOUR, SENSOR, Fleet, make_fleet
from support.people import add_operator

ALL = None
PLACES = [
    re.compile(re.sub(r"\\\$\w+", "[^/]+", re.escape(place.path))) for door in DOORS for place in door.places
]


@pytest.fixture
def fleet(tmp_path: Path, db: Database, clock: ManualClock) -> Fleet:
    return make_fleet(tmp_path, db, clock)


def cards(fleet: Fleet, groups: frozenset[str] | None = ALL) -> dict[str, Card]:
    """Return what who may do all in these groups sees, as each of the doors says."""
    house = House(fleet.db, fleet.clock).furnished(fleet.authority)
    made: list[Card] = []
    with fleet.db.read() as tx:
        for source in cards_of(DOORS):
            found = list(source.find(house, tx, groups))
            assert [card.kind for card in found] == list(source.kinds), "a door says what it shows"
            made += found
    for href in (item.href for card in made for item in card.items if item.href):
        assert any(place.fullmatch(href) for place in PLACES), f"no place of the console: {href}"
    return {card.kind: card for card in arrange_cards(made)}


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
    assert named(cards(fleet)["certificates_expiring"]) == ["s-1"], "past three quarters of its life"
    fleet.clock.advance(6 * HOUR)
    found = cards(fleet)
    assert named(found["certificates_expired"]) == ["s-1"]
    assert named(found["certificates_expiring"]) == ["s-2"]
    fleet.enroll("s-1")
    fleet.enroll("s-2")
    assert cards(fleet) == {}, "renewed"


def test_an_ended_device_owes_no_certificate(fleet: Fleet) -> None:
    fleet.enroll("s-1")
    fleet.clock.advance(25 * HOUR)
    with fleet.db.write("operator:bob") as tx:
        devices.end(tx, "s-1", DeviceState.RETIRED, "done")
    assert "certificates_expired" not in cards(fleet)


def test_a_failing_appraisal_shows_until_a_good_one(fleet: Fleet) -> None:
    fleet.enroll("c-1", CAMERA)
    fleet.fail_attestation("c-1", ReasonCode.UNKNOWN_IMAGE, "Never signed off.")
    found = cards(fleet)["appraisals_failing"]
    assert (named(found), found.count, found.severity) == (["c-1"], 1, Severity.CRITICAL)
    assert "Never signed off." in found.items[0].label
    fleet.attest("c-1")
    assert "appraisals_failing" not in cards(fleet)


def test_a_held_device_shows_until_the_last_hold_is_lifted(fleet: Fleet) -> None:
    fleet.enroll("s-1")
    with fleet.db.write("system:test") as tx:
        messaging.hold_flooding(tx, "s-1", "it floods")
        messaging.set_hold(tx, "s-1", "another", "of another room")
    found = cards(fleet)["devices_held"]
    assert (named(found), found.count, found.severity) == (["s-1", "s-1"], 1, Severity.WARNING)
    assert "it floods" in "".join(item.label for item in found.items)
    assert "devices_held" not in cards(fleet, frozenset({"elsewhere"}))
    with fleet.db.write("system:test") as tx:
        messaging.lift_hold(tx, "s-1", "flooding")
        messaging.lift_hold(tx, "s-1", "another")
    assert "devices_held" not in cards(fleet)


def test_a_stuck_update_shows_until_the_release_runs(fleet: Fleet) -> None:
    fleet.enroll("s-1")
    fleet.enroll("s-2")
    fleet.publisher.publish("1.1.0", b"two", model=SENSOR)
    fleet.tell("s-1", "update.rolled_back", "the lens does not answer", severity="critical")
    fleet.tell("s-2", "update.failed", "disk full")
    fleet.report_firmware("s-2", version="1.1.0", state="idle")
    assert named(cards(fleet)["updates_stuck"]) == ["s-1"]
    fleet.clock.advance(HOUR)
    fleet.publisher.publish("1.2.0", b"three", model=SENSOR)
    assert "updates_stuck" not in cards(fleet), "the trouble was with the release before"


def test_a_release_that_does_not_run_everywhere_shows_after_a_day(fleet: Fleet) -> None:
    fleet.enroll("s-1")
    fleet.enroll("s-2")
    fleet.publisher.publish("1.1.0", b"two", model=SENSOR)
    fleet.report_firmware("s-2", version="1.1.0", state="idle")
    assert "rollouts_behind" not in cards(fleet)
    fleet.clock.advance(25 * HOUR)
    card = cards(fleet)["rollouts_behind"]
    assert "1 of 2 active devices do not run it" in card.items[0].label


def test_a_quarantined_device_waits_for_a_decision(fleet: Fleet) -> None:
    fleet.enroll("s-1")
    with fleet.db.write("operator:bob") as tx:
        devices.transition(tx, "s-1", DeviceState.QUARANTINED, "odd traffic")
    assert cards(fleet)["devices_quarantined"].items[0].label == "s-1: odd traffic"


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
    assert len(cards(fleet)["alerts"].items) > len(east["alerts"].items) * 2


def test_authorities_show_sixty_days_before_their_end(fleet: Fleet) -> None:
    ends_at = min(fleet.authority.ends.values())
    fleet.clock.set(ends_at - timedelta(days=61))
    assert "authorities_expiring" not in cards(fleet)
    fleet.clock.set(ends_at - timedelta(days=59))
    assert cards(fleet)["authorities_expiring"].count >= 1


def test_the_gravest_card_comes_first(fleet: Fleet) -> None:
    fleet.enroll("c-1", CAMERA)
    fleet.fail_attestation("c-1", ReasonCode.UNKNOWN_IMAGE, "Never signed off.")
    with fleet.db.write("operator:bob") as tx:
        devices.transition(tx, "c-1", DeviceState.QUARANTINED, "failed")
    order = list(cards(fleet))
    assert order[0] == "appraisals_failing"
    assert order[-1] == "devices_quarantined"


def test_an_acknowledged_alert_leaves_the_front_page_and_stays_audited(fleet: Fleet) -> None:
    fleet.enroll("s-1")
    fleet.tell("s-1", "boot.refused", "slot a")
    alert = cards(fleet)["alerts"].items[0]
    assert alert.event is not None
    with fleet.db.write("operator:bob") as tx:
        made = alerts.acknowledge(tx, alert.event, "replaced the board")
    assert "alerts" not in cards(fleet)
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
    assert "alerts" not in cards(fleet)


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
    found = cards(fleet)
    assert found["emergencies"].items[0].label == "ann asks for it: the plant burns"
    assert found["approvals_pending"].items[0].label == f"{SENSOR} 2.0.0 by operator:test: 0 of 2 approvals"
    assert "reviews_overdue" not in found
    assert found["people_without_spare"].items[0].label.startswith("ann has one way")
    with fleet.db.read() as tx:
        assert [one.is_administrator for one in list_people(tx)] == [True]
    fleet.clock.advance(timedelta(days=2))
    found = cards(fleet)
    assert found["reviews_overdue"].items[0].label.startswith("Spring: 0 of 1 decided")
    assert "emergencies" not in found, "nobody answered the request in time"
