"""Messaging as it runs in production: nats-server, our jobs, a database, and MQTT clients of others."""

import asyncio
import json
import subprocess
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509 import CertificateSigningRequestBuilder, Name

from fleetward.base.clock import SystemClock
from fleetward.base.db import Tx
from fleetward.base.events import Event, Severity, emit, list_events
from fleetward.base.feature import Feature, Hears
from fleetward.features.attestation import store as appraisals
from fleetward.features.attestation.model import Appraisal
from fleetward.features.devices import service as devices
from fleetward.features.devices.model import ENDED, AttestationPolicy, DeviceState, KeyTier, Model
from fleetward.features.messaging import service
from fleetward.features.messaging.model import CommandState
from fleetward.features.pki import service as pki
from fleetward.features.pki.authority.ceremony import ensure_server_certificate
from fleetward.features.pki.model import identify_device
from fleetward.features.pki.service import PkiContext
from fleetward.migrations.runner import migrate
from fleetward.outside.nats.config import BrokerSettings
from fleetward.outside.nats.connection import NatsAddress
from fleetward.outside.nats.credentials import NatsKeys, ensure_nats_keys
from fleetward.outside.nats.runtime import ROLES, Messaging, MessagingSettings, start_messaging
from fleetward.outside.nats.streams import Retention
from fleetward.programs.server.build import parts_of
from fleetward.programs.server.doors import DOORS
from support.database import open_database
from support.hierarchy import TRUST_DOMAIN, make_pki
from support.mosquitto import mosquitto_command
from support.ports import free_ports

T = TypeVar("T")
PLAIN = "plain-sensor"
ATTESTED = "camera"
_MIB = 1024**2


class LoopThread:
    """An event loop in a thread, so that plain tests can drive what is asynchronous."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.tasks: list[asyncio.Task[Any]] = []
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
    while rest:  # asyncio.wait_for, which nats-py uses, can lose a cancellation (CPython 3.11)
        for task in rest:
            task.cancel()
        _, pending = await asyncio.wait(rest, timeout=1)
        rest = list(pending)


@dataclass(frozen=True)
class Issued:
    """A device's certificate and key on disk."""

    device: str
    certificate: Path
    key: Path
    serial: int


