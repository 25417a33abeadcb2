"""What messaging's routes need beyond the database."""

from dataclasses import dataclass

from fleetward.features.messaging.ports import DeadLetters, PresenceBook, TelemetryLog, Watcher


@dataclass(frozen=True)
class MessagingContext:
    """What the routes need from NATS; in `app.state.messaging`."""

    telemetry: TelemetryLog
    watcher: Watcher
    presence: PresenceBook
    dead_letters: DeadLetters
