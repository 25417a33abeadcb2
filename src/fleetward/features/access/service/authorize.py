"""Decides whether an identity may do what a route asks for, and where: facts from the store, then Cedar."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from importlib.resources import files

from fleetward.base.db import Tx
from fleetward.base.errors import ForbiddenError
from fleetward.base.permissions import Permission, Reach
from fleetward.base.web import Principal
from fleetward.features.access import store
from fleetward.features.access.model import policy
from fleetward.features.access.model.breakglass import GlassState
from fleetward.features.access.model.identity import Grant, Identity, StepUpRequiredError
from fleetward.features.access.model.policy import Answer, Circumstances, Policies, Question
from fleetward.features.access.model.roles import ALL_GROUPS, Role
from fleetward.features.access.ports import DeviceGroups
from fleetward.features.access.store.operators import OperatorState

_SEE = "device.read"
_ANYWHERE = ""
# Refusals that have nothing to do with what is asked about, so that they give nothing away.
_OF_THE_CALLER = {
    policy.RECOVERY_SESSION: ForbiddenError(
        "session: expected a full one, found one opened by a recovery code",
        hint="Register a passkey, then sign in with it.",
    ),
    policy.LOCAL_TOKEN: ForbiddenError(
        "authorization: expected an operator, found the platform's own token",
        hint="Sign in: fleetward login",
    ),
    policy.REVIEW_DUE: policy.ReviewDueError(
        "break-glass: expected what you did with it reviewed, found it is not yet",
        hint="Ask a security officer: fleetward break-glass review ID --findings …",
    ),
}


@dataclass(frozen=True)
class Resource:
    """What a request is about, as its path says.

    Attributes:
        device_id: the device, if any.
        operator: the operator, if any.
    """

    device_id: str | None = None
    operator: str | None = None


@dataclass(frozen=True)
class Decision:
    """A request that is allowed.

    Attributes:
        used: the grants it rests on whose use is to be recorded now.
    """

    principal: Principal
    used: tuple[Grant, ...] = ()


@dataclass(frozen=True)
class _Case:
    """One request and all that bears on it."""

    identity: Identity
    permission: str
    grants: Sequence[Grant]
    circumstances: Circumstances
    now: datetime


class Decider:
    """Wires the policies to the store. Immutable; make one per process."""

    def __init__(self, policies: Policies, devices: DeviceGroups) -> None:
        self._policies, self._devices = policies, devices
        self.catalogue = policies.catalogue

    def decide(self, tx: Tx, identity: Identity, permission: str, resource: Resource) -> Decision:
        """Return the principal, with the groups in which they may do this.

        Raises:
            NotFoundError: the device is not there, or not where they may see it: the two read alike.
            StepUpRequiredError: they may, once they give two factors again.
            ForbiddenError: they may not.
        """
        grants = [] if identity.operator is None else store.grants.list_grants(tx, identity.operator)
        circumstances = _circumstances(tx, identity, resource.operator)
        case = _Case(identity, permission, grants, circumstances, tx.now)
        if resource.device_id is not None:
            group = self._devices.find_group(tx, resource.device_id) or policy.NOWHERE
            return self._decide_device(case, resource.device_id, group)
        reach = self.catalogue[permission].reach
        if reach is Reach.DEVICES:
            return self._decide_groups(case)
        group_asked = None if reach is Reach.SHARED else ALL_GROUPS
        answer = self._answer(case, [Question(permission, group_asked)])[0]
        if not answer.is_allowed:
            raise self._refusal(case, answer, group_asked)
        return _allow(case, None, {group_asked or _ANYWHERE: answer})

    def list_rights(self, tx: Tx, identity: Identity) -> dict[str, tuple[str, ...]]:
        """Return all they may do, once they step up where that is asked: the groups by permission.

        `("*",)` says all groups, and stands where a permission reaches no device.
        """
        grants = [] if identity.operator is None else store.grants.list_grants(tx, identity.operator)
        circumstances = _circumstances(tx, identity, None)
        is_program = identity.scopes is not None
        asking = identity if is_program else _fresh(identity, tx.now)
        held = self._held(asking, grants, circumstances, tx.now)
        return {
            name: (ALL_GROUPS,) if where is None else tuple(sorted(where)) for name, where in held.items()
        }

    def permissions_of_role(self, role: Role, now: datetime) -> list[str]:
        """Return what a role may do in all groups, by the policies."""
        identity = _fresh(Identity("", "someone", "session", now, None, None, restricted=False), now)
        grant = Grant("", "someone", role, ALL_GROUPS, "", now, None)
        return sorted(self._held(identity, [grant], Circumstances(is_set_up=True), now))

    def _held(
        self, identity: Identity, grants: Sequence[Grant], circumstances: Circumstances, now: datetime
    ) -> dict[str, frozenset[str] | None]:
        asked_of: dict[Reach, Sequence[str | None]] = {
            Reach.DEVICES: sorted({grant.group for grant in grants} | {ALL_GROUPS}),
            Reach.SHARED: [None],
            Reach.FLEET: [ALL_GROUPS],
        }
        asked = [
            Question(name, group) for name, one in self.catalogue.items() for group in asked_of[one.reach]
        ]
        answers = self._policies.answer(identity, grants, circumstances, asked, now)
        allowed = [one for one, answer in zip(asked, answers, strict=True) if answer.is_allowed]
        held: dict[str, frozenset[str] | None] = {}
        for name in {one.permission for one in allowed}:
            where = {one.group for one in allowed if one.permission == name}
            held[name] = None if where & {None, ALL_GROUPS} else frozenset(one for one in where if one)
        return held

    def _decide_device(self, case: _Case, device_id: str, group: str) -> Decision:
        asked = [Question(case.permission, group), Question(_SEE, group)]
        answer, sight = self._answer(case, asked)
        if answer.is_allowed:
            return _allow(case, frozenset({group}), {group: answer})
        if (found := _refusal_of_caller(case, answer)) is not None:
            raise found
        if not sight.is_allowed:
            raise self._devices.not_found(device_id)
        raise self._refusal(case, answer, group)

    def _decide_groups(self, case: _Case) -> Decision:
        groups = sorted({grant.group for grant in case.grants} | {ALL_GROUPS})
        answers = self._answer(case, [Question(case.permission, group) for group in groups])
        allowed = {group: one for group, one in zip(groups, answers, strict=True) if one.is_allowed}
        if not allowed:
            raise self._refusal(case, answers[0], groups[0])
        return _allow(case, None if ALL_GROUPS in allowed else frozenset(allowed), allowed)

    def _answer(self, case: _Case, asked: Sequence[Question]) -> list[Answer]:
        return self._policies.answer(case.identity, case.grants, case.circumstances, asked, case.now)

    def _refusal(self, case: _Case, answer: Answer, group: str | None) -> ForbiddenError:
        found = _refusal_of_caller(case, answer)
        if found is not None:
            return found
        if policy.OWN_RIGHTS in answer.policies:
            return policy.OwnRightsError("grant: expected one for another operator, found one for yourself")
        if policy.STEP_UP in answer.policies and self._is_allowed_when_fresh(case):
            if case.identity.via != "session":
                hint = "Sign in anew (fleetward login), or do it in the console: a token cannot prove this."
            else:
                hint = "Confirm with your passkey, then ask again."
            return StepUpRequiredError(
                f"{case.permission}: expected two factors given within five minutes, found none", hint=hint
            )
        where = "" if group is None else " in all groups" if group == ALL_GROUPS else f" in group {group}"
        return ForbiddenError(f"{case.permission}: expected a role that holds it{where}, found none")

    def _is_allowed_when_fresh(self, case: _Case) -> bool:
        held = self._held(_fresh(case.identity, case.now), case.grants, case.circumstances, case.now)
        return case.permission in held


def load_policies(catalogue: Mapping[str, Permission]) -> Policies:
    """Parse the policies that lie in the package, to decide over these permissions."""
    folder = files("fleetward.features.access").joinpath("policies")
    found = sorted(folder.iterdir(), key=lambda one: one.name)
    return Policies((one.read_text() for one in found if one.name.endswith(".cedar")), catalogue)


def _circumstances(tx: Tx, identity: Identity, subject: str | None) -> Circumstances:
    if identity.operator is None:
        return Circumstances(is_set_up=is_set_up(tx), subject=subject)
    glass = store.breakglass.find_unreviewed(tx, identity.operator)
    state = None if glass is None else glass.state_at(tx.now)
    return Circumstances(
        is_set_up=True,
        is_emergency=state is GlassState.ACTIVE,
        is_review_due=state is GlassState.ENDED,
        subject=subject,
    )


def _allow(case: _Case, groups: frozenset[str] | None, by_group: Mapping[str, Answer]) -> Decision:
    identity = case.identity
    used = {
        grant.id: grant
        for group, answer in by_group.items()
        if (grant := policy.weakest_grant(case.grants, answer, group or None)) is not None
        and store.usage.is_due(grant, case.now)
    }
    principal = Principal(identity.actor, identity.operator, groups, identity.mfa_at)
    return Decision(principal, tuple(used.values()))


def _refusal_of_caller(case: _Case, answer: Answer) -> ForbiddenError | None:
    for name, error in _OF_THE_CALLER.items():
        if name in answer.policies:
            return type(error)(error.message, hint=error.hint)
    if policy.TOKEN_SCOPES in answer.policies:
        return ForbiddenError(f"token: expected one with the scope {case.permission}, found it without")
    return None


def _fresh(identity: Identity, now: datetime) -> Identity:
    return replace(identity, mfa_at=now)


def is_set_up(tx: Tx) -> bool:
    """Whether there is any operator: from then on nobody acts alone where two are asked for."""
    return store.operators.any_exists(tx)


def list_active(tx: Tx) -> frozenset[str]:
    """Return the names of the operators who may sign in."""
    return frozenset(one.name for one in store.operators.list_all(tx) if one.state is OperatorState.ACTIVE)


def record_use(tx: Tx, used: Iterable[Grant]) -> None:
    """Record that these grants were used now."""
    store.usage.mark_used(tx, used)
