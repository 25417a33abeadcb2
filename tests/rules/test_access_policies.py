"""The Cedar policies, asked one by one."""

from datetime import UTC, datetime, timedelta
from importlib.resources import files
from typing import Literal

import pytest
from cedarpy import validate_policies

from fleetward.base.permissions import Reach
from fleetward.features.access.model.identity import Grant, Identity
from fleetward.features.access.model.policy import Answer, Circumstances, Question, weakest_grant
from fleetward.features.access.model.roles import Role
from fleetward.features.access.service.authorize import load_policies
from fleetward.programs.server.doors import CATALOGUE

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
POLICIES = load_policies(CATALOGUE)
FOLDER = files("fleetward.features.access").joinpath("policies")
PEOPLE = {"audit.read", "break_glass.read", "grant.read", "operator.read", "review.read", "session.read"}
# What each role may do in its groups beside what a viewer may. Read it as the promise to customers.
BEYOND_VIEWER = {
    Role.VIEWER: set[str](),
    Role.OPERATOR: {
        "break_glass.end", "break_glass.read", "break_glass.request", "command.run", "device.add",
        "device.claim", "device.import", "device.quarantine", "device.release", "event.acknowledge",
        "shadow.write", "video.view",
    },
    Role.RELEASE_MANAGER: {
        "break_glass.end", "break_glass.read", "break_glass.request", "release.approve", "release.publish",
        "release.withdraw",
    },
    Role.SECURITY_OFFICER: {
        "attestation.manage", "audit.read", "break_glass.approve", "break_glass.end", "break_glass.read",
        "break_glass.request", "break_glass.review", "device.quarantine", "device.release", "device.retire",
        "device.revoke", "device.revoke_bulk", "event.acknowledge", "factory.trust", "grant.read",
        "operator.disable", "operator.read", "release.approve", "review.close", "review.decide",
        "review.read", "review.start", "session.read", "session.revoke",
    },
    Role.ADMINISTRATOR: {name for name in CATALOGUE if not name.endswith(".read")} | PEOPLE,
}  # fmt: skip
VIEWER = {name for name in CATALOGUE if name.endswith(".read")} - PEOPLE | {"filter.manage", "token.create"}
DANGEROUS = {
    "break_glass.approve", "break_glass.request", "break_glass.review", "device.revoke_bulk", "grant.give",
    "grant.remove", "operator.disable", "operator.invite", "operator.recover", "release.approve",
    "release.publish", "token.create",
}  # fmt: skip


def somebody(
    *, mfa_age_s: int | None = 0, scopes: set[str] | None = None, restricted: bool = False
) -> Identity:
    mfa_at = None if mfa_age_s is None else NOW - timedelta(seconds=mfa_age_s)
    limits = None if scopes is None else frozenset(scopes)
    via: Literal["session", "token"] = "session" if scopes is None else "token"
    return Identity("operator:alice", "alice", via, mfa_at, limits, None, restricted)


LOCAL = Identity("operator:admin", None, "local", None, None, None, restricted=False)


def grant(role: Role, group: str = "*", holder: str = "alice") -> Grant:
    return Grant(f"{role}-{group}", holder, role, group, "operator:zoe", NOW, None)


def ask(
    permission: str,
    *grants: Grant,
    who: Identity | None = None,
    group: str | None = "*",
    emergency: bool = False,
    review_due: bool = False,
    set_up: bool = True,
    subject: str | None = None,
) -> Answer:
    about = Circumstances(set_up, emergency, review_due, subject)
    return POLICIES.answer(who or somebody(), grants, about, [Question(permission, group)], NOW)[0]


