"""A device's shadow: what is desired of it (`d/<id>/shadow/desired`), what it reports (`…/shadow/reported`).

Both carry a version that only grows, so that a message that comes late or twice changes nothing. A device
that has lost its memory reports version 0, and counts from there.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

from fleetward.base.errors import InvalidInputError
from fleetward.wire.bounded_json import parse_bounded_json, parse_typed_json

T = TypeVar("T")
MAX_SHADOW_BYTES = 32 * 1024
MAX_SHADOW_DEPTH = 8
_MAX_VERSION = 2**53


class Desired(msgspec.Struct, frozen=True):
    """What a device should be."""

    version: int
    state: dict[str, Any]


class Reported(msgspec.Struct, frozen=True):
    """What a device says it is.

    Attributes:
        desired_version: the last desired version it has acted on; 0 for none.
    """

    version: int
    state: dict[str, Any]
    desired_version: int = 0


_decode_desired = msgspec.json.Decoder(Desired).decode
_decode_reported = msgspec.json.Decoder(Reported).decode


def parse_desired(payload: bytes) -> Desired:
    """Return the desired state in a payload. Raises InvalidInputError when it is none, or over 32 KiB."""
    desired = _parse(payload, _decode_desired, "desired state")
    _check_version("desired state", desired.version)
    return desired


def parse_reported(payload: bytes) -> Reported:
    """Return the reported state in a payload. Raises InvalidInputError when it is none, or over 32 KiB."""
    reported = _parse(payload, _decode_reported, "reported state")
    _check_version("reported state", reported.version)
    _check_version("reported state", reported.desired_version)
    return reported


def render_shadow(part: Desired | Reported) -> bytes:
    """Return the payload of one side of a shadow. Raises InvalidInputError when it is over the limits."""
    payload = msgspec.json.encode(part)
    check_shadow_json(payload, "shadow")
    return payload


def shadow_delta(desired: dict[str, Any], reported: dict[str, Any]) -> dict[str, Any]:
    """Return what is desired and not reported so: nested objects by key, everything else whole."""
    delta: dict[str, Any] = {}
    for key, wanted in desired.items():
        found = reported.get(key)
        if isinstance(wanted, dict) and isinstance(found, dict):
            inner = shadow_delta(wanted, found)
            if inner:
                delta[key] = inner
        elif key not in reported or found != wanted:
            delta[key] = wanted
    return delta


def check_shadow_json(payload: bytes, what: str) -> None:
    """Pass when a payload is JSON of at most 32 KiB and 8 levels. Raises InvalidInputError."""
    parse_bounded_json(payload, what=what, max_bytes=MAX_SHADOW_BYTES, max_depth=MAX_SHADOW_DEPTH)


def _parse(payload: bytes, decode: Callable[[bytes], T], what: str) -> T:
    return parse_typed_json(
        payload,
        decode,
        what=what,
        expected="version and state",
        max_bytes=MAX_SHADOW_BYTES,
        max_depth=MAX_SHADOW_DEPTH,
    )


def _check_version(what: str, version: int) -> None:
    if not 0 <= version <= _MAX_VERSION:
        raise InvalidInputError(f"{what}: version: expected 0 to 2^53, found {version}")
