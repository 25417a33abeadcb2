"""What the benchmarks share: a platform of their own, enrolled devices, a raw MQTT client, a result line."""

import asyncio
import base64
import json
import os
import random
import resource
import socket
import ssl
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import urllib3
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from fleetward.outside.http.platform import Api, find_platform
from fleetward.wire.est import parse_certificates

_START_TIMEOUT_S = 90


@dataclass(frozen=True)
class Result:
    """One figure: ours and the peer's, in the same unit, and the ratio we aim for."""

    figure: str
    unit: str
    ours: float
    peer_name: str
    peer: float
    goal: str

    def as_json(self) -> dict[str, object]:
        ratio = self.ours / self.peer if self.peer else None
        return {
            "figure": self.figure, "unit": self.unit, "ours": round(self.ours, 3), "peer": self.peer_name,
            "peer_value": round(self.peer, 3), "ratio": None if ratio is None else round(ratio, 2),
            "goal": self.goal,
        }  # fmt: skip


@dataclass(frozen=True)
class Device:
    """An enrolled device's credentials on disk."""

    id: str
    chain: Path
    key: Path


@dataclass(frozen=True)
class Rig:
    """A platform started for one benchmark."""

    folder: Path
    port_base: int
    process: "subprocess.Popen[bytes]"

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def api(self) -> Api:
        return find_platform(self.data)

    @property
    def ca_file(self) -> Path:
        return Path(json.loads((self.data / "ready.json").read_text())["ca_file"])

    @property
    def mqtt_port(self) -> int:
        return self.port_base + 2

    def enroll(self, count: int, *, prefix: str = "bench") -> list[Device]:
        """Return `count` devices of a model without attestation, each enrolled over EST by its claim."""
        self.api.post("/models", {"id": "bench", "attestation": "none", "min_tier": "software"})
        folder = self.folder / "devices"
        folder.mkdir(exist_ok=True)
        with ThreadPoolExecutor(4) as threads:
            return list(threads.map(lambda n: self._enroll_one(folder, f"{prefix}-{n}"), range(count)))

    def _enroll_one(self, folder: Path, device_id: str) -> Device:
        claim = self.api.post("/devices", {"id": device_id, "model": "bench"})["claim"]
        device = Device(device_id, folder / f"{device_id}.pem", folder / f"{device_id}.key")
        context = ssl.create_default_context(cafile=str(self.ca_file))
        headers = urllib3.make_headers(basic_auth=f"{device_id}:{claim}")
        self._ask_est("simpleenroll", device, context, headers)
        return device

    def renew(self, device: Device) -> None:
        """Give a device a certificate for a new key, on a new connection that the old one authenticates."""
        self._ask_est("simplereenroll", device, client_context(self.ca_file, device), {})

    def _ask_est(
        self, operation: str, device: Device, context: ssl.SSLContext, headers: dict[str, str]
    ) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        with urllib3.PoolManager(ssl_context=context, retries=False) as pool:
            answer = pool.request(
                "POST",
                f"https://localhost:{self.port_base + 1}/.well-known/est/{operation}",
                body=base64.b64encode(make_csr(key, device.id)),
                headers={"Content-Type": "application/pkcs10", **headers},
            )
        if answer.status != 200:
            raise RuntimeError(f"{device.id}: {operation} got {answer.status} {answer.data!r}")
        chain = b"".join(one.public_bytes(Encoding.PEM) for one in parse_certificates(answer.data))
        device.chain.write_bytes(chain)
        device.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


def make_csr(
    key: ec.EllipticCurvePrivateKey,
    name: str,
    *,
    names: Sequence[str] = (),
    encoding: Encoding = Encoding.DER,
) -> bytes:
    """Return a PKCS#10 request for a common name and DNS names."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
    if names:
        found = x509.SubjectAlternativeName([x509.DNSName(one) for one in names])
        builder = builder.add_extension(found, critical=False)
    return builder.sign(key, hashes.SHA256()).public_bytes(encoding)


def free_port_base(count: int = 8) -> int:
    """Return a port whose `count - 1` followers are free too, below those the kernel hands out by itself."""
    while True:
        base = random.SystemRandom().randrange(10_000, 32_000)
        if all(_is_free(port) for port in range(base, base + count)):
            return base


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


@contextmanager
def platform(folder: Path) -> Iterator[Rig]:
    """Yield a fresh platform without the demo camera; it is stopped afterwards."""
    base = free_port_base()
    data = folder / "data"
    command = [
        sys.executable, "-m", "fleetward", "up", "--data", str(data), "--port-base", str(base), "--no-demo",
    ]  # fmt: skip
    with (folder / "platform.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        wait_for(lambda: (data / "ready.json").exists() or process.poll() is not None, _START_TIMEOUT_S)
        if process.poll() is not None:
            raise RuntimeError((folder / "platform.log").read_text()[-2000:])
        yield Rig(folder, base, process)
    finally:
        process.terminate()
        process.wait(30)


def wait_for(holds: Callable[[], bool], timeout_s: float) -> None:
    """Return once `holds`; raise TimeoutError when it does not in time."""
    deadline = time.monotonic() + timeout_s
    while not holds():
        if time.monotonic() > deadline:
            raise TimeoutError("the benchmark's peer or platform did not get ready")
        time.sleep(0.05)


def wait_for_port(port: int, timeout_s: float = 20) -> None:
    wait_for(lambda: not _is_free(port), timeout_s)


def cpu_seconds(pid: int) -> float:
    """Return user and system time a process has used, in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def children_of(pid: int) -> list[int]:
    """Return the process ids below `pid`."""
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    below = [int(one) for one in found]
    return below + [grandchild for child in below for grandchild in children_of(child)]


def raise_file_limit() -> None:
    """Allow as many open sockets as the machine lets us."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def client_context(ca_file: Path, device: Device) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(ca_file))
    context.load_cert_chain(device.chain, device.key)
    return context


def packet(head: int, body: bytes) -> bytes:
    """Return an MQTT control packet (MQTT 3.1.1 section 2.2)."""
    length, count = b"", len(body)
    while True:
        count, digit = divmod(count, 128)
        length += bytes([digit | (0x80 if count else 0)])
        if not count:
            return bytes([head]) + length + body


def text(value: str) -> bytes:
    raw = value.encode()
    return struct.pack(">H", len(raw)) + raw


def connect_packet(client_id: str) -> bytes:
    return packet(0x10, text("MQTT") + b"\x04\x02\x00\x3c" + text(client_id))


def open_mqtt_socket(port: int, context: ssl.SSLContext, client_id: str) -> ssl.SSLSocket:
    """Return a connected MQTT socket. Raises ConnectionRefusedError when the broker says no."""
    stream = context.wrap_socket(socket.create_connection(("127.0.0.1", port)), server_hostname="localhost")
    stream.sendall(connect_packet(client_id))
    answer = stream.recv(4)
    if answer[3:] != b"\x00":
        raise ConnectionRefusedError(f"{client_id}: CONNACK {answer.hex()}")
    return stream


async def open_mqtt(
    port: int, context: ssl.SSLContext, client_id: str
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Return a connected MQTT stream. Raises ConnectionRefusedError when the broker says no."""
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", port, ssl=context, server_hostname="localhost"
    )
    writer.write(connect_packet(client_id))
    answer = await reader.readexactly(4)
    if answer[0] != 0x20 or answer[3] != 0:
        writer.close()
        raise ConnectionRefusedError(f"CONNACK {answer.hex()}")
    return reader, writer
