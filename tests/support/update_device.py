"""A device that updates: slots, agent state and counter in a folder, a server it reaches over real HTTP."""

import io
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Self, cast

import urllib3
import uvicorn
from fastapi import FastAPI
from starlette.requests import HTTPConnection

from fleetward.base.agent_config import AgentConfig, SoftwareKeys
from fleetward.base.clock import Clock
from fleetward.base.errors import UnavailableError
from fleetward.base.web import add_error_handlers
from fleetward.features.devices.model import Device as RegisteredDevice
from fleetward.features.devices.model import DeviceState
from fleetward.features.devices.peer import DevicePeer, authenticated_device
from fleetward.features.pki.model import DeviceCertificate
from fleetward.features.updates.boot.pointer import BootPointer, Slot
from fleetward.features.updates.context import UpdatesContext
from fleetward.features.updates.device import messages as m
from fleetward.features.updates.device.settings import Firmware
from fleetward.features.updates.http import device_router
from fleetward.features.updates.model import Release
from fleetward.features.updates.ports import ArtifactFetcher, Download
from fleetward.migrations.runner import migrate
from fleetward.outside.slots.counter import COUNTER_FILE, FileCounter
from fleetward.outside.slots.folder import SlotFolder, prepare_slot
from fleetward.programs.agent.abilities.updates.runner import Outlets, UpdateRunner
from fleetward.programs.agent.boot import Start, start_firmware
from fleetward.programs.agent.log import AgentLog
from support.database import open_database
from support.updates import MODEL, Publisher, make_publisher

OLD = b"old firmware " * 5_000
NEW = os.urandom(600_000)
_STEPS = 2000


