"""What others need to know of messaging."""

from fleetward.base.events import Severity
from fleetward.base.feature import (
    About,
    Cards,
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
from fleetward.features.messaging import board, coap, http, service
from fleetward.features.messaging.http import MessagingContext


def _lift_floods(house: House) -> None:
    with house.db.read() as tx:
        if not service.list_paused_out(tx):
            return
    with house.db.write("system:messaging") as tx:
        service.lift_floods(tx)


feature = Feature(
    name="messaging",
    context=MessagingContext,
    routes=(Routes(http.router, Port.API),),
    coap=coap.RESOURCES,
    cards=(Cards("device.read", (board.HELD,), board.find_cards),),
    timers=(Timer("lift-floods", 15.0, Role.WORKER, _lift_floods),),
    events=(
        EventKind(
            "broker.restarted", Severity.WARNING, About.PLATFORM, "nats-server died and is started again"
        ),
        EventKind("session.opened", Severity.INFO, About.DEVICE, "from where"),
        EventKind("session.closed", Severity.INFO, About.DEVICE, "why"),
        EventKind(
            "session.refused",
            Severity.WARNING,
            About.DEVICE,
            "why; critical: another's name, a revoked certificate",
            or_severities=frozenset({Severity.CRITICAL}),
        ),
        EventKind("hold.set", Severity.WARNING, About.DEVICE, "a room holds it back from sessions: what for"),
        EventKind("hold.lifted", Severity.NOTICE, About.DEVICE, "that room holds it no longer"),
        EventKind(
            "device.flooding",
            Severity.CRITICAL,
            About.DEVICE,
            "cut off for ten minutes, for `what`: so much of it had to be refused",
        ),
        EventKind("session.conflicted", Severity.CRITICAL, About.DEVICE, "one certificate, two clients"),
        EventKind(
            "publish.refused",
            Severity.WARNING,
            About.DEVICE,
            "to a topic not its own; critical when another device's",
            or_severities=frozenset({Severity.CRITICAL}),
        ),
        EventKind(
            "subscribe.refused",
            Severity.WARNING,
            About.DEVICE,
            "of a topic not its own; critical when another device's",
            or_severities=frozenset({Severity.CRITICAL}),
        ),
        EventKind("telemetry.refused", Severity.WARNING, About.DEVICE, "a message that cannot be accepted"),
        EventKind(
            "telemetry.limited",
            Severity.WARNING,
            About.DEVICE,
            "a device sends more than it may: `limit` is `messages`, `bytes` or `told`",
        ),
        EventKind(
            "deadletter.added",
            Severity.WARNING,
            About.DEVICE,
            "a message that could be read and not handled; it is kept for 30 days",
        ),
        EventKind(
            "agent.ability_failed",
            Severity.WARNING,
            About.DEVICE,
            "which part of the agent does not run, and why; it is tried again",
            may_device_say=True,
            or_severities=frozenset(Severity),
        ),
        EventKind("shadow.desired", Severity.INFO, About.DEVICE, "what is desired changed"),
        EventKind("command.queued", Severity.INFO, About.DEVICE, "a command waits for its device"),
        EventKind("command.done", Severity.INFO, About.DEVICE, "and was carried out"),
        EventKind("command.failed", Severity.NOTICE, About.DEVICE, "or was not"),
        EventKind("command.timed_out", Severity.NOTICE, About.DEVICE, "or nobody answered"),
    ),
    places=(
        Place("/devices/$id?part=commands", "command.read"),
        Place("/devices/$id?part=telemetry", "telemetry.read"),
        Place("/devices/$id?part=logs", "telemetry.read"),
    ),
    permissions=(
        Permission("command.read", Reach.DEVICES, "see commands and their results"),
        Permission("command.run", Reach.DEVICES, "have a device do something"),
        Permission("deadletter.read", Reach.FLEET, "see messages that could not be handled"),
        Permission("deadletter.manage", Reach.FLEET, "play them again, or delete them"),
        Permission("shadow.read", Reach.DEVICES, "see what is desired and reported"),
        Permission("shadow.write", Reach.DEVICES, "change what is desired"),
        Permission("telemetry.read", Reach.DEVICES, "see what devices send"),
    ),
    forgets=(Forget("told-lines", service.TOLD_FOR, service.forget_old),),
)
