"""A nats-server of a test's own with a test CA, and MQTT clients nobody here wrote."""

import asyncio
import shutil
import socket
import subprocess
import threading
from collections.abc import Coroutine
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any, TypeVar

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from fleetward.base.errors import InvalidInputError
from fleetward.base.ids import parse_device_id
from fleetward.outside.nats.config import BrokerSettings
from fleetward.outside.nats.connection import NatsAddress

T = TypeVar("T")
TRUST_DOMAIN = "test.example"
_ID_PREFIX = f"spiffe://{TRUST_DOMAIN}/device/"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class LoopThread:
    """An event loop in a thread, so that plain tests can drive what is asynchronous."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, name="test-loop", daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T], timeout_s: float = 60) -> T:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(timeout_s)

    def close(self) -> None:
        self.run(_end_tasks())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(10)
        self.loop.close()


async def _end_tasks() -> None:
    rest = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    for task in rest:
        task.cancel()
    await asyncio.gather(*rest, return_exceptions=True)


@dataclass(frozen=True)
class Issued:
    """A certificate and its key on disk."""

    certificate: Path
    key: Path
    serial: str


class FleetCa:
    """Root, device CA and server CA in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._root = _issue("test root", None, is_ca=True)
        self._device = _issue("test device CA", self._root, is_ca=True)
        self._server = _issue("test server CA", self._root, is_ca=True)
        self.root_file = self._save("root", self._root).certificate
        self.device_ca_file = self._save("device-ca", self._device).certificate
        usage = [ExtendedKeyUsageOID.SERVER_AUTH]
        names: list[x509.GeneralName] = [x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))]
        self.server = self._save(
            "server", _issue("localhost", self._server, usage=usage, names=names), self._server[1]
        )

    def issue(
        self,
        device: str,
        *,
        lifetime: timedelta = timedelta(hours=1),
        age: timedelta = timedelta(minutes=5),
        uri: str | None = None,
        file: str = "",
    ) -> Issued:
        """Issue a device certificate that names `device`."""
        names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(uri or _ID_PREFIX + device)]
        usage = [ExtendedKeyUsageOID.CLIENT_AUTH]
        made = _issue(device, self._device, usage=usage, names=names, lifetime=lifetime, age=age)
        return self._save(file or device, made)

    def _save(
        self, name: str, made: tuple[ec.EllipticCurvePrivateKey, x509.Certificate], *chain: x509.Certificate
    ) -> Issued:
        key, certificate = made
        files = Issued(
            self.folder / f"{name}.pem", self.folder / f"{name}.key", f"{certificate.serial_number:x}"
        )
        files.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        pem = b"".join(one.public_bytes(Encoding.PEM) for one in (certificate, *chain))
        files.certificate.write_bytes(pem)
        return files


def _issue(
    name: str,
    issuer: tuple[ec.EllipticCurvePrivateKey, x509.Certificate] | None,
    *,
    is_ca: bool = False,
    usage: list[x509.ObjectIdentifier] | None = None,
    names: list[x509.GeneralName] | None = None,
    lifetime: timedelta = timedelta(hours=1),
    age: timedelta = timedelta(minutes=5),
) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)  # noqa: TID251 - nats-server reads the real clock
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject if issuer is None else issuer[1].subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - age)
        .not_valid_after(now + lifetime)
        .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
    )
    if usage:
        builder = builder.add_extension(x509.ExtendedKeyUsage(usage), critical=False)
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return key, builder.sign(key if issuer is None else issuer[0], hashes.SHA256())


def identify(certificate: x509.Certificate) -> str:
    """Return the device that a certificate's SAN names in the test trust domain."""
    try:
        san = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound as error:
        raise InvalidInputError("certificate: expected a SAN, found none") from error
    for uri in san.get_values_for_type(x509.UniformResourceIdentifier):
        if uri.startswith(_ID_PREFIX):
            return parse_device_id(uri.removeprefix(_ID_PREFIX))
    raise InvalidInputError("certificate: expected a device of this trust domain, found another name")


@dataclass(frozen=True)
class BrokerPlace:
    """Where a test's broker lies and listens."""

    ca: FleetCa
    settings: BrokerSettings
    mqtt_port: int
    nats_port: int

    @property
    def address(self) -> NatsAddress:
        return NatsAddress((f"tls://127.0.0.1:{self.nats_port}",), self.ca.root_file, "localhost")

    def mosquitto(self, program: str, issued: Issued, client_id: str, *options: str) -> list[str]:
        """Return the command line of mosquitto_pub or mosquitto_sub with a certificate."""
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
        return [
            program, "-h", "127.0.0.1", "-p", str(self.mqtt_port), "--cafile", str(self.ca.root_file),
            "--cert", str(issued.certificate), "--key", str(issued.key), "-i", client_id, *options,
        ]  # fmt: skip

    def publish(
        self, issued: Issued, client_id: str, topic: str, payload: str, *, qos: int = 1
    ) -> subprocess.CompletedProcess[str]:
        """Have mosquitto_pub publish one message and return how it ended."""
        command = self.mosquitto("mosquitto_pub", issued, client_id, "-q", str(qos), "-t", topic, "-s")
        return subprocess.run(command, input=payload, capture_output=True, text=True, timeout=30, check=False)


def make_place(folder: Path) -> BrokerPlace:
    """Choose ports and issue certificates for a broker in `folder`."""
    ca = FleetCa(folder / "ca")
    mqtt, nats = free_port(), free_port()
    (folder / "logs").mkdir(exist_ok=True)
    settings = BrokerSettings(
        folder=folder / "nats",
        mqtt_listen=("127.0.0.1", mqtt),
        nats_listen=("127.0.0.1", nats),
        certificate=ca.server.certificate,
        private_key=ca.server.key,
        device_ca=ca.device_ca_file,
        log_file=folder / "logs" / "nats.log",
        max_store_bytes=256 * 1024**2,
    )
    return BrokerPlace(ca, settings, mqtt, nats)