@contextmanager
def serve_updates(context: UpdatesContext, now: datetime) -> Iterator[str]:
    """Run the devices' routes on a real HTTP server for a device of the model its header names."""

    def peer(connection: HTTPConnection) -> DevicePeer:
        model = connection.headers.get("x-test-model", MODEL)
        device = RegisteredDevice(
            id="cam-1", model=model, group="default", state=DeviceState.ACTIVE, tier=None, hardware=None,
            firmware_version=None, created_at=now, state_changed_at=now, state_reason="",
        )  # fmt: skip
        return DevicePeer(device, cast("DeviceCertificate", None))  # the routes look at the model alone

    app = FastAPI()
    app.state.updates = context
    app.dependency_overrides[authenticated_device] = peer
    app.include_router(device_router)
    add_error_handlers(app)
    config = uvicorn.Config(app, host="127.0.0.1", port=0, log_level="error", lifespan="off", ws="none")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        thread.join(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()


@dataclass(frozen=True)
class Answer:
    """A `Download` of a test."""

    status: int
    headers: Mapping[str, str]
    chunks: Iterator[bytes]


@dataclass
class HttpFetcher:
    """An `ArtifactFetcher` over plain HTTP; remembers what was asked."""

    url: str
    model: str = MODEL
    asked: list[tuple[str, int]] = field(default_factory=list)
    pool: urllib3.PoolManager = field(default_factory=urllib3.PoolManager)

    @contextmanager
    def __call__(self, path: str, *, offset: int = 0) -> Iterator[Download]:
        self.asked.append((path, offset))
        headers = {"x-test-model": self.model}
        if offset:
            headers["Range"] = f"bytes={offset}-"
        try:
            response = self.pool.request(
                "GET", self.url + path, headers=headers, preload_content=False, retries=False
            )
        except urllib3.exceptions.HTTPError as error:
            raise UnavailableError("server: expected an answer, found none") from error
        try:
            lower = {name.lower(): value for name, value in response.headers.items()}
            yield Answer(response.status, lower, response.stream(65_536))
        finally:
            response.close()

    @property
    def images(self) -> list[int]:
        """Offsets at which images were asked for."""
        return [offset for path, offset in self.asked if path.endswith(".image")]

    def close(self) -> None:
        self.pool.clear()


@dataclass
class Bent:
    """An `ArtifactFetcher` that changes answers of the one behind it."""

    inner: ArtifactFetcher
    bend: Callable[[str, Download], Download]

    def __call__(self, path: str, *, offset: int = 0) -> AbstractContextManager[Download]:
        return self._open(path, offset)

    @contextmanager
    def _open(self, path: str, offset: int) -> Iterator[Download]:
        with self.inner(path, offset=offset) as answer:
            yield self.bend(path, answer)


class Device:
    """A device in a folder: `state/`, `slots/` and what provisioning pinned."""

    def __init__(self, folder: Path, clock: Clock) -> None:
        self.clock = clock
        self.told: list[m.Tell] = []
        self.reports: list[m.Report] = []
        self.reboots: list[str] = []
        self.seconds = 1000.0
        self.firmware = Firmware(
            slots_dir=folder / "slots",
            model=MODEL,
            keys_file=folder / "pinned.json",
            tuf_root=folder / "root.json",
        )
        self.config = AgentConfig(
            device_id="cam-1",
            server="https://localhost:1",
            mqtt="localhost:1",
            ca_file=folder / "ca.pem",
            state_dir=folder / "state",
            keys=SoftwareKeys(folder / "keys"),
            sections=(self.firmware,),
        )
        self.counter = FileCounter(self.config.state_dir / COUNTER_FILE)
        self.slots = SlotFolder(self.firmware.slots_dir)

    @classmethod
    def provision(
        cls, folder: Path, publisher: Publisher, first: Release, image: bytes, clock: Clock
    ) -> Self:
        """Do what the factory does: pin root and keys, install the first release."""
        folder.mkdir()
        for name, content in (
            ("root.json", publisher.root),
            ("pinned.json", publisher.pinned),
            ("ca.pem", b""),
        ):
            (folder / name).write_bytes(content)
        source = folder / "factory.img"
        source.write_bytes(image)
        prepare_slot(folder / "slots", source, first.manifest)
        source.unlink()
        return cls(folder, clock)

    def boot(self) -> Start:
        """Do what the boot stage does before it starts programs."""
        log = AgentLog(self.clock, out=io.StringIO())
        return start_firmware(self.config, self.firmware, self.counter, log)

    def runner(self, fetch: ArtifactFetcher) -> UpdateRunner:
        """Return what a freshly started agent runs."""
        outlets = Outlets(self.told.append, self.reports.append, self.reboots.append)
        return UpdateRunner(
            self.firmware,
            state_dir=self.config.state_dir,
            device_id="cam-1",
            fetch=fetch,
            counter=self.counter,
            outlets=outlets,
            timer=lambda: self.seconds,
        )

    def run(
        self, runner: UpdateRunner, until: Callable[[], bool], *, on_pause: Callable[[], None] | None = None
    ) -> None:
        """Step, passing over pauses, until something is so."""
        for _ in range(_STEPS):
            pause_s = runner.step(self.clock.now())
            if until():
                runner.close()
                return
            if pause_s and on_pause is not None:
                on_pause()
            self.seconds += pause_s
        raise AssertionError(f"still {self.reports[-1]} after {_STEPS} steps; told {self.told}")

    def run_to_reboot(self, fetch: ArtifactFetcher) -> None:
        """Run an agent until it asks for a reboot, then boot."""
        before = len(self.reboots)
        self.run(self.runner(fetch), lambda: len(self.reboots) > before)

    def run_to_rest(self, fetch: ArtifactFetcher) -> None:
        """Run an agent until it has checked once and waits for the next check."""
        seen = len(self.reports)
        self.run(
            self.runner(fetch),
            lambda: any(one.state == "checking" for one in self.reports[seen:]) and self.state == "idle",
        )

    @property
    def state(self) -> str:
        return self.reports[-1].state

    @property
    def error(self) -> str:
        return self.reports[-1].error

    @property
    def kinds(self) -> list[str]:
        return [one.kind for one in self.told]

    @property
    def pointer(self) -> BootPointer | None:
        return self.slots.read_pointer()

    def holds(self, slot: Slot) -> bytes | None:
        path = self.slots.image(slot)
        return path.read_bytes() if path.exists() else None


@dataclass(frozen=True)
class UpdateRig:
    """A platform with two models, its HTTP server, and a device of the first that runs 1.0.0 (`OLD`)."""

    publisher: Publisher
    device: Device
    fetch: HttpFetcher


@contextmanager
def update_rig(folder: Path, clock: Clock) -> Iterator[UpdateRig]:
    """Run one. SQLite is enough: the device does not see the database."""
    database = open_database(f"sqlite:///{folder / 'fleetward.sqlite3'}", clock)
    migrate(database)
    publisher = make_publisher(folder / "platform", database, MODEL, "camera-2")
    device = Device.provision(folder / "device", publisher, publisher.publish("1.0.0", OLD), OLD, clock)
    device.boot()
    with serve_updates(publisher.context, clock.now()) as url:
        fetch = HttpFetcher(url)
        yield UpdateRig(publisher, device, fetch)
        fetch.close()
    database.close()


def bend_images(fetch: HttpFetcher, change: Callable[[Iterator[bytes]], Iterator[bytes]]) -> Bent:
    """Return a fetcher whose images come out as `change` makes them."""

    def bend(path: str, answer: Download) -> Download:
        if not path.endswith(".image"):
            return answer
        return Answer(answer.status, answer.headers, change(answer.chunks))

    return Bent(fetch, bend)
