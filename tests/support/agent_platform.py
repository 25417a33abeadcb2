"""The platform as far as an agent needs it: real enrollment over real TLS, and a broker without policy.

The agents are real processes: `fleetward agent run`.
"""

import asyncio
import json
import os
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import nats
import pytest
import sqlalchemy as sa
from cryptography.hazmat.primitives.serialization import Encoding

from fleetward.base.agent_config import AgentConfig, Keys, SoftwareKeys, render_agent_config
from fleetward.base.clock import Clock, SystemClock
from fleetward.base.files import write_secret
from fleetward.features.enrollment import service as enrollment
from fleetward.features.pki.authority.ceremony import ensure_server_certificate
from fleetward.migrations.runner import migrate
from fleetward.programs.server.tls import TlsServer, devices_context
from support.agent_peers import PlainBroker, broker_settings
from support.database import open_database
from support.enrollment import add_model, make_app, make_pki
from support.ports import free_ports

T = TypeVar("T")
WAIT_S = 40.0
# A device keeps what Python compiled; where the tests' environment does not, every start would pay for it.
_COMPILED = {"PYTHONDONTWRITEBYTECODE": ""}


def wait_for(find: Callable[[], T | None], what: str, *, timeout_s: float = WAIT_S) -> T:
    """Return what `find` finds; fail when it finds nothing for `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while not (found := find()):
        if time.monotonic() > deadline:
            pytest.fail(f"waited {timeout_s:.0f} s for {what}")
        time.sleep(0.05)
    return found


@dataclass(frozen=True)
class Where:
    """What a device is told about its platform."""

    server: str
    mqtt: str
    ca_file: Path


class BrokerReader:
    """Reads what devices publish on a broker: `messages` is (subject, value), in order."""

    def __init__(self, nats_port: int, messages: list[tuple[str, Any]]) -> None:
        """Begin to add to `messages`."""
        self.messages = messages
        self._url = f"nats://127.0.0.1:{nats_port}"
        self._end: Callable[[], object] = lambda: None
        ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._read(ready)), daemon=True)
        self._thread.start()
        assert ready.wait(20)

    def close(self) -> None:
        self._end()
        self._thread.join()

    async def _read(self, ready: threading.Event) -> None:
        connection = await nats.connect(self._url, allow_reconnect=False)
        stopped = asyncio.Event()
        loop = asyncio.get_running_loop()
        self._end = lambda: loop.call_soon_threadsafe(stopped.set)

        async def keep(message: Any) -> None:
            self.messages.append((message.subject, json.loads(message.data)))

        await connection.subscribe("d.>", cb=keep)
        await connection.flush()
        ready.set()
        await stopped.wait()
        await connection.close()


class SmallPlatform:
    """Devices port and broker in `folder`. `messages` is what devices published while the broker ran."""

    def __init__(self, folder: Path, *, clock: Clock | None = None) -> None:
        """Prepare a platform that lives by `clock`, the system's when it is None."""
        self.folder = folder
        self.db = open_database(f"sqlite:///{folder / 'db.sqlite3'}", clock or SystemClock())
        migrate(self.db)
        self.pki = make_pki(folder, self.db)
        ensure_server_certificate(folder, self.pki.server_ca, ["localhost"], self.db.clock.now())
        self.ca_file = folder / "root.pem"
        self.ca_file.write_bytes(self.pki.root.public_bytes(Encoding.PEM))
        chain = folder / "device-chain.pem"
        authorities = (self.pki.device_ca.certificate, self.pki.root)
        chain.write_bytes(b"".join(one.public_bytes(Encoding.PEM) for one in authorities))
        bundle = folder / "tls" / "server.pem"
        self.app = make_app(folder, self.db, self.pki)
        self.context = devices_context(bundle, None, authorities)
        self.port = free_ports()
        self.broker = PlainBroker(broker_settings(folder, bundle, bundle, chain))
        self.messages: list[tuple[str, Any]] = []
        self._server: tuple[TlsServer, threading.Thread] | None = None
        self._reader: BrokerReader | None = None

    @property
    def where(self) -> Where:
        server, mqtt = f"https://localhost:{self.port}", f"localhost:{self.broker.mqtt_port}"
        return Where(server, mqtt, self.ca_file)

    def start_server(self) -> None:
        listener = socket.create_server(("127.0.0.1", self.port))
        server = TlsServer(self.app, [listener], self.context, lambda _: None, lifespan="off")
        thread = threading.Thread(target=server.run)
        thread.start()
        self._server = (server, thread)

    def stop_server(self) -> None:
        if self._server is not None:
            self._server[0].should_exit = True
            self._server[1].join()
            self._server = None

    def start_broker(self) -> None:
        self.broker.start()
        self._reader = BrokerReader(self.broker.nats_port, self.messages)

    def kill_broker(self) -> None:
        if self._reader is not None:
            self._reader.close()
            self._reader = None
        self.broker.kill()

    def stop(self) -> None:
        self.stop_server()
        self.kill_broker()
        self.db.close()

    def add_device(self, device_id: str, *, lifetime_s: int = 86_400) -> str:
        """Register a device whose certificates live for `lifetime_s`; return its claim."""
        add_model(self.db, f"model-{device_id}")
        with self.db.write("operator:test") as tx:
            # Shorter than a model may say: tests have no half minute to spare.
            change = sa.text("UPDATE models SET cert_lifetime_s = :s WHERE id = :id")
            tx.conn.execute(change, {"s": lifetime_s, "id": f"model-{device_id}"})
            _, claim = enrollment.add_device(tx, device_id, f"model-{device_id}")
        return claim.token

    def add_claim(self, device_id: str) -> str:
        with self.db.write("operator:test") as tx:
            return enrollment.create_claim(tx, device_id, timedelta(minutes=5)).token

    def published(self, topic: str) -> list[Any]:
        """Return the values published on an MQTT topic, in order."""
        subject = topic.replace("/", ".")
        return [value for found, value in self.messages if found == subject]

    def send(self, topic: str, payload: bytes) -> None:
        """Publish towards devices, as the platform does."""

        async def publish() -> None:
            connection = await nats.connect(f"nats://127.0.0.1:{self.broker.nats_port}")
            await connection.publish(topic.replace("/", "."), payload)
            await connection.drain()

        asyncio.run(publish())