def test_policies_fit_their_schema() -> None:
    """A policy that misspells an action, attribute or type never matches: Cedar's own checker says so."""
    schema = FOLDER.joinpath("schema.cedarschema").read_text() + "action read;\n"
    kinds = "principal: [Operator, LocalToken], resource: [Group, Shared], context: Asked"
    for name, permission in CATALOGUE.items():
        parent = ' in ["read"]' if permission.is_read else ""
        schema += f'action "{name}"{parent} appliesTo {{ {kinds} }};\n'
    for one in FOLDER.iterdir():
        if one.name.endswith(".cedar"):
            result = validate_policies(one.read_text(), schema)
            assert result.validation_passed, (one.name, [str(error) for error in result.errors])


@pytest.mark.parametrize("role", Role)
def test_a_role_may_what_the_table_says(role: Role) -> None:
    expected = VIEWER | BEYOND_VIEWER[role]
    assert {name for name in CATALOGUE if ask(name, grant(role)).is_allowed} == expected


@pytest.mark.parametrize("role", Role)
def test_a_role_in_one_group_reaches_no_other_and_not_the_fleet(role: Role) -> None:
    held = VIEWER | BEYOND_VIEWER[role]
    for name, permission in CATALOGUE.items():
        in_cams = grant(role, "cams")
        assert ask(name, in_cams, group="cams").is_allowed == (name in held)
        assert not ask(name, in_cams, group="doors").is_allowed, name
        assert not ask(name, in_cams, group="*").is_allowed, name
        if permission.reach is Reach.SHARED:
            assert ask(name, in_cams, group=None).is_allowed == (name in held)


def test_who_holds_nothing_may_nothing() -> None:
    for name in CATALOGUE:
        for group in ("*", "cams", None):
            assert not ask(name, group=group).is_allowed


def test_a_group_that_is_nowhere_is_not_even_the_administrators() -> None:
    assert not ask("device.read", grant(Role.ADMINISTRATOR), group="?").is_allowed


def test_exactly_the_dangerous_acts_ask_for_fresh_factors() -> None:
    for age in (300, 3600, None, -31):
        stale = somebody(mfa_age_s=age)
        refused = {n for n in CATALOGUE if not ask(n, grant(Role.ADMINISTRATOR), who=stale).is_allowed}
        assert refused == DANGEROUS
    assert ask("grant.give", grant(Role.ADMINISTRATOR), who=somebody(mfa_age_s=299)).is_allowed
    assert ask("grant.give", grant(Role.ADMINISTRATOR), who=somebody(mfa_age_s=-30)).is_allowed


def test_a_token_stays_within_its_scopes_and_its_owners_rights() -> None:
    token = somebody(mfa_age_s=None, scopes={"device.read", "audit.read", "grant.give"})
    allowed = {name for name in CATALOGUE if ask(name, grant(Role.VIEWER), who=token).is_allowed}
    assert allowed == {"device.read"}
    allowed = {name for name in CATALOGUE if ask(name, grant(Role.ADMINISTRATOR), who=token).is_allowed}
    assert allowed == {"device.read", "audit.read"}


def test_a_token_may_hand_in_releases_and_never_approve_them() -> None:
    token = somebody(mfa_age_s=None, scopes={"release.publish", "release.approve"})
    manager = grant(Role.RELEASE_MANAGER)
    assert ask("release.publish", manager, who=token).is_allowed
    assert not ask("release.approve", manager, who=token).is_allowed
    unlimited = somebody(mfa_age_s=None)
    assert not ask("release.publish", manager, who=unlimited).is_allowed


def test_a_recovery_session_may_nothing() -> None:
    who = somebody(restricted=True)
    assert not [name for name in CATALOGUE if ask(name, grant(Role.ADMINISTRATOR), who=who).is_allowed]


def test_nobody_gives_themselves_a_role() -> None:
    administrator = grant(Role.ADMINISTRATOR)
    own = ask("grant.give", administrator, subject="alice")
    assert (own.is_allowed, own.policies) == (False, frozenset({"own-rights"}))
    assert ask("grant.give", administrator, subject="bob").is_allowed
    assert ask("grant.remove", administrator, subject="alice").is_allowed


