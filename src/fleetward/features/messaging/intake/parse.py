"""The first stage: bytes into typed values. What raises here is refused, alone."""

from collections.abc import Iterable

from fleetward.base.errors import InvalidInputError
from fleetward.features.messaging.intake.batch import Batch, DeviceMessage, Item, Refused
from fleetward.features.messaging.intake.tell import is_told
from fleetward.wire.command import parse_result
from fleetward.wire.mqtt_topics import TopicKind
from fleetward.wire.shadow import parse_reported
from fleetward.wire.telemetry import parse_reading


def parse(messages: Iterable[DeviceMessage]) -> Batch:
    """Return what messages say; what cannot be accepted is among `refused`, with the reason."""
    items: list[Item] = []
    refused: list[Refused] = []
    for message in messages:
        try:
            items.append(_parse(message))
        except InvalidInputError as error:
            refused.append(Refused(message, error.message))
    return Batch(tuple(items), tuple(refused))


def _parse(message: DeviceMessage) -> Item:
    kind, payload = message.topic.kind, message.unverified_payload
    if kind is TopicKind.SHADOW_REPORTED:
        return Item(message, parse_reported(payload))
    if kind is TopicKind.COMMAND_RESULT:
        return Item(message, parse_result(payload))
    reading = parse_reading(payload, what=message.topic.mqtt)
    return Item(message, reading, is_told=kind is TopicKind.LOG and is_told(reading))
