"""Decides by the Cedar policies. They are parsed once; what a person holds comes with each question.

Fail closed: a policy that cannot be evaluated refuses the request that met it.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from cedarpy import Entities, PolicySet, is_authorized_batch

from fleetward.base.clock import is_ahead
from fleetward.base.errors import CorruptDataError, ForbiddenError
from fleetward.base.permissions import Permission
from fleetward.features.access.model.identity import Grant, Identity
from fleetward.features.access.model.roles import ALL_GROUPS, Role

# Ids of policies that other code reads; the rest of a decision is the policies' own business.
STEP_UP = "step-up"
OWN_RIGHTS = "own-rights"
RECOVERY_SESSION = "recovery-session"
REVIEW_DUE = "review-due"
TOKEN_SCOPES = "token-scopes"  # noqa: S105 - a policy's name
_OWN_THINGS = "own-things"
LOCAL_TOKEN = "local-token-after-setup"  # noqa: S105 - a policy's name

# No device is in it: what is asked of a device that does not exist is asked of this.
NOWHERE = "?"
_SHARED = "fleet"


class OwnRightsError(ForbiddenError):
    """Nobody raises, approves or confirms what is their own."""

    code = "own_rights"


class ReviewDueError(ForbiddenError):
    """What they did with a broken glass is to be reviewed first."""

    code = "review_due"


@dataclass(frozen=True)
class Circumstances:
    """What bears on a request beside who asks and what they hold.

    Attributes:
        is_set_up: whether there is any operator.
        is_emergency: the glass is broken for the caller now.
        is_review_due: it was, and nobody has reviewed it.
        subject: the operator whom the request is about.
    """

    is_set_up: bool
    is_emergency: bool = False
    is_review_due: bool = False
    subject: str | None = None


@dataclass(frozen=True)
class Answer:
    """A decision and the ids of the policies that made it."""

    is_allowed: bool
    policies: frozenset[str] = field(default_factory=frozenset)


@dataclass(frozen=True)
class Question:
    """May they do `permission` in a group (`*`: the fleet), or, with None, in what all groups share?"""

    permission: str
    group: str | None


class Policies:
    """The parsed policies, and what they decide over. Immutable and thread-safe; make one per process."""

    def __init__(self, texts: Iterable[str], catalogue: Mapping[str, Permission]) -> None:
        self.catalogue = catalogue
        self._policies = PolicySet.from_str("\n".join(texts))
        actions = [_entity("Action", "read")]
        for name, permission in catalogue.items():
            actions.append(_entity("Action", name, [_uid("Action", "read")] if permission.is_read else []))
        self._actions = Entities.from_json_str(json.dumps(actions))

    def answer(
        self,
        identity: Identity,
        grants: Sequence[Grant],
        circumstances: Circumstances,
        questions: Sequence[Question],
        now: datetime,
    ) -> list[Answer]:
        """Return one answer a question, in their order.

        Raises:
            CorruptDataError: a policy could not be evaluated; the request must be refused.
        """
        groups = {one.group for one in questions if one.group is not None}
        entities = self._actions.with_added_json_str(
            json.dumps(_entities_of(identity, grants, circumstances, groups))
        )
        context = _context_of(identity, circumstances, now)
        who = _principal_of(identity)
        requests = [
            {
                "principal": who,
                "action": _uid("Action", one.permission),
                "resource": _uid("Shared", _SHARED) if one.group is None else _uid("Group", one.group),
                "context": context,
            }
            for one in questions
        ]
        return [_read(found) for found in is_authorized_batch(requests, self._policies, entities)]


def weakest_grant(grants: Iterable[Grant], answer: Answer, group: str | None) -> Grant | None:
    """Return the grant that an allowed request used: the least of those that suffice, None for no grant.

    So an administrator who only looks uses the viewer's right, and a review shows the other unused.
    """
    ranks = list(Role)
    sufficient = [
        one
        for one in grants
        if (group is None or one.group in (group, ALL_GROUPS))
        and (one.role.value in answer.policies or answer.policies & {Role.VIEWER.value, _OWN_THINGS})
    ]
    return min(sufficient, key=lambda one: (ranks.index(one.role), one.group == ALL_GROUPS), default=None)


def _read(found: Any) -> Answer:
    if found.diagnostics.errors:
        raise CorruptDataError(f"policies: expected them to evaluate, found {found.diagnostics.errors[0]}")
    named = found.diagnostics.id_annotations_by_reason
    return Answer(found.allowed, frozenset(named.values()))


def _entities_of(
    identity: Identity, grants: Sequence[Grant], circumstances: Circumstances, groups: set[str]
) -> list[dict[str, Any]]:
    named = {grant.group for grant in grants}
    fleet = _uid("Group", ALL_GROUPS)
    found = [_entity("Group", ALL_GROUPS), _entity("Shared", _SHARED, [_uid("Group", one) for one in named])]
    found += [
        _entity("Group", one, [] if one == NOWHERE else [fleet]) for one in (named | groups) - {ALL_GROUPS}
    ]
    if identity.operator is None:
        return [*found, _entity("LocalToken", "local")]
    held = {
        role.value.replace("-", "_"): _set("Group", (one.group for one in grants if one.role is role))
        for role in Role
    }
    held["viewer"] = _set("Group", named)
    operator = _entity("Operator", identity.operator)
    operator["attrs"] = {**held, "emergency": circumstances.is_emergency}
    return [*found, operator]


def _context_of(identity: Identity, circumstances: Circumstances, now: datetime) -> dict[str, Any]:
    context: dict[str, Any] = {
        "is_set_up": circumstances.is_set_up,
        "restricted": identity.restricted,
        "review_due": circumstances.is_review_due,
    }
    if identity.mfa_at is not None and not is_ahead(identity.mfa_at, now):
        context["mfa_age_s"] = int((now - identity.mfa_at).total_seconds())
    if identity.scopes is not None:
        context["scopes"] = _set("Action", identity.scopes)
    if circumstances.subject is not None:
        context["subject"] = {"__entity": _uid("Operator", circumstances.subject)}
    return context


def _principal_of(identity: Identity) -> dict[str, str]:
    if identity.operator is None:
        return _uid("LocalToken", "local")
    return _uid("Operator", identity.operator)


def _uid(kind: str, name: str) -> dict[str, str]:
    return {"type": kind, "id": name}


def _set(kind: str, names: Iterable[str]) -> list[dict[str, dict[str, str]]]:
    return [{"__entity": _uid(kind, name)} for name in sorted(set(names))]


def _entity(kind: str, name: str, parents: Sequence[dict[str, str]] = ()) -> dict[str, Any]:
    return {"uid": _uid(kind, name), "attrs": {}, "parents": list(parents)}