@dataclass
class AgentHost:
    """A device with an agent that can be started, stopped and killed."""

    where: Where
    device_id: str
    folder: Path
    keys: Keys | None = None
    environment: dict[str, str] = field(default_factory=dict)
    program: tuple[str, ...] = ("fleetward", "agent", "run", "--config")
    process: subprocess.Popen[bytes] | None = None

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.config = AgentConfig(
            device_id=self.device_id,
            server=self.where.server,
            mqtt=self.where.mqtt,
            ca_file=self.where.ca_file,
            state_dir=self.folder / "state",
            keys=self.keys or SoftwareKeys(self.folder / "keys"),
            claim_file=self.folder / "claim",
        )
        self.config_file = self.folder / "agent.toml"
        self.config_file.write_bytes(render_agent_config(self.config))

    def give_claim(self, token: str) -> None:
        write_secret(self.folder / "claim", token.encode())

    def start(self) -> None:
        self.config.status_file.unlink(missing_ok=True)
        command = [sys.executable, "-m", *self.program, str(self.config_file)]
        with (self.folder / "agent.log").open("ab") as log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=log, env={**os.environ, **_COMPILED, **self.environment}
            )

    def stop(self) -> int:
        """Stop it by SIGTERM; return its exit code."""
        assert self.process is not None
        self.process.terminate()
        code = self.process.wait(timeout=20)
        self.process = None
        return code

    def wait(self) -> int:
        """Return the exit code with which it ends by itself."""
        assert self.process is not None
        code = self.process.wait(timeout=30)
        self.process = None
        return code

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    @property
    def status(self) -> dict[str, Any]:
        try:
            found: dict[str, Any] = json.loads(self.config.status_file.read_bytes())
        except FileNotFoundError:
            return {}
        return found

    def count_queued(self) -> int:
        """Return how many messages wait on its disk."""
        with closing(sqlite3.connect(self.config.state_dir / "spool.sqlite3")) as db:
            return int(db.execute("SELECT count(*) FROM items").fetchone()[0])

    def log_events(self) -> list[dict[str, Any]]:
        lines = (self.folder / "agent.log").read_text().splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    def is_logged(self, event: str) -> bool:
        return any(entry["event"] == event for entry in self.log_events())

    def say(self, *notes: dict[str, Any]) -> None:
        """Hand notes to the agent, as the application does."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as application:
            application.connect(str(self.config.agent_socket))
            for note in notes:
                application.send(json.dumps(note).encode())


@contextmanager
def small_platform(folder: Path) -> Iterator[SmallPlatform]:
    platform = SmallPlatform(folder)
    platform.start_server()
    platform.start_broker()
    try:
        yield platform
    finally:
        platform.stop()
