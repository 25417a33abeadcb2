"""The topics of a device, as MQTT writes them (`d/cam-1/t/temp`) and as NATS does (`d.cam-1.t.temp`).

A device publishes under its own id alone and hears its own commands and desired state alone. Ids, stream
names and command numbers hold no character that means something to either protocol (see `base.ids`).
"""

from dataclasses import dataclass
from enum import StrEnum

from fleetward.base.errors import InvalidInputError
from fleetward.base.ids import parse_device_id, parse_id

ROOT = "d"
MAX_TOPIC_CHARS = 256
_MAX_COMMAND_DIGITS = 18


class TopicKind(StrEnum):
    """What a topic carries."""

    TELEMETRY = "telemetry"
    LOG = "log"
    METRICS = "metrics"
    SHADOW_REPORTED = "shadow_reported"
    SHADOW_DESIRED = "shadow_desired"
    COMMAND = "command"
    COMMAND_RESULT = "command_result"


# None stands for the one level that varies: a telemetry stream's name, a command's number.
_LEVELS: dict[TopicKind, tuple[str | None, ...]] = {
    TopicKind.TELEMETRY: ("t", None),
    TopicKind.LOG: ("log",),
    TopicKind.METRICS: ("metrics",),
    TopicKind.SHADOW_REPORTED: ("shadow", "reported"),
    TopicKind.SHADOW_DESIRED: ("shadow", "desired"),
    TopicKind.COMMAND: ("cmd", None),
    TopicKind.COMMAND_RESULT: ("cmd", None, "result"),
}
UPWARD = (
    TopicKind.TELEMETRY,
    TopicKind.LOG,
    TopicKind.METRICS,
    TopicKind.SHADOW_REPORTED,
    TopicKind.COMMAND_RESULT,
)
DOWNWARD = (TopicKind.SHADOW_DESIRED, TopicKind.COMMAND)


@dataclass(frozen=True)
class Topic:
    """One topic of one device.

    Attributes:
        name: the telemetry stream or the command's number; "" for the others.
    """

    device: str
    kind: TopicKind
    name: str = ""

    @property
    def mqtt(self) -> str:
        return "/".join((ROOT, self.device, *self._levels()))

    @property
    def subject(self) -> str:
        return ".".join((ROOT, self.device, *self._levels()))

    def _levels(self) -> tuple[str, ...]:
        return tuple(self.name if level is None else level for level in _LEVELS[self.kind])


def mqtt_topic(subject: str) -> str:
    """Return the MQTT topic that nats-server made a subject of, whatever a client wrote in it.

    There `/` parts levels and is written `.`; a `.` is written `//`, and an empty level `/`.
    """
    levels = subject.split(".")
    return "/".join("" if level == "/" else level.replace("//", ".") for level in levels)


def parse_subject(subject: str) -> Topic:
    """Return the topic of a NATS subject such as `d.cam-1.t.temp`.

    Raises:
        InvalidInputError: not a topic of a device, or over 256 characters.
    """
    return _parse(subject, subject.split("."))


def parse_mqtt_topic(topic: str) -> Topic:
    """Return the topic that MQTT writes as `d/cam-1/t/temp`. Raises as `parse_subject` does."""
    return _parse(topic, topic.split("/"))


def publish_subjects(device: str) -> tuple[str, ...]:
    """Return the NATS subjects `device` may publish to, one wildcard level where a name varies."""
    return _subjects(device, UPWARD)


def subscribe_subjects(device: str) -> tuple[str, ...]:
    """Return the NATS subjects `device` may subscribe to."""
    return _subjects(device, DOWNWARD)


def _subjects(device: str, kinds: tuple[TopicKind, ...]) -> tuple[str, ...]:
    return tuple(Topic(device, kind, "*").subject for kind in kinds)


def _parse(text: str, levels: list[str]) -> Topic:
    if len(text) > MAX_TOPIC_CHARS:
        raise InvalidInputError(f"topic: expected at most {MAX_TOPIC_CHARS} characters, found {len(text)}")
    if len(levels) > 2 and levels[0] == ROOT:  # noqa: PLR2004 - root and device, then its kind
        for kind, pattern in _LEVELS.items():
            name = _match(pattern, levels[2:])
            if name is not None:
                return Topic(parse_device_id(levels[1]), kind, _parse_name(kind, name))
    raise InvalidInputError(f"topic: expected one of a device such as d/<id>/t/<stream>, found {text!r}")


def _match(pattern: tuple[str | None, ...], levels: list[str]) -> str | None:
    """Return the varying level, "" when there is none, None when `levels` is another kind of topic."""
    if len(pattern) != len(levels):
        return None
    name = ""
    for expected, found in zip(pattern, levels, strict=True):
        if expected is None:
            name = found
        elif expected != found:
            return None
    return name


def _parse_name(kind: TopicKind, name: str) -> str:
    if kind is TopicKind.TELEMETRY:
        return parse_id(name, what="telemetry stream")
    if kind in (TopicKind.COMMAND, TopicKind.COMMAND_RESULT):
        is_number = name.isascii() and name.isdigit() and len(name) <= _MAX_COMMAND_DIGITS
        if not is_number:
            raise InvalidInputError(f"topic: expected a command's number, found {name[:40]!r}")
    return name
