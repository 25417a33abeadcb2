"""An MQTT 3.1.1 client that sends what it is told to, byte for byte, and waits for acknowledgement."""

import socket
import ssl
import struct
from collections.abc import Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from support.broker import Issued, Rig

_PUBLISH = 0x30
_PUBACK = 0x40
_TIMEOUT_S = 30.0
_WINDOW = 50


class HungUpError(ConnectionError):
    """The broker closed the connection."""


class RawDevice:
    """A connected device; `publish` returns how many of its messages the broker acknowledged."""

    def __init__(self, rig: "Rig", issued: "Issued", *, is_clean: bool = True) -> None:
        context = ssl.create_default_context(cafile=rig.folder / "ca" / "ca-bundle.pem")
        context.load_cert_chain(issued.certificate, issued.key)
        plain = socket.create_connection(("127.0.0.1", rig.mqtt_port), timeout=_TIMEOUT_S)
        self._stream = context.wrap_socket(plain, server_hostname="localhost")
        self.device = issued.device
        self._stream.sendall(connect_packet(issued.device, is_clean=is_clean))
        answer = self._stream.recv(4)
        if answer[3:] != b"\x00":
            self._stream.close()
            raise ConnectionRefusedError(answer.hex())
        self._unread = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stream.close()

    def publish(self, topic: str | bytes, payloads: Iterable[bytes], *, qos: int = 1) -> int:
        """Send messages, `topic` under `d/<id>/`. Raises HungUpError when the broker hangs up."""
        levels = topic if isinstance(topic, bytes) else topic.encode()
        name = _text(b"d/" + self.device.encode() + b"/" + levels)
        acknowledged = waiting = 0
        for number, payload in enumerate(payloads):
            packet_id = struct.pack(">H", number % 65_535 + 1) if qos else b""
            self._send(_packet(_PUBLISH | qos << 1, name + packet_id + payload))
            waiting += qos
            while waiting >= _WINDOW:
                waiting -= 1
                acknowledged += self._await_puback()
        while waiting:
            waiting -= 1
            acknowledged += self._await_puback()
        return acknowledged

    def begin(self, topic: str, payloads: Iterable[bytes]) -> None:
        """Send messages of QoS 2 and release none. Raises HungUpError when the broker hangs up."""
        name = _text(f"d/{self.device}/{topic}".encode())
        for number, payload in enumerate(payloads):
            self._send(_packet(_PUBLISH | 2 << 1, name + struct.pack(">H", number % 65_535 + 1) + payload))

    def wait_for_end(self) -> None:
        """Return once the broker has hung up."""
        try:
            while self._stream.recv(4096):
                pass
        except (ConnectionError, ssl.SSLError):
            return

    def _send(self, content: bytes) -> None:
        try:
            self._stream.sendall(content)
        except OSError as error:
            raise HungUpError(self.device) from error

    def _await_puback(self) -> int:
        while len(self._unread) < 4:
            try:
                found = self._stream.recv(4096)
            except (ConnectionError, ssl.SSLError) as error:
                raise HungUpError(self.device) from error
            if not found:
                raise HungUpError(self.device)
            self._unread += found
        assert self._unread[0] == _PUBACK, self._unread
        self._unread = self._unread[4:]
        return 1


def connect_packet(client_id: str, *, is_clean: bool = True) -> bytes:
    """Return a CONNECT with a clean session, or one that goes on, and a minute of keep-alive."""
    flags = b"\x02" if is_clean else b"\x00"
    return _packet(0x10, _text(b"MQTT") + b"\x04" + flags + b"\x00\x3c" + _text(client_id.encode()))


def _packet(kind: int, body: bytes) -> bytes:
    length, rest = b"", len(body)
    while True:
        rest, digit = divmod(rest, 128)
        length += bytes([digit | (0x80 if rest else 0)])
        if not rest:
            return bytes([kind]) + length + body


def _text(content: bytes) -> bytes:
    return struct.pack(">H", len(content)) + content