class Rig:
    """A platform's messaging in a folder; `start` and `stop` it as often as the test needs."""

    def __init__(
        self,
        folder: Path,
        database: str = "",
        hears: tuple[Hears, ...] = (),
        doors: tuple[Feature, ...] = DOORS,
    ) -> None:
        """Prepare one over a database of its own, SQLite unless `database` is another's URL."""
        self.folder = folder
        self.parts = replace(parts_of(doors), hears=hears)
        self.clock = SystemClock()
        self.pki: PkiContext = make_pki(folder, self.clock.now())
        ensure_server_certificate(folder, self.pki.server_ca, ["localhost", "127.0.0.1"], self.clock.now())
        self.keys: NatsKeys = ensure_nats_keys(folder / "keys")
        (folder / "logs").mkdir(exist_ok=True)
        self.db = open_database(database or f"sqlite:///{folder / 'fleetward.sqlite3'}", self.clock)
        migrate(self.db)
        self.mqtt_port, self.nats_port = free_ports(), free_ports()
        self.broker = BrokerSettings(
            folder=folder / "nats",
            mqtt_listen=("127.0.0.1", self.mqtt_port),
            nats_listen=("127.0.0.1", self.nats_port),
            certificate=folder / "tls" / "server.pem",
            private_key=folder / "tls" / "server.pem",
            device_ca=folder / "ca" / "device-ca.crt",
            log_file=folder / "logs" / "nats.log",
            max_store_bytes=256 * _MIB,
        )
        self.address = NatsAddress(
            (f"tls://127.0.0.1:{self.nats_port}",),
            folder / "ca" / "ca-bundle.pem",
            "localhost",
            is_tls_first=True,
        )
        self.loop = LoopThread()
        self._running: Messaging | None = None
        with self.db.write("operator:test") as tx:
            devices.add_model(tx, Model(PLAIN, attestation=AttestationPolicy.NONE))
            devices.add_model(tx, Model(ATTESTED))

    @property
    def messaging(self) -> Messaging:
        assert self._running is not None
        return self._running

    def start(self, roles: frozenset[str] = ROLES) -> None:
        settings = MessagingSettings(
            self.address,
            self.broker,
            roles,
            retention=Retention(max_bytes=100 * _MIB, max_mqtt_bytes=16 * _MIB),
            parts=self.parts,
        )
        self._running = self.loop.run(
            start_messaging(
                settings,
                self.keys,
                db=self.db,
                clock=self.clock,
                identify=partial(identify_device, TRUST_DOMAIN),
            )
        )

    def stop(self) -> None:
        running, self._running = self._running, None
        if running is not None:
            self.loop.run(running.stop())

    def close(self) -> None:
        self.stop()
        self.loop.close()
        self.db.close()

    def enroll(self, device: str, *, model: str = PLAIN, lifetime: timedelta = timedelta(hours=1)) -> Issued:
        """Register a device where it is new, and give it a certificate."""
        key = ec.generate_private_key(ec.SECP256R1())
        csr = CertificateSigningRequestBuilder().subject_name(Name([])).sign(key, hashes.SHA256())
        with self.db.write(f"device:{device}") as tx:
            if devices.find_device(tx, device) is None:
                devices.register(tx, device, model)
            issued = pki.issue_device_certificate(tx, self.pki, device, csr, lifetime)
            devices.record_enrollment(tx, device, KeyTier.SOFTWARE)
        files = Issued(
            device,
            self.folder / f"{issued.serial:x}.pem",
            self.folder / f"{issued.serial:x}.key",
            issued.serial,
        )
        chain = (issued.certificate, *issued.chain)
        files.certificate.write_bytes(b"".join(one.public_bytes(Encoding.PEM) for one in chain))
        files.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return files

    def appraise(self, device: str, *, lifetime: timedelta, is_good: bool = True) -> datetime:
        """Record an appraisal as attestation would, and return its end."""
        with self.db.write(f"device:{device}") as tx:
            return record_appraisal(tx, device, lifetime, is_good=is_good)

    def transition(self, device: str, to: DeviceState) -> None:
        """Move a device as an operator would; its end revokes its certificates."""
        with self.db.write("operator:test") as tx:
            if to in ENDED:
                devices.end(tx, device, to, "a test")
            else:
                devices.transition(tx, device, to, "a test")

    def command(self, device: str, name: str, timeout_s: int = 30) -> int:
        with self.db.write("operator:test") as tx:
            return service.queue_command(tx, device, name, {}, timeout_s).id

    def command_state(self, device: str, number: int) -> CommandState:
        with self.db.read() as tx:
            return service.get_command(tx, device, number).state

    def events(self, kind: str, device: str | None = None) -> list[Event]:
        with self.db.read() as tx:
            return [event for event in list_events(tx, device=device, limit=5000) if event.kind == kind]

    def wait_for_event(self, kind: str, device: str | None = None, timeout_s: float = 20) -> Event:
        return wait_for(lambda: self.events(kind, device), timeout_s=timeout_s)[-1]

    def mosquitto(
        self, program: str, issued: Issued, *options: str, client_id: str | None = None
    ) -> list[str]:
        """Return the command line of mosquitto_pub or mosquitto_sub with a certificate."""
        address, ca_file = f"localhost:{self.mqtt_port}", self.folder / "ca" / "ca-bundle.pem"
        name = client_id or issued.device
        return mosquitto_command(program, address, ca_file, name, issued.certificate, issued.key, *options)

    def publish(
        self, issued: Issued, topic: str, payload: str, *, qos: int = 1, client_id: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Have mosquitto_pub publish one message and return how it ended."""
        command = self.mosquitto(
            "mosquitto_pub", issued, "-q", str(qos), "-t", topic, "-s", client_id=client_id
        )
        return subprocess.run(command, input=payload, capture_output=True, text=True, timeout=30, check=False)

    @contextmanager
    def subscriber(self, issued: Issued, *topics: str) -> Iterator["Subscriber"]:
        """Yield a connected mosquitto_sub."""
        options = [option for topic in topics for option in ("-t", topic)]
        command = self.mosquitto("mosquitto_sub", issued, "-q", "1", "-d", "-F", "MSG %t %p", *options)
        command = ["stdbuf", "-oL", *command]  # a pipe would hold its lines back
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, bufsize=1
        ) as process:
            subscriber = Subscriber(process)
            try:
                wait_for(lambda: any("SUBACK" in line for line in subscriber.lines))
                yield subscriber
            finally:
                process.kill()


class Subscriber:
    """A running mosquitto_sub and what it has printed."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.lines: list[str] = []
        self.ended_at: float | None = None
        threading.Thread(target=self._read, daemon=True).start()

    @property
    def messages(self) -> list[tuple[str, Any]]:
        found = [line.split(" ", 2) for line in self.lines if line.startswith("MSG ")]
        return [(topic, json.loads(payload)) for _, topic, payload in found]

    @property
    def is_refused(self) -> bool:
        """Whether it lost its connection and was refused when it came back, as it does by itself."""
        return any("CONNACK (5)" in line for line in self.lines)

    @property
    def connections(self) -> int:
        return sum("CONNACK (0)" in line for line in self.lines)

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))


def record_appraisal(tx: Tx, device: str, lifetime: timedelta, *, is_good: bool = True) -> datetime:
    """Record an appraisal and tell of it, as attestation does; return its end."""
    end = tx.now + lifetime
    appraisals.insert_appraisal(tx, Appraisal(device, tx.now, is_good, end), keep=10)
    if is_good:
        emit(tx, "attestation.appraised", "An appraisal.", device=device)
        devices.record_good_appraisal(tx, device)
    else:
        emit(tx, "attestation.failed", "An appraisal.", device=device, severity=Severity.CRITICAL)
    return end


def wait_for(find: Callable[[], T], *, timeout_s: float = 20) -> T:
    """Return what `find` gives as soon as it is true; fail with its last value."""
    deadline = time.monotonic() + timeout_s
    while not (found := find()):
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout_s} s in vain, last found {found!r}")
        time.sleep(0.02)
    return found
