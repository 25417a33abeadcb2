"""Break-glass: two people, half an hour, and a review before anything else."""

from datetime import timedelta

import pytest

from fleetward.base.db import Database
from fleetward.base.errors import ConflictError, ForbiddenError, NotFoundError
from fleetward.base.events import Severity
from fleetward.features.access.model.breakglass import GlassState
from fleetward.features.access.model.identity import Identity
from fleetward.features.access.model.policy import OwnRightsError, ReviewDueError
from fleetward.features.access.model.roles import Role
from fleetward.features.access.service import breakglass
from fleetward.features.access.service.authorize import Decider, Resource, load_policies
from fleetward.features.devices import service as devices
from fleetward.features.devices.model import AttestationPolicy, DeviceState, Model
from fleetward.programs.server.doors import CATALOGUE
from support.clock import ManualClock
from support.people import add_operator, events_of

REASON = "cameras stream to a stranger"
DECIDER = Decider(load_policies(CATALOGUE), devices)


@pytest.fixture(autouse=True)
def _people(db: Database) -> None:
    with db.write("operator:test") as tx:
        devices.add_model(tx, Model("camera", AttestationPolicy.NONE))
        devices.register(tx, "door-1", "camera", group="doors")
        add_operator(tx, "ada", Role.ADMINISTRATOR)
        add_operator(tx, "olga", Role.SECURITY_OFFICER)
        add_operator(tx, "otto", (Role.OPERATOR, "cams"))


def may(db: Database, name: str, permission: str, device: str | None = "door-1") -> bool:
    with db.read() as tx:
        who = Identity(f"operator:{name}", name, "session", tx.now, None, "ses", restricted=False)
        try:
            DECIDER.decide(tx, who, permission, Resource(device))
        except (ForbiddenError, NotFoundError):
            return False
        return True


def break_it(db: Database) -> str:
    with db.write("operator:otto") as tx:
        glass = breakglass.request(tx, "otto", REASON)
    with db.write("operator:olga") as tx:
        breakglass.approve(tx, "olga", glass.id)
    return glass.id


def state(db: Database, glass_id: str) -> GlassState:
    with db.read() as tx:
        return breakglass.get(tx, glass_id).state_at(tx.now)


def test_rights_are_lent_for_thirty_minutes_from_the_approval(db: Database, clock: ManualClock) -> None:
    with db.write("operator:otto") as tx:
        glass = breakglass.request(tx, "otto", REASON)
    assert not may(db, "otto", "device.revoke")
    clock.advance(timedelta(minutes=10))
    with db.write("operator:olga") as tx:
        breakglass.approve(tx, "olga", glass.id)
    assert may(db, "otto", "device.revoke")
    assert not may(db, "otto", "grant.give", None)
    clock.advance(timedelta(minutes=29, seconds=59))
    assert may(db, "otto", "device.revoke")
    clock.advance(timedelta(seconds=1))
    assert not may(db, "otto", "device.revoke")
    assert state(db, glass.id) is GlassState.ENDED


def test_everybody_is_told_loudly(db: Database, clock: ManualClock) -> None:
    glass = break_it(db)
    clock.advance(timedelta(minutes=30))
    with db.write("system:test") as tx:
        assert (breakglass.end_expired(tx), breakglass.end_expired(tx)) == (1, 0)
    with db.write("operator:olga") as tx:
        breakglass.review(tx, "olga", glass, "all of it was needed")
    told = [(one.kind, one.severity) for one in events_of(db, "break_glass.")]
    assert told == [
        ("break_glass.requested", Severity.WARNING),
        ("break_glass.approved", Severity.CRITICAL),
        ("break_glass.ended", Severity.WARNING),
        ("break_glass.reviewed", Severity.NOTICE),
    ]
    assert REASON in events_of(db, "break_glass.approved")[0].message


