"""What others need to know of access."""

from fleetward.base.feature import Feature, Forget, House, Port, Role, Routes, Timer
from fleetward.base.permissions import Permission, Reach
from fleetward.features.access import http
from fleetward.features.access.context import AccessContext
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
    routes=(Routes(http.router, Port.API),),
    timers=(Timer("break-glass", 10.0, Role.WORKER, _end_emergencies),),
    forgets=(Forget("sign-ins", cleaning.KEPT, cleaning.forget_expired),),
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