def test_the_local_token_may_everything_before_there_are_people() -> None:
    assert all(ask(name, who=LOCAL, set_up=False).is_allowed for name in CATALOGUE)


def test_the_local_token_leaves_what_takes_people_to_people() -> None:
    refused = {name for name in CATALOGUE if not ask(name, who=LOCAL).is_allowed}
    assert refused == {
        "break_glass.approve", "break_glass.end", "break_glass.request", "break_glass.review", "grant.give",
        "grant.remove", "operator.invite", "release.approve", "review.close", "review.decide", "review.start",
        "token.create",
    }  # fmt: skip


# All that two people lend one of them, beside everything that reads. Read it as the promise to customers.
LENT = {
    "attestation.manage", "break_glass.end", "command.run", "device.add", "device.claim", "device.import",
    "device.quarantine", "device.release", "device.retire", "device.revoke", "device.revoke_bulk",
    "event.acknowledge", "operator.disable", "release.withdraw", "session.revoke", "shadow.write",
    "video.view",
}  # fmt: skip


@pytest.mark.parametrize("group", ["*", "cams", None])
def test_a_broken_glass_lends_exactly_what_saves_the_fleet(group: str | None) -> None:
    lent = {name for name in CATALOGUE if ask(name, group=group, emergency=True).is_allowed}
    assert lent == LENT | {name for name in CATALOGUE if name.endswith(".read")}


def test_a_broken_glass_lends_nothing_to_tokens_beyond_their_scopes_or_to_recovery_sessions() -> None:
    token, recovered = somebody(scopes={"device.revoke", "grant.give"}), somebody(restricted=True)
    assert {n for n in CATALOGUE if ask(n, who=token, emergency=True).is_allowed} == {"device.revoke"}
    assert not [n for n in CATALOGUE if ask(n, who=recovered, emergency=True).is_allowed]


def test_a_broken_glass_does_not_spare_the_second_factor() -> None:
    stale = somebody(mfa_age_s=None)
    assert not ask("device.revoke_bulk", who=stale, emergency=True).is_allowed


def test_after_a_broken_glass_its_holder_only_reads_until_the_review() -> None:
    left = {n for n in CATALOGUE if ask(n, grant(Role.ADMINISTRATOR), review_due=True).is_allowed}
    assert left == {name for name in CATALOGUE if name.endswith(".read")}


def test_the_weakest_sufficient_grant_counts_as_used() -> None:
    held = [grant(Role.ADMINISTRATOR), grant(Role.OPERATOR, "cams"), grant(Role.VIEWER)]

    def used(permission: str, group: str | None) -> Grant | None:
        return weakest_grant(held, ask(permission, *held, group=group), group)

    assert used("device.read", "cams") == grant(Role.VIEWER)
    assert used("command.run", "cams") == grant(Role.OPERATOR, "cams")
    assert used("command.run", "doors") == grant(Role.ADMINISTRATOR)
    assert used("release.read", None) == grant(Role.VIEWER)
    assert used("operator.invite", "*") == grant(Role.ADMINISTRATOR)


def test_an_emergency_uses_no_grant() -> None:
    viewer = grant(Role.VIEWER, "cams")
    answer = ask("device.revoke", viewer, group="cams", emergency=True)
    assert (answer.is_allowed, weakest_grant([viewer], answer, "cams")) == (True, None)


@pytest.mark.parametrize("name", ["", '"', "a\nb", "x" * 200, 'Role::"administrator"', "*", "admin"])
def test_a_strange_name_of_an_operator_changes_no_decision(name: str) -> None:
    who = Identity(f"operator:{name}", name, "session", NOW, None, None, restricted=False)
    assert not ask("device.read", who=who).is_allowed
    assert ask("device.read", grant(Role.VIEWER, holder=name), who=who).is_allowed
    assert not ask("grant.give", grant(Role.ADMINISTRATOR), who=who, subject=name).is_allowed
