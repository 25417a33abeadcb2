"""Access reviews: what is proposed, who decides, what closing does."""

from datetime import timedelta

import pytest

from fleetward.base.db import Database
from fleetward.base.errors import ConflictError, InvalidInputError, NotFoundError
from fleetward.features.access.model.identity import Grant
from fleetward.features.access.model.policy import OwnRightsError
from fleetward.features.access.model.reviews import ReviewState, Verdict
from fleetward.features.access.model.roles import Role
from fleetward.features.access.service import grants, operators, reviews
from fleetward.features.access.service.authorize import record_use
from fleetward.features.access.service.grants import LastAdministratorError
from support.clock import ManualClock
from support.people import add_operator, events_of

DUE = timedelta(days=14)


@pytest.fixture
def held(db: Database) -> dict[str, Grant]:
    """Ada administers, Olga secures, Vic watches cams."""
    with db.write("operator:test") as tx:
        found = add_operator(tx, "ada", Role.ADMINISTRATOR)
        found += add_operator(tx, "olga", Role.SECURITY_OFFICER)
        found += add_operator(tx, "vic", (Role.VIEWER, "cams"))
    return {one.operator: one for one in found}


def start(db: Database) -> str:
    with db.write("operator:olga") as tx:
        return reviews.start(tx, "Spring", DUE).id


def decide(db: Database, who: str, review: str, grant: Grant, decision: Verdict) -> None:
    with db.write(f"operator:{who}") as tx:
        reviews.decide(tx, review, grant.id, decision, "seen")


def test_unused_rights_are_proposed_for_removal(
    db: Database, clock: ManualClock, held: dict[str, Grant]
) -> None:
    with db.write("operator:ada") as tx:
        record_use(tx, [held["ada"], held["olga"]])
    clock.advance(timedelta(days=31))
    with db.write("operator:olga") as tx:
        record_use(tx, [held["olga"]])
        review = reviews.start(tx, "Spring", DUE)
        _, items = reviews.get(tx, review.id)
    assert {one.operator: (one.proposal, one.why) for one in items} == {
        "ada": (Verdict.REMOVE, "last used 31 days ago"),
        "olga": (Verdict.KEEP, "last used today"),
        "vic": (Verdict.REMOVE, "never used since it was given 31 days ago"),
    }


def test_rights_of_who_cannot_sign_in_are_proposed_for_removal(db: Database, held: dict[str, Grant]) -> None:
    with db.write("operator:ada") as tx:
        record_use(tx, [held["vic"]])
        operators.disable(tx, "vic", "left")
        _, items = reviews.get(tx, reviews.start(tx, "Spring", DUE).id)
    vic = next(one for one in items if one.operator == "vic")
    assert (vic.proposal, vic.why) == (Verdict.REMOVE, "its holder cannot sign in")


def test_closing_removes_what_was_decided_to_go_and_keeps_the_rest(
    db: Database, held: dict[str, Grant]
) -> None:
    review = start(db)
    decide(db, "olga", review, held["ada"], Verdict.KEEP)
    decide(db, "ada", review, held["olga"], Verdict.KEEP)
    decide(db, "olga", review, held["vic"], Verdict.KEEP)
    decide(db, "olga", review, held["vic"], Verdict.REMOVE)
    with db.write("operator:olga") as tx:
        closed = reviews.close(tx, review)
        _, items = reviews.get(tx, review)
        left = {one.operator for one in grants.list_grants(tx)}
        entries = [one["action"] for one in reviews.list_audit_entries(tx, review)]
    assert closed.state is ReviewState.CLOSED
    assert left == {"ada", "olga"}
    assert {one.operator: one.outcome for one in items} == {"ada": "kept", "olga": "kept", "vic": "removed"}
    assert entries == ["review.started", *["review.decided"] * 4, "review.closed"]
    assert [one.kind for one in events_of(db, "review.")] == ["review.started", "review.closed"]
    assert len(events_of(db, "grant.removed")) == 1


