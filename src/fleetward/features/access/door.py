"""What others need to know of access."""

from fleetward.base.config import Section
from fleetward.base.events import Severity
from fleetward.base.feature import (
    About,
    Cards,
    Checks,
    EventKind,
    Feature,
    Forget,
    House,
    Place,
    Port,
    Role,
    Routes,
    Timer,
)
from fleetward.base.permissions import Permission, Reach
from fleetward.features.access import board, http, settings
from fleetward.features.access.context import AccessContext
from fleetward.features.access.model.people import CHECK_IDS
from fleetward.features.access.service import breakglass, cleaning


def _end_emergencies(house: House) -> None:
    with house.db.read() as tx:
        if not breakglass.has_expired(tx):
            return
    with house.db.write("system:access") as tx:
        breakglass.end_expired(tx)


feature = Feature(
    name="access",
    context=AccessContext,
    routes=(Routes(http.router, Port.API), Routes(http.pages_router, Port.PAGES)),
    timers=(Timer("break-glass", 10.0, Role.WORKER, _end_emergencies),),
    forgets=(Forget("sign-ins", cleaning.KEPT, cleaning.forget_expired),),
    cards=(
        Cards("break_glass.approve", (board.EMERGENCIES,), board.find_emergencies),
        Cards("review.read", (board.REVIEWS_OVERDUE,), board.find_overdue_reviews),
        Cards("operator.read", (board.PEOPLE_WITHOUT_SPARE,), board.find_people_without_spare),
    ),
    checks=(Checks(CHECK_IDS, board.find_checks),),
    events=(
        EventKind(
            "access.refused",
            Severity.WARNING,
            About.OPERATOR,
            "someone asked the API with a token that does not hold",
        ),
        EventKind(
            "access.csrf_refused",
            Severity.WARNING,
            About.OPERATOR,
            "a page that is not ours used somebody's session",
        ),
        EventKind(
            "access.sign_in_refused",
            Severity.WARNING,
            About.OPERATOR,
            "proofs that do not hold; by which method, from where",
            or_severities=frozenset({Severity.NOTICE}),
        ),
        EventKind(
            "access.sign_in_held_back",
            Severity.WARNING,
            About.OPERATOR,
            "again and again: this account or address must wait",
        ),
        EventKind(
            "access.session_opened",
            Severity.INFO,
            About.OPERATOR,
            "an operator signed in, how and from where",
        ),
        EventKind(
            "access.session_ended",
            Severity.INFO,
            About.OPERATOR,
            "an operator signed out, or was signed out",
            or_severities=frozenset({Severity.NOTICE}),
        ),
        EventKind(
            "access.setup_finished",
            Severity.NOTICE,
            About.OPERATOR,
            "the first operator exists; the setup link is void",
        ),
        EventKind(
            "access.recovery_code_used",
            Severity.CRITICAL,
            About.OPERATOR,
            "somebody came in by a recovery code",
        ),
        EventKind(
            "access.passkey_added", Severity.NOTICE, About.OPERATOR, "an operator has one more passkey"
        ),
        EventKind("access.passkey_removed", Severity.NOTICE, About.OPERATOR, "or one less"),
        EventKind("access.password_changed", Severity.NOTICE, About.OPERATOR, "an operator set a password"),
        EventKind(
            "access.totp_changed", Severity.NOTICE, About.OPERATOR, "an operator set an authenticator app"
        ),
        EventKind(
            "access.passkey_cloned",
            Severity.CRITICAL,
            About.OPERATOR,
            "a passkey's counter fell back: there may be a copy",
        ),
        EventKind(
            "access.command_line_approved",
            Severity.NOTICE,
            About.OPERATOR,
            "which program was let in, by whom",
        ),
        EventKind("access.command_line_denied", Severity.NOTICE, About.OPERATOR, "which was not"),
        EventKind(
            "access.local_token_used",
            Severity.NOTICE,
            About.OPERATOR,
            "the local token was used though operators exist; at most every five minutes",
        ),
        EventKind(
            "access.last_administrator_kept",
            Severity.WARNING,
            About.OPERATOR,
            "the identity provider took a role that nobody else holds; it stays",
        ),
        EventKind("operator.created", Severity.NOTICE, About.OPERATOR, "somebody was invited"),
        EventKind("operator.joined", Severity.NOTICE, About.OPERATOR, "and came"),
        EventKind("operator.enabled", Severity.NOTICE, About.OPERATOR, "let in again"),
        EventKind("operator.disabled", Severity.WARNING, About.OPERATOR, "out: by whom, why"),
        EventKind(
            "operator.recovered",
            Severity.CRITICAL,
            About.OPERATOR,
            "somebody made a link that replaces all of an operator's factors",
        ),
        EventKind("token.created", Severity.NOTICE, About.OPERATOR, "a program's token"),
        EventKind("token.revoked", Severity.NOTICE, About.OPERATOR, "works no longer"),
        EventKind("grant.given", Severity.NOTICE, About.OPERATOR, "a role in a group"),
        EventKind("grant.removed", Severity.NOTICE, About.OPERATOR, "taken away"),
        EventKind("review.started", Severity.NOTICE, About.OPERATOR, "a review of all grants"),
        EventKind("review.closed", Severity.NOTICE, About.OPERATOR, "its decisions were applied"),
        EventKind(
            "break_glass.requested",
            Severity.WARNING,
            About.OPERATOR,
            "somebody asks for every emergency right, and why",
        ),
        EventKind(
            "break_glass.approved",
            Severity.CRITICAL,
            About.OPERATOR,
            "they hold them now: who, until when, approved by whom",
        ),
        EventKind("break_glass.ended", Severity.WARNING, About.OPERATOR, "it is over and to be reviewed"),
        EventKind("break_glass.reviewed", Severity.NOTICE, About.OPERATOR, "what another person found"),
    ),
    settings=(
        Section("access", settings.Access, settings.check_access),
        Section("oidc", settings.Oidc, settings.check_oidc),
    ),
    places=(
        Place("/me", None),
        Place("/operators", None),
        Place("/operators/$name", "operator.read"),
        Place("/reviews/$id", "review.read"),
    ),
    permissions=(
        Permission("break_glass.approve", Reach.FLEET, "let another break the glass"),
        Permission("break_glass.end", Reach.SHARED, "end an emergency, or take a request back"),
        Permission("break_glass.read", Reach.SHARED, "see when the glass was broken, why and by whom"),
        Permission("break_glass.request", Reach.SHARED, "ask another to break the glass"),
        Permission("break_glass.review", Reach.FLEET, "review what another did with it"),
        Permission("grant.give", Reach.FLEET, "give others a role"),
        Permission("grant.read", Reach.FLEET, "see who holds which role"),
        Permission("grant.remove", Reach.FLEET, "take a role away"),
        Permission("operator.disable", Reach.FLEET, "disable or enable an operator"),
        Permission("operator.invite", Reach.FLEET, "invite an operator"),
        Permission("operator.read", Reach.FLEET, "see operators"),
        Permission("operator.recover", Reach.FLEET, "let an operator register anew"),
        Permission("review.close", Reach.FLEET, "close a review and apply its decisions"),
        Permission("review.decide", Reach.FLEET, "decide over a grant in a review"),
        Permission("review.read", Reach.FLEET, "see reviews and their evidence"),
        Permission("review.start", Reach.FLEET, "start a review of all grants"),
        Permission("role.read", Reach.SHARED, "see what each role may do"),
        Permission("session.read", Reach.FLEET, "see others' sessions"),
        Permission("session.revoke", Reach.FLEET, "end others' sessions"),
        Permission("token.create", Reach.SHARED, "make a token of one's own"),
    ),
)
