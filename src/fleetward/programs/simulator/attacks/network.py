"""Attacks from the network: stolen credentials, other devices' topics, old and absent encryption."""

import secrets
import socket
import ssl
import struct
from contextlib import closing

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

from fleetward.outside.keys import offload
from fleetward.programs.simulator.attacks.target import (
    TARGET_MODEL,
    Outcome,
    Target,
    Trace,
    enroll_victim,
    request_certificate,
)

_TIMEOUT_S = 10
_CONNACK = 0x20
_SUBACK_REFUSED = 0x80


def replayed_claim(target: Target) -> Outcome:
    """Use a claim that has already enrolled its device, with a key of the attacker's."""
    victim = enroll_victim(target)
    status, body = request_certificate(
        target, victim.device_id, victim.claim, ec.generate_private_key(ec.SECP256R1())
    )
    return Outcome(
        status in (401, 403, 409),
        f"status {status}: {body.decode(errors='replace')[:160]}",
        Trace(frozenset({"enrollment.refused"}), victim.device_id),
    )


def foreign_claim(target: Target) -> Outcome:
    """Use a fresh claim of one device to enroll as another."""
    other = enroll_victim(target)
    added = target.api.post("/devices", {"id": f"victim-{secrets.token_hex(4)}", "model": TARGET_MODEL})
    status, body = request_certificate(
        target, other.device_id, added["claim"], ec.generate_private_key(ec.SECP256R1())
    )
    return Outcome(
        status in (401, 403, 409),
        f"status {status}: {body.decode(errors='replace')[:160]}",
        Trace(frozenset({"enrollment.refused"}), other.device_id),
    )


def cloned_certificate(target: Target) -> Outcome:
    """Present a copied certificate from a machine that does not hold its private key."""
    victim = enroll_victim(target)
    wrong = ec.generate_private_key(ec.SECP256R1())
    context = _context(target)
    offload.install(
        context, victim.chain_file, lambda digest: wrong.sign(digest, ec.ECDSA(Prehashed(hashes.SHA256())))
    )
    seen = _try_connect(target, context, victim.device_id)
    return Outcome(
        seen != "connected", seen, Trace(frozenset({"tls.refused"}), details={"reason": "key_not_possessed"})
    )


def another_name(target: Target) -> Outcome:
    """Connect with one's own certificate under another device's client id."""
    victim = enroll_victim(target)
    context = _context(target)
    context.load_cert_chain(victim.chain_file, victim.key_file)
    seen = _try_connect(target, context, f"not-{victim.device_id}")
    return Outcome(seen != "connected", seen, Trace(frozenset({"session.refused"}), victim.device_id))


def foreign_topic(target: Target) -> Outcome:
    """Publish as another device, over one's own good session, and listen in on it."""
    attacker, other = enroll_victim(target), enroll_victim(target)
    context = _context(target)
    context.load_cert_chain(attacker.chain_file, attacker.key_file)
    topic = f"d/{other.device_id}/t/temperature"
    with closing(_open(target, context)) as stream:
        _connect_mqtt(stream, attacker.device_id)
        stream.sendall(_packet(0x82, struct.pack(">H", 1) + _text(f"d/{other.device_id}/#") + b"\x01"))
        may_listen = _read_packet(stream)[-1] != _SUBACK_REFUSED
        stream.sendall(_packet(0x32, _text(topic) + struct.pack(">H", 2) + b'{"celsius":99}'))
        _read_packet(stream)  # MQTT 3.1.1 acknowledges what it drops: it has no code to say no
    stored = target.api.get(f"/devices/{other.device_id}/telemetry", limit=10)
    arrived = bool(stored["records"])
    return Outcome(
        not may_listen and not arrived,
        f"listening {'allowed' if may_listen else 'refused'}, message {'arrived' if arrived else 'dropped'}",
        Trace(frozenset({"publish.refused"}), attacker.device_id),
    )


