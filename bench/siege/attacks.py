"""The attacks: by strangers, by one owned device, by a guest. Each goes on until it is told to stop.

An attacker has a process of its own, at a lower priority, for on the internet it would have its own machine.
Strangers come from addresses of 127.66.0.0/16, each of which is far as good as another.
"""

import base64
import json
import os
import random
import socket
import ssl
import struct
import threading
import time
import zlib
from collections import Counter, deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Event
from pathlib import Path

from bench.rig import Device, client_context, connect_packet, packet, raise_file_limit, text

_NICE = 10
_TIMEOUT_S = 5.0
_PAUSE_S = 0.05
_CHUNK = 64 * 1024
_HELD = 500
_VIEWER_BYTES = 16 * 1024 * 1024
_BIG = 60_000
_QOS1, _QOS2, _SUBSCRIBE = 0x32, 0x34, 0x82
_PASSWORDS_A_SECOND = 30
_GUESSERS = 10
_STREAMS = 150


@dataclass(frozen=True)
class Target:
    """What is attacked, and what the attacker has in hand.

    Attributes:
        owned: enrolled devices whose keys the attacker has.
        guest: a token of a viewer.
    """

    port_base: int
    ca_file: Path
    owned: tuple[Device, ...]
    guest: str

    @property
    def mqtt(self) -> int:
        return self.port_base + 2


def besiege(name: str, target: Target, stop: Event, told: Connection) -> None:
    """Run one attack in this process until `stop`, then tell how often it got what done."""
    os.nice(_NICE)
    raise_file_limit()
    done: Counter[str] = Counter()
    ATTACKS[name](target, stop, done)
    told.send(dict(done))


def _stranger() -> str:
    return f"127.66.{random.randrange(256)}.{random.randrange(1, 255)}"


def _dial(port: int, source: str) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=_TIMEOUT_S, source_address=(source, 0))


def _call(target: Target, port: int, source: str, context: ssl.SSLContext | None = None) -> ssl.SSLSocket:
    """Return a TLS connection from an address."""
    tls = context or ssl.create_default_context(cafile=str(target.ca_file))
    return tls.wrap_socket(_dial(port, source), server_hostname="localhost")


def _ask(stream: ssl.SSLSocket, method: str, path: str, body: bytes = b"", *lines: str) -> int:
    """Return the status of one answer, or 0."""
    head = [f"{method} {path} HTTP/1.1", "host: localhost", f"content-length: {len(body)}", *lines]
    stream.sendall("\r\n".join([*head, "", ""]).encode() + body)
    answer = stream.recv(_CHUNK)
    return int(answer.split(b" ", 2)[1]) if answer.startswith(b"HTTP/1.1 ") else 0


def _log_in(target: Target, device: Device, source: str) -> ssl.SSLSocket:
    """Return an owned device's MQTT connection. Raises ConnectionRefusedError."""
    stream = _call(target, target.mqtt, source, client_context(target.ca_file, device))
    stream.sendall(connect_packet(device.id))
    if stream.recv(4)[3:] != b"\x00":
        stream.close()
        raise ConnectionRefusedError(device.id)
    return stream


def _swallow(stream: ssl.SSLSocket) -> None:
    """Take what has come, so that the other end never waits for us."""
    stream.settimeout(0.0)
    with suppress(ssl.SSLWantReadError, BlockingIOError):
        while stream.recv(_CHUNK):
            pass
    stream.settimeout(_TIMEOUT_S)


def _again(stop: Event, done: Counter[str], act: Callable[[], None]) -> None:
    """Do `act` until the end; what throws it out is counted, and it comes again."""
    while not stop.is_set():
        try:
            act()
            done["rounds"] += 1
        except (OSError, ssl.SSLError) as error:
            done[f"thrown out: {type(error).__name__}"] += 1
            stop.wait(_PAUSE_S)


