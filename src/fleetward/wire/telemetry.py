"""What a device sends upward: readings and log lines, and the form they are kept in.

A payload is any JSON value, or the envelope `{"id", "at", "value"}`: then a repeat of the same id is kept
once, and `at` is the device's own time of it (it may have been offline). Plain text is kept as a JSON string.
"""

from datetime import datetime
from typing import Any

import msgspec

from fleetward.base.clock import parse_time, render_time, render_time_or_none
from fleetward.base.errors import InvalidInputError
from fleetward.wire.bounded_json import check_size, check_value

MAX_READING_BYTES = 64 * 1024
MAX_MESSAGE_ID_CHARS = 64
_ENVELOPES = (frozenset({"id", "value"}), frozenset({"id", "at", "value"}))
_CLEARLY_JSON = (b"{", b"[", b'"')


class Reading(msgspec.Struct, frozen=True):
    """One reading or log line of a device.

    Attributes:
        id: the device's own name of the message, "" when it gave none.
        at: the device's own time of it, None when it gave none.
    """

    value: Any
    id: str = ""
    at: datetime | None = None


class Record(msgspec.Struct, frozen=True):
    """A reading as it is kept and shown.

    Attributes:
        kind: `telemetry`, `log` or `metrics`.
        stream: name of the telemetry stream; "" for the others.
        time: when the broker took it, RFC 3339.
        device_time: when the device says it was, RFC 3339; None when it says nothing.
    """

    device: str
    kind: str
    stream: str
    time: str
    device_time: str | None
    value: Any


_decode_record = msgspec.json.Decoder(Record).decode


def parse_reading(payload: bytes, *, what: str) -> Reading:
    """Return the reading in a payload.

    Raises:
        TooLargeError: over 64 KiB.
        InvalidInputError: JSON that is broken or beyond the rules of `bounded_json`, a wrong field of an
            envelope, bytes that are no text.
    """
    check_size(payload, what=what, max_bytes=MAX_READING_BYTES)
    try:
        value = msgspec.json.decode(payload)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        return Reading(_parse_text(payload, what, error))
    check_value(value, payload, what=what)
    if isinstance(value, dict) and value.keys() in _ENVELOPES:
        return _parse_envelope(value, what)
    return Reading(value)


def render_reading(value: Any, *, message_id: str, at: datetime) -> bytes:
    """Return the envelope of a reading; what it says does not change when it is sent again."""
    return msgspec.json.encode({"id": message_id, "at": render_time(at), "value": value})


def render_record(device: str, kind: str, stream: str, reading: Reading, received_at: datetime) -> bytes:
    """Return the form a reading is kept in."""
    device_time = render_time_or_none(reading.at)
    return msgspec.json.encode(
        Record(device, kind, stream, render_time(received_at), device_time, reading.value)
    )


def parse_record(content: bytes) -> Record:
    """Return a record of ours: what it holds was checked when it was taken in, maybe by an earlier release.

    Raises:
        InvalidInputError: it is none.
    """
    try:
        return _decode_record(content)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise InvalidInputError("record: expected one of ours, found another form") from error


def _parse_text(payload: bytes, what: str, cause: Exception) -> str:
    """Return plain text, such as `mosquitto_pub -m hello` sends; broken JSON is not taken for text."""
    try:
        text = payload.decode()
    except UnicodeDecodeError as error:
        raise InvalidInputError(f"{what}: expected JSON or UTF-8 text, found other bytes") from error
    if payload.lstrip().startswith(_CLEARLY_JSON) or not text.strip().isprintable():
        raise InvalidInputError(f"{what}: expected JSON or text, found broken JSON") from cause
    return text


def _parse_envelope(value: dict[str, Any], what: str) -> Reading:
    message_id, at = value["id"], value.get("at")
    if not isinstance(message_id, str) or not 0 < len(message_id) <= MAX_MESSAGE_ID_CHARS:
        raise InvalidInputError(f"{what}: id: expected a text of 1 to {MAX_MESSAGE_ID_CHARS} characters")
    if at is not None and not isinstance(at, str):
        raise InvalidInputError(f"{what}: at: expected RFC 3339 text, found another type")
    return Reading(value["value"], message_id, None if at is None else parse_time(at))
