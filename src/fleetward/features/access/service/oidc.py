"""Single sign-on by OpenID Connect: the provider says who somebody is, we say what that means here.

The state of a visit (state, nonce, PKCE verifier, where to go next) travels sealed in a cookie of its own, so
that an answer is good only in the browser that asked, and a stranger's request writes nothing.
"""

import hashlib
import re
import secrets
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import timedelta

from fleetward.base.db import Database, Tx
from fleetward.base.errors import InvalidInputError, NotFoundError
from fleetward.base.events import Severity, emit
from fleetward.features.access import store
from fleetward.features.access.context import AccessContext, Client, SingleSignOn
from fleetward.features.access.model.identity import parse_operator_name
from fleetward.features.access.model.roles import Role
from fleetward.features.access.model.secrets import is_same
from fleetward.features.access.model.sessions import safe_next
from fleetward.features.access.ports import Login, Person, ProviderRefusedError
from fleetward.features.access.service import grants, operators, sessions
from fleetward.features.access.service.sessions import Opened
from fleetward.features.access.store.operators import Operator, OperatorState

CALLBACK_PATH = "/api/v1/signin/oidc/callback"
VISIT_LIFETIME = timedelta(minutes=10)
# Grants the provider's groups give are marked so, and follow them at every sign-in.
GIVEN_BY = "system:oidc"
_PURPOSE = "oidc login"
_MIN_FACTORS = 2
_MAX_PROOF_CHARS = 200


@dataclass(frozen=True)
class Visit:
    """Where to send the browser, and the cookie it must bring back."""

    url: str = field(repr=False)
    ticket: str = field(repr=False)


def get_sso(ctx: AccessContext) -> SingleSignOn:
    """Return the provider. Raises NotFoundError: none is set."""
    if ctx.sso is None:
        raise NotFoundError("single sign-on: expected [oidc] in fleetward.toml, found none")
    return ctx.sso


def start(db: Database, ctx: AccessContext, next_path: str | None) -> Visit:
    """Begin a visit to the provider. Raises NotFoundError, UnavailableError."""
    login = Login(
        state=secrets.token_urlsafe(24),
        nonce=secrets.token_urlsafe(24),
        verifier=secrets.token_urlsafe(48),
        redirect_uri=ctx.console + CALLBACK_PATH,
    )
    url = get_sso(ctx).client.authorization_url(login)
    values = {
        "state": login.state, "nonce": login.nonce, "verifier": login.verifier, "next": safe_next(next_path),
    }  # fmt: skip
    return Visit(url, ctx.sealer.seal_ticket(values, _PURPOSE, db.clock.now() + VISIT_LIFETIME))


def finish(
    db: Database, ctx: AccessContext, ticket: str | None, state: str, code: str, client: Client
) -> tuple[Opened, str]:
    """Open a session for whom the provider vouches; return it and where to go.

    Where the provider did not ask for two factors the session is restricted until a local step-up.

    Raises:
        ProviderRefusedError: the answer does not fit the visit, or the person has no role here.
        UnavailableError: the provider does not answer.
    """
    sso = get_sso(ctx)
    values = _open_visit(db, ctx, ticket)
    if not is_same(values["state"], state):
        raise ProviderRefusedError("state: expected that of this browser's visit, found another")
    login = Login(values["state"], values["nonce"], values["verifier"], ctx.console + CALLBACK_PATH)
    person = sso.client.redeem(login, code)
    with db.write(GIVEN_BY) as tx:
        operator = _admit(tx, sso, person)
        if operator is not None:
            has_mfa = proves_mfa(person, sso)
            opened = sessions.open_session(
                tx, ctx, operator.name, "oidc", client, has_mfa=has_mfa, restricted=not has_mfa,
                proof=say_proof(person),
            )  # fmt: skip
            return opened, safe_next(values["next"])
        emit(
            tx, "access.sign_in_refused",
            f"{person.name or person.subject} came from {sso.name} and has no role here.",
            severity=Severity.WARNING, method="oidc", subject=person.subject, address=client.address,
        )  # fmt: skip
    raise ProviderRefusedError(
        f"single sign-on: expected a person with a role here, found {person.name or person.subject} without",
        hint="Map one of their groups to a role: [[oidc.roles]] in fleetward.toml.",
    )


def proves_mfa(person: Person, sso: SingleSignOn) -> bool:
    """Return whether the provider says it asked for two factors (RFC 8176 `amr`, or an agreed `acr`)."""
    return bool(person.amr & sso.mfa_amr) or person.acr in sso.mfa_acr


def say_proof(person: Person) -> str:
    """Return what the provider said of the factors it asked for: `none` where it says nothing of that."""
    said = [f"amr {one}" for one in sorted(person.amr)] + ([f"acr {person.acr}"] if person.acr else [])
    return ", ".join(said)[:_MAX_PROOF_CHARS] or "none"


def name_of(person: Person) -> str:
    """Return the operator's name of a person: what stands before the `@` of theirs, in plain letters.

    Who has no letter or digit of ASCII in it is named after who they are for the provider.
    """
    local = unicodedata.normalize("NFKD", person.name.partition("@")[0].lower())
    plain = "".join(one for one in local if not unicodedata.combining(one))
    name = re.sub(r"[^a-z0-9_-]+", "-", plain).strip("-_")[:64].strip("-_")
    if name:
        return name
    return f"sso-{hashlib.sha256(f'{person.issuer} {person.subject}'.encode()).hexdigest()[:12]}"


def _open_visit(db: Database, ctx: AccessContext, ticket: str | None) -> dict[str, str]:
    try:
        found: dict[str, str] = ctx.sealer.open_ticket(ticket or "", _PURPOSE, db.clock.now())
    except InvalidInputError as error:
        raise ProviderRefusedError(
            "single sign-on: expected this browser's visit, found none that is fresh", hint="Start again."
        ) from error
    return found


def _admit(tx: Tx, sso: SingleSignOn, person: Person) -> Operator | None:
    """Return the operator of a person with the roles their groups give; None when they have none."""
    given = {pair for group in person.groups for pair in sso.roles.get(group, ())}
    operator = store.operators.find_by_subject(tx, person.issuer, person.subject)
    if operator is None:
        operator = _create(tx, person) if given else None
    if operator is None or operator.state is not OperatorState.ACTIVE:
        return None
    _follow_groups(tx, operator.name, given)
    return operator if grants.list_grants(tx, operator.name) else None


def _create(tx: Tx, person: Person) -> Operator:
    name = name_of(person)
    parse_operator_name(name)
    if store.operators.find(tx, name) is not None:
        raise ProviderRefusedError(
            f"operator {name}: expected the name free for {person.subject}, found it another person's"
        )
    return operators.create(
        tx,
        name,
        person.display_name[:128],
        OperatorState.ACTIVE,
        issuer=person.issuer,
        subject=person.subject,
    )


def _follow_groups(tx: Tx, operator: str, given: Iterable[tuple[Role, str]]) -> None:
    wanted = set(given)
    held = grants.list_grants(tx, operator)
    for grant in held:
        if grant.given_by != GIVEN_BY or (grant.role, grant.group) in wanted:
            continue
        if grants.is_last_administrator(tx, grant):
            emit(
                tx, "access.last_administrator_kept",
                f"{operator} stays administrator, against the provider: nobody else is.",
                severity=Severity.WARNING, operator=operator,
            )  # fmt: skip
            continue
        grants.remove(tx, grant.id)
    for role, group in sorted(wanted - {(grant.role, grant.group) for grant in held}):
        grants.give(tx, operator, role, group)