def legacy_tls(target: Target) -> Outcome:
    """Offer only TLS 1.0 and 1.1, with every cipher this machine knows."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # an attacker does not mind who answers
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = ssl.TLSVersion.TLSv1
    context.maximum_version = ssl.TLSVersion.TLSv1_1
    seen = []
    for port in (target.mqtt_port, _port_of(target.devices_url), _port_of(target.api.url)):
        try:
            with closing(_open(target, context, port)) as stream:
                seen.append(f"{port}: {stream.version()}")
        except OSError as error:
            seen.append(f"{port}: {_reason(error)}")
    accepted = [line for line in seen if ": TLSv" in line]
    return Outcome(
        not accepted, "; ".join(seen), Trace(frozenset({"tls.refused"}), details={"reason": "legacy_tls"})
    )


def plaintext(target: Target) -> Outcome:
    """Speak MQTT and HTTP without TLS."""
    seen = []
    mqtt = _packet(0x10, _text("MQTT") + b"\x04\x02\x00\x3c" + _text("victim"))
    http = b"GET /.well-known/est/cacerts HTTP/1.1\r\nHost: x\r\n\r\n"
    for port, hello in ((target.mqtt_port, mqtt), (_port_of(target.devices_url), http)):
        try:
            with socket.create_connection((target.mqtt_host, port), timeout=_TIMEOUT_S) as plain:
                plain.sendall(hello)
                answer = plain.recv(64)
        except OSError as error:
            answer = b""
            seen.append(f"{port}: {_reason(error)}")
            continue
        is_served = answer[:1] == bytes([_CONNACK]) or b" 200 " in answer
        seen.append(f"{port}: {'served' if is_served else 'no answer'}")
    return Outcome(
        not any("served" in line for line in seen),
        "; ".join(seen),
        Trace(frozenset({"tls.refused"}), details={"reason": "plaintext"}),
    )


def _context(target: Target) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(target.ca_file))
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _open(target: Target, context: ssl.SSLContext, port: int | None = None) -> ssl.SSLSocket:
    plain = socket.create_connection((target.mqtt_host, port or target.mqtt_port), timeout=_TIMEOUT_S)
    try:
        return context.wrap_socket(plain, server_hostname=target.mqtt_host)
    except BaseException:
        plain.close()
        raise


def _try_connect(target: Target, context: ssl.SSLContext, client_id: str) -> str:
    """Return `connected`, or what stood in the way."""
    try:
        with closing(_open(target, context)) as stream:
            _connect_mqtt(stream, client_id)
    except (OSError, ConnectionError) as error:
        return _reason(error)
    return "connected"


def _connect_mqtt(stream: ssl.SSLSocket, client_id: str) -> None:
    stream.sendall(_packet(0x10, _text("MQTT") + b"\x04\x02\x00\x3c" + _text(client_id)))
    answer = _read_packet(stream)
    if answer[0] != _CONNACK or answer[3] != 0:
        raise ConnectionRefusedError(f"CONNACK code {answer[3]}")


def _read_packet(stream: ssl.SSLSocket) -> bytes:
    """Return the next MQTT packet; all that servers answer here is shorter than 127 bytes."""
    head = _read_exactly(stream, 2)
    return head + _read_exactly(stream, head[1])


def _read_exactly(stream: ssl.SSLSocket, count: int) -> bytes:
    found = b""
    while len(found) < count:
        chunk = stream.recv(count - len(found))
        if not chunk:
            raise ConnectionResetError("closed by the server")
        found += chunk
    return found


def _packet(head: int, body: bytes) -> bytes:
    return bytes([head, len(body)]) + body


def _text(value: str) -> bytes:
    raw = value.encode()
    return struct.pack(">H", len(raw)) + raw


def _port_of(url: str) -> int:
    return int(url.rsplit(":", 1)[1])


def _reason(error: BaseException) -> str:
    return str(getattr(error, "reason", "") or error)[:120]