def test_a_review_closes_once_every_grant_is_decided_over(db: Database, held: dict[str, Grant]) -> None:
    review = start(db)
    decide(db, "olga", review, held["ada"], Verdict.KEEP)
    with db.write("operator:olga") as tx, pytest.raises(ConflictError, match="2 open"):
        reviews.close(tx, review)
    decide(db, "ada", review, held["olga"], Verdict.KEEP)
    decide(db, "ada", review, held["vic"], Verdict.KEEP)
    with db.write("operator:olga") as tx:
        reviews.close(tx, review)
    with db.write("operator:olga") as tx, pytest.raises(ConflictError, match="found it closed"):
        reviews.close(tx, review)
    with pytest.raises(ConflictError, match="found it closed"):
        decide(db, "ada", review, held["vic"], Verdict.REMOVE)


def test_nobody_keeps_their_own_right_while_another_could_decide(
    db: Database, held: dict[str, Grant]
) -> None:
    review = start(db)
    with pytest.raises(OwnRightsError):
        decide(db, "olga", review, held["olga"], Verdict.KEEP)
    decide(db, "olga", review, held["olga"], Verdict.REMOVE)
    with db.write("operator:ada") as tx:
        operators.disable(tx, "olga", "left")
    decide(db, "ada", review, held["ada"], Verdict.KEEP)
    with db.read() as tx:
        _, items = reviews.get(tx, review)
    assert {one.operator: one.decided_by for one in items} == {"ada": "ada", "olga": "olga", "vic": None}


def test_a_review_cannot_remove_the_last_administrator(db: Database, held: dict[str, Grant]) -> None:
    review = start(db)
    decide(db, "ada", review, held["ada"], Verdict.REMOVE)
    decide(db, "ada", review, held["olga"], Verdict.REMOVE)
    decide(db, "ada", review, held["vic"], Verdict.REMOVE)
    with pytest.raises(LastAdministratorError), db.write("operator:olga") as tx:
        reviews.close(tx, review)
    with db.read() as tx:
        assert {one.operator for one in grants.list_grants(tx)} == {"ada", "olga", "vic"}
        assert reviews.get(tx, review)[0].state is ReviewState.OPEN


def test_a_right_that_went_meanwhile_is_told_as_gone(db: Database, held: dict[str, Grant]) -> None:
    review = start(db)
    with db.write("operator:ada") as tx:
        grants.remove(tx, held["vic"].id)
    for who, grant in (("olga", "ada"), ("ada", "olga"), ("ada", "vic")):
        decide(db, who, review, held[grant], Verdict.KEEP)
    with db.write("operator:olga") as tx:
        reviews.close(tx, review)
        _, items = reviews.get(tx, review)
    assert {one.operator: one.outcome for one in items} == {"ada": "kept", "olga": "kept", "vic": "gone"}


def test_a_review_is_overdue_after_its_day(db: Database, clock: ManualClock, held: dict[str, Grant]) -> None:
    review = start(db)
    clock.advance(DUE)
    with db.read() as tx:
        assert reviews.list_overdue(tx) == []
    clock.advance(timedelta(seconds=1))
    decide(db, "olga", review, held["vic"], Verdict.KEEP)
    with db.read() as tx:
        overdue = reviews.list_overdue(tx)
    assert [(one.review.id, one.decided, one.total) for one in overdue] == [(review, 1, 3)]


def test_what_is_not_there_is_told(db: Database, held: dict[str, Grant]) -> None:
    review = start(db)
    with db.write("operator:olga") as tx:
        with pytest.raises(NotFoundError):
            reviews.get(tx, "rev_0")
        with pytest.raises(NotFoundError):
            reviews.close(tx, "rev_0")
        with pytest.raises(NotFoundError):
            reviews.decide(tx, "rev_0", held["ada"].id, Verdict.KEEP, "")
        with pytest.raises(NotFoundError):
            reviews.decide(tx, review, "gr_0", Verdict.KEEP, "")
        with pytest.raises(InvalidInputError, match="365d"):
            reviews.start(tx, "Never", timedelta(days=366))
