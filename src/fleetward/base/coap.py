"""What a feature's CoAP resources are written against: a whole request of a proven client, and its answer."""

from dataclasses import dataclass
from enum import IntEnum


class Code(IntEnum):
    """The answers of RFC 7252 section 12.1.2 that we give: its class in three bits, its detail in five."""

    CHANGED = 0x44
    CONTENT = 0x45
    BAD_REQUEST = 0x80
    UNAUTHORIZED = 0x81
    FORBIDDEN = 0x83
    NOT_FOUND = 0x84
    METHOD_NOT_ALLOWED = 0x85
    TOO_LARGE = 0x8D
    UNSUPPORTED_CONTENT_FORMAT = 0x8F
    SERVICE_UNAVAILABLE = 0xA3


@dataclass(frozen=True)
class CoapRequest:
    """A whole request of an authenticated client.

    Attributes:
        peer: DER of its certificate.
        method: `GET`, `POST`, `PUT` or `DELETE`.
    """

    peer: bytes
    method: str
    path: tuple[str, ...]
    content_format: int | None
    payload: bytes


@dataclass(frozen=True)
class CoapAnswer:
    code: Code
    payload: bytes = b""
    content_format: int | None = None