def _together(count: int, act: Callable[[int], None]) -> None:
    threads = [threading.Thread(target=act, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def heads(target: Target, stop: Event, done: Counter[str]) -> None:
    """Headers without end, on both HTTPS ports (7.1)."""

    def endless(number: int) -> None:
        def act() -> None:
            with _call(target, target.port_base + number % 2, _stranger()) as stream:
                stream.sendall(b"GET / HTTP/1.1\r\nx: ")
                while not stop.is_set():
                    stream.sendall(b"a" * _CHUNK)

        _again(stop, done, act)

    _together(4, endless)


def bodies(target: Target, stop: Event, done: Counter[str]) -> None:
    """Five hundred bodies that never end, held open and opened anew as they are let go (7.2)."""
    path, ports = "/.well-known/est/simpleenroll", (target.port_base, target.port_base + 1)

    def act(number: int) -> ssl.SSLSocket:
        stream = _call(target, ports[number % 2], _stranger())
        stream.sendall(f"POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1000\r\n\r\nx".encode())
        return stream

    _hold(stop, done, act)


def silence(target: Target, stop: Event, done: Counter[str]) -> None:
    """Five hundred connections that say nothing at all, on each port in turn."""
    ports = (target.port_base, target.port_base + 1, target.mqtt)
    _hold(stop, done, lambda number: _dial(ports[number % 3], _stranger()))


def _hold(stop: Event, done: Counter[str], call: Callable[[int], socket.socket]) -> None:
    held: deque[socket.socket] = deque()
    number = 0
    while not stop.is_set():
        number += 1
        try:
            held.append(call(number))
            done["opened"] += 1
        except OSError as error:
            done[f"thrown out: {type(error).__name__}"] += 1
            stop.wait(_PAUSE_S)
        if len(held) > _HELD:
            held.popleft().close()
    for one in held:
        one.close()


def handshakes(target: Target, stop: Event, done: Counter[str]) -> None:
    """TLS handshakes by the dozen, each let go at once."""
    ports = (target.port_base, target.port_base + 1, target.mqtt)

    def shake(number: int) -> None:
        _again(stop, done, lambda: _call(target, ports[number % 3], _stranger()).close())

    _together(6, shake)


def viewers(target: Target, stop: Event, done: Counter[str]) -> None:
    """WebSockets with our own Origin that send 16 MiB, as they are and pressed, instead of a ticket (7.3)."""
    pressed = zlib.compressobj(9, zlib.DEFLATED, -15)
    small = pressed.compress(b"a" * _VIEWER_BYTES) + pressed.flush(zlib.Z_SYNC_FLUSH)[:-4]
    head = (
        "GET /api/v1/media/view HTTP/1.1\r\nhost: localhost\r\nupgrade: websocket\r\nconnection: upgrade\r\n"
        f"origin: https://localhost:{target.port_base}\r\nsec-websocket-version: 13\r\n"
        f"sec-websocket-key: {base64.b64encode(bytes(16)).decode()}\r\n"
        "sec-websocket-extensions: permessage-deflate\r\n\r\n"
    ).encode()

    def view(number: int) -> None:
        first, payload = (0xC1, small) if number % 2 else (0x81, b"a" * _VIEWER_BYTES)
        frame = bytes([first, 0xFF]) + struct.pack(">Q", len(payload)) + bytes(4) + payload

        def act() -> None:
            with _call(target, target.port_base, _stranger()) as stream:
                stream.sendall(head)
                stream.recv(_CHUNK)
                stream.sendall(frame)
                stream.recv(_CHUNK)

        _again(stop, done, act)

    _together(8, view)


def publishes(target: Target, stop: Event, done: Counter[str]) -> None:
    """Two owned devices publish what the line takes: 60 kB and 3.9 MB, also where they may not (7.4)."""

    def publish(number: int) -> None:
        device, size = target.owned[number], (_BIG, 3_900_000)[number % 2]
        payload = b'{"pad":"' + b"x" * size + b'"}'
        topics = [text(f"d/{device.id}/t/flood"), text(f"d/{device.id}/log"), text("d/siege-0/t/celsius")]

        def act() -> None:
            with _log_in(target, device, _stranger()) as stream:
                for count in range(1, 60_000):
                    if stop.is_set():
                        return
                    topic = topics[count % len(topics)]
                    stream.sendall(packet(_QOS1, topic + struct.pack(">H", count) + payload))
                    done["messages"] += 1
                    _swallow(stream)

        _again(stop, done, act)

    _together(2, publish)


def subscriptions(target: Target, stop: Event, done: Counter[str]) -> None:
    """An owned device subscribes to as many filters as it can name (7.4)."""
    device = target.owned[2]

    def act() -> None:
        with _log_in(target, device, _stranger()) as stream:
            for count in range(1, 4_000):
                if stop.is_set():
                    return
                wanted = text(f"d/{device.id}/cmd/{count}") + b"\x01"
                stream.sendall(packet(_SUBSCRIBE, struct.pack(">H", count) + wanted))
                done["subscriptions"] += 1
                _swallow(stream)

    _again(stop, done, act)


def qos2(target: Target, stop: Event, done: Counter[str]) -> None:
    """An owned device begins QoS 2 messages and completes none (7.5)."""
    device = target.owned[3]
    payload = text(f"d/{device.id}/t/flood")

    def act() -> None:
        with _log_in(target, device, _stranger()) as stream:
            for count in range(1, 60_000):
                if stop.is_set():
                    return
                stream.sendall(packet(_QOS2, payload + struct.pack(">H", count) + b"x" * 4_000))
                done["messages"] += 1
                _swallow(stream)

    _again(stop, done, act)


def streams(target: Target, stop: Event, done: Counter[str]) -> None:
    """An owned device sends big readings under a new name each (7.6)."""
    device = target.owned[4]
    payload = b'"' + b"x" * _BIG + b'"'

    def act() -> None:
        with _log_in(target, device, _stranger()) as stream:
            for count in range(1, 60_000):
                if stop.is_set():
                    return
                topic = text(f"d/{device.id}/t/s{count}")
                stream.sendall(packet(_QOS1, topic + struct.pack(">H", count) + payload))
                done["messages"] += 1
                _swallow(stream)

    _again(stop, done, act)


def reconnects(target: Target, stop: Event, done: Counter[str]) -> None:
    """An owned device that comes and goes, and one that is not who it says, from ever new addresses (7.7)."""

    def come(number: int) -> None:
        device = target.owned[5]
        name = device.id if number else "siege-0"

        def act() -> None:
            with _call(target, target.mqtt, _stranger(), client_context(target.ca_file, device)) as stream:
                stream.sendall(connect_packet(name))
                stream.recv(4)

        _again(stop, done, act)

    _together(2, come)


def poison(target: Target, stop: Event, done: Counter[str]) -> None:
    """An owned device sends what cannot be read, on every topic it has."""
    device = target.owned[6]
    topics = ("t/celsius", "log", "metrics", "shadow/reported", "cmd/1/result")
    bad = (b"{", b"\xff\xfe", b'{"event": []}', b"[" * 2_000, b'"\\u0000"', b'{"version": 1e400}', b"")

    def act() -> None:
        with _log_in(target, device, _stranger()) as stream:
            for count in range(1, 60_000):
                if stop.is_set():
                    return
                topic = text(f"d/{device.id}/{topics[count % len(topics)]}")
                stream.sendall(packet(_QOS1, topic + struct.pack(">H", count) + bad[count % len(bad)]))
                done["messages"] += 1
                _swallow(stream)

    _again(stop, done, act)


def passwords(target: Target, stop: Event, done: Counter[str]) -> None:
    """Wrong passwords from many addresses, thirty a second (7.8)."""

    def guess(_: int) -> None:
        while not stop.is_set():
            body = json.dumps({"name": "admin", "password": os.urandom(16).hex(), "totp": "123456"}).encode()
            _count_answer(target, done, "/api/v1/signin/password", body, "content-type: application/json")
            stop.wait(_GUESSERS / _PASSWORDS_A_SECOND)

    _together(_GUESSERS, guess)


def codes(target: Target, stop: Event, done: Counter[str]) -> None:
    """Command lines that ask to be let in and never are, from ever new addresses (7.9)."""
    form = "content-type: application/x-www-form-urlencoded"

    def ask(_: int) -> None:
        while not stop.is_set():
            _count_answer(target, done, "/api/v1/oauth/device_authorization", b"client_id=fleetward", form)

    _together(4, ask)


def _count_answer(target: Target, done: Counter[str], path: str, body: bytes, line: str) -> None:
    try:
        with _call(target, target.port_base, _stranger()) as stream:
            origin = f"origin: https://localhost:{target.port_base}"
            done[f"answered {_ask(stream, 'POST', path, body, line, origin)}"] += 1
    except OSError as error:
        done[f"thrown out: {type(error).__name__}"] += 1
        time.sleep(_PAUSE_S)


def event_streams(target: Target, stop: Event, done: Counter[str]) -> None:
    """A guest opens 150 streams of all events there are, reads none, and opens them anew (7.10)."""
    bearer = f"authorization: Bearer {target.guest}"

    held: deque[socket.socket] = deque()

    def act() -> None:
        stream = _call(target, target.port_base, "127.66.0.1")
        done[f"answered {_ask(stream, 'GET', '/api/v1/events/stream?after=0', b'', bearer)}"] += 1
        held.append(stream)
        if len(held) > _STREAMS:
            held.popleft().close()

    _again(stop, done, act)
    for one in held:
        one.close()


ATTACKS: dict[str, Callable[[Target, Event, Counter[str]], None]] = {
    "heads": heads,
    "bodies": bodies,
    "silence": silence,
    "handshakes": handshakes,
    "viewers": viewers,
    "publishes": publishes,
    "subscriptions": subscriptions,
    "qos2": qos2,
    "streams": streams,
    "reconnects": reconnects,
    "poison": poison,
    "passwords": passwords,
    "codes": codes,
    "event-streams": event_streams,
}
