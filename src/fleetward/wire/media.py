"""What cameras, relay and viewers say to each other besides video."""

from typing import Annotated, Literal, TypeVar

import msgspec
from msgspec import Meta

from fleetward.base.errors import InvalidInputError

INGEST_PATH = "/v1/media/ingest"
MAX_CONTROL_BYTES = 4 * 1024
# WebSocket close codes of ours (RFC 6455 section 7.4.2).
CLOSE_REFUSED, CLOSE_ENDED, CLOSE_GONE, CLOSE_SLOW = 4403, 4401, 4410, 4408


_Message = TypeVar("_Message", bound=msgspec.Struct)


class Order(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the relay asks of a camera."""

    order: Literal["start", "stop"]


class Attendance(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a viewer's process tells the camera's."""

    state: Literal["join", "alive", "leave"]
    viewer: Annotated[str, Meta(max_length=64)]


class ViewOpened(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """First message to a viewer; then the initialisation segment and fragments follow as binary messages."""

    device: str
    codec: str
    expires_at: str


def render(message: Order | Attendance | ViewOpened) -> bytes:
    return msgspec.json.encode(message)


def parse_order(content: bytes | str) -> Order:
    """Return the relay's order. Raises InvalidInputError."""
    return _parse(content, Order)


def parse_attendance(content: bytes) -> Attendance:
    """Return a viewer's state. Raises InvalidInputError."""
    return _parse(content, Attendance)


def _parse(content: bytes | str, kind: type[_Message]) -> _Message:
    if len(content) > MAX_CONTROL_BYTES:
        raise InvalidInputError(f"video control: expected at most {MAX_CONTROL_BYTES} bytes, found more")
    try:
        return msgspec.json.decode(content, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidInputError(f"video control: expected the documented form: {error}") from error
