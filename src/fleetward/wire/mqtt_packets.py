"""MQTT 3.1.1 control packets (OASIS mqtt-v3.1.1-os), as a simulated device needs them.

The agent speaks through paho; thousands of devices in one process need a codec that owns no socket, no thread
and no memory of its own. QoS 0 and 1 only.
"""

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from fleetward.base.errors import InvalidInputError

CONNACK, PUBLISH, PUBACK, SUBACK, PINGRESP = 2, 3, 4, 9, 13
PINGREQ_PACKET = b"\xc0\x00"
DISCONNECT_PACKET = b"\xe0\x00"
MAX_PACKET_BYTES = 128 * 1024
SUBSCRIPTION_REFUSED = 0x80
_MAX_LENGTH_BYTES = 4
_CLEAN_SESSION = 0x02
_QOS_1 = 0x02
_DUP = 0x08
_UINT16 = struct.Struct(">H")
_PUBACK = struct.Struct(">BBH")


@dataclass(frozen=True, slots=True)
class Packet:
    """A control packet whose body nobody has looked at.

    Attributes:
        kind: of section 2.2.1.
        flags: the four lower bits of its first byte.
    """

    kind: int
    flags: int
    unverified_body: bytes


@dataclass(frozen=True, slots=True)
class Publish:
    """A message that came down. `number` is 0 for QoS 0, else what its PUBACK must name."""

    topic: str
    payload: bytes
    number: int


def render_connect(client_id: str, *, keepalive_s: int, is_clean: bool = True) -> bytes:
    """Return a CONNECT without user name: the certificate says who it is (section 3.1)."""
    flags = _CLEAN_SESSION if is_clean else 0
    return _packet(0x10, _text("MQTT") + bytes((4, flags)) + _UINT16.pack(keepalive_s) + _text(client_id))


def render_publish(topic: str, payload: bytes, number: int, *, is_repeat: bool = False) -> bytes:
    """Return a PUBLISH of QoS 1, of QoS 0 when `number` is 0 (section 3.3)."""
    if not number:
        return _packet(0x30, _text(topic) + payload)
    head = 0x30 | _QOS_1 | (_DUP if is_repeat else 0)
    return _packet(head, _text(topic) + _UINT16.pack(number) + payload)


def render_puback(number: int) -> bytes:
    """Return the acknowledgement of a message that came down (section 3.4)."""
    return _PUBACK.pack(0x40, 2, number)


def render_subscribe(filters: Iterable[str], number: int) -> bytes:
    """Return a SUBSCRIBE at QoS 0 (section 3.8)."""
    return _packet(0x82, _UINT16.pack(number) + b"".join(_text(one) + b"\x00" for one in filters))


def parse_connack(packet: Packet) -> int:
    """Return the return code of section 3.2.2.3: 0 is accepted. Raises InvalidInputError."""
    if packet.kind != CONNACK or len(packet.unverified_body) != 2:  # noqa: PLR2004 - section 3.2.1
        raise InvalidInputError(f"MQTT: expected CONNACK, found packet type {packet.kind}")
    return packet.unverified_body[1]


def parse_publish(packet: Packet) -> Publish:
    """Return the message in a PUBLISH. Raises InvalidInputError: truncated, QoS 2, a topic not in UTF-8."""
    body, qos = packet.unverified_body, packet.flags >> 1 & 0x03
    if packet.kind != PUBLISH or qos > 1 or len(body) < 2:  # noqa: PLR2004 - a length comes first
        raise InvalidInputError(f"MQTT: expected PUBLISH of QoS 0 or 1, found type {packet.kind}, QoS {qos}")
    (length,) = _UINT16.unpack_from(body)
    start = 2 + length + 2 * qos
    if len(body) < start:
        raise InvalidInputError("MQTT: PUBLISH: expected a topic of the length it states, found fewer bytes")
    try:
        topic = body[2 : 2 + length].decode()
    except UnicodeDecodeError as error:
        raise InvalidInputError("MQTT: PUBLISH: expected a topic in UTF-8, found other bytes") from error
    number = _UINT16.unpack_from(body, 2 + length)[0] if qos else 0
    return Publish(topic, body[start:], number)


def parse_puback(packet: Packet) -> int:
    """Return the number a PUBACK acknowledges. Raises InvalidInputError."""
    if packet.kind != PUBACK or len(packet.unverified_body) != 2:  # noqa: PLR2004 - section 3.4.1
        raise InvalidInputError(f"MQTT: expected PUBACK, found packet type {packet.kind}")
    return int(_UINT16.unpack(packet.unverified_body)[0])


def parse_suback(packet: Packet) -> bytes:
    """Return the return code of each filter, 0x80 for a refused one. Raises InvalidInputError."""
    if packet.kind != SUBACK or len(packet.unverified_body) < 3:  # noqa: PLR2004 - a number and one code
        raise InvalidInputError(f"MQTT: expected SUBACK, found packet type {packet.kind}")
    return packet.unverified_body[2:]


class PacketReader:
    """Cuts a stream of bytes into packets; holds no more than one unfinished packet."""

    __slots__ = ("_rest",)

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, content: bytes) -> Iterator[Packet]:
        """Yield the packets that are whole now.

        Raises:
            InvalidInputError: a length of more than four bytes, or of more than 128 KiB.
        """
        self._rest += content
        while (found := self._cut()) is not None:
            yield found

    def _cut(self) -> Packet | None:
        rest, length, shift = self._rest, 0, 0
        for position in range(1, _MAX_LENGTH_BYTES + 1):
            if position >= len(rest):
                return None
            digit = rest[position]
            length |= (digit & 0x7F) << shift
            shift += 7
            if not digit & 0x80:
                break
        else:
            raise InvalidInputError("MQTT: expected a length of at most four bytes, found more")
        if length > MAX_PACKET_BYTES:
            raise InvalidInputError(f"MQTT: expected at most {MAX_PACKET_BYTES} bytes, found {length}")
        end = position + 1 + length
        if len(rest) < end:
            return None
        self._rest = rest[end:]
        return Packet(rest[0] >> 4, rest[0] & 0x0F, rest[position + 1 : end])


def _packet(head: int, body: bytes) -> bytes:
    digits, length = bytearray((head,)), len(body)
    while True:
        length, digit = divmod(length, 128)
        digits.append(digit | (0x80 if length else 0))
        if not length:
            return bytes(digits) + body


def _text(value: str) -> bytes:
    raw = value.encode()
    return _UINT16.pack(len(raw)) + raw