def test_nobody_approves_or_reviews_their_own(db: Database) -> None:
    with db.write("operator:olga") as tx:
        glass = breakglass.request(tx, "olga", REASON)
        with pytest.raises(OwnRightsError):
            breakglass.approve(tx, "olga", glass.id)
        with pytest.raises(OwnRightsError):
            breakglass.approve(tx, None, glass.id)
        breakglass.approve(tx, "ada", glass.id)
        breakglass.end(tx, glass.id)
        with pytest.raises(OwnRightsError):
            breakglass.review(tx, "olga", glass.id, "all of it was needed")


def test_until_the_review_they_only_read(db: Database) -> None:
    glass = break_it(db)
    with db.write("operator:otto") as tx:
        breakglass.end(tx, glass)
        devices.register(tx, "cam-1", "camera", group="cams")
    assert may(db, "otto", "device.read", "cam-1")
    assert not may(db, "otto", "device.quarantine", "cam-1")
    who = Identity("operator:otto", "otto", "session", db.clock.now(), None, "ses", restricted=False)
    with db.read() as tx, pytest.raises(ReviewDueError):
        DECIDER.decide(tx, who, "break_glass.request", Resource())
    with db.write("operator:ada") as tx:
        breakglass.review(tx, "ada", glass, "all of it was needed")
    assert may(db, "otto", "device.quarantine", "cam-1")
    assert not may(db, "otto", "device.revoke")


def test_what_was_done_with_it_is_listed_for_the_review(db: Database, clock: ManualClock) -> None:
    with db.write("operator:otto") as tx:
        devices.register(tx, "cam-1", "camera", group="cams")
    glass = break_it(db)
    with db.write("operator:otto") as tx:
        devices.end(tx, "door-1", DeviceState.REVOKED, "stolen")
    with db.write("operator:ada") as tx:
        devices.register(tx, "cam-2", "camera", group="cams")
    clock.advance(timedelta(minutes=31))
    with db.write("operator:otto") as tx:
        devices.register(tx, "cam-3", "camera", group="cams")
    with db.read() as tx:
        acts = breakglass.list_acts(tx, glass)
    assert [(one.action, one.subject) for one in acts] == [("device.revoked", "device:door-1")]


def test_a_request_lapses_and_may_be_made_again(db: Database, clock: ManualClock) -> None:
    with db.write("operator:otto") as tx:
        first = breakglass.request(tx, "otto", REASON)
        with pytest.raises(ConflictError, match="under way"):
            breakglass.request(tx, "otto", REASON)
    clock.advance(timedelta(minutes=30))
    with db.write("operator:olga") as tx, pytest.raises(ConflictError, match="lapsed"):
        breakglass.approve(tx, "olga", first.id)
    with db.write("operator:otto") as tx:
        assert breakglass.request(tx, "otto", REASON).state_at(tx.now) is GlassState.REQUESTED


def test_each_step_happens_once_and_in_order(db: Database) -> None:
    with db.write("operator:otto") as tx:
        glass = breakglass.request(tx, "otto", REASON)
    with db.write("operator:olga") as tx:
        with pytest.raises(ConflictError):
            breakglass.review(tx, "olga", glass.id, "all of it was needed")
        breakglass.approve(tx, "olga", glass.id)
        with pytest.raises(ConflictError):
            breakglass.approve(tx, "olga", glass.id)
        breakglass.end(tx, glass.id)
        with pytest.raises(ConflictError):
            breakglass.end(tx, glass.id)
        breakglass.review(tx, "olga", glass.id, "all of it was needed")
        with pytest.raises(ConflictError):
            breakglass.review(tx, "olga", glass.id, "all of it was needed")
        with pytest.raises(NotFoundError):
            breakglass.get(tx, "bg_0")


def test_the_platforms_own_token_has_no_emergencies(db: Database) -> None:
    with db.write("operator:admin") as tx, pytest.raises(ForbiddenError):
        breakglass.request(tx, None, REASON)
