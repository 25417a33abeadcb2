"""Both HTTPS ports' applications, built as `programs.server.build` builds them, without their processes."""

from datetime import timedelta
from pathlib import Path
from typing import Any, NoReturn, cast

import httpx
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from fastapi import FastAPI

from fleetward.base.clock import Clock
from fleetward.base.config import ServerConfig
from fleetward.base.layout import DataFolder
from fleetward.features.access.service.local_token import read_admin_token
from fleetward.features.enrollment import service as enrollment
from fleetward.features.media.relay import MediaContext
from fleetward.features.messaging.http import MessagingContext
from fleetward.programs.server.build import Rooms, build_console_app, build_devices_app, build_rooms
from fleetward.programs.server.initialise import initialise
from fleetward.wire import est
from support.asgi import AsgiClient
from support.dead_letters import KeptDeadLetters
from support.enrollment import Keypair, WithPeer, add_model


class _OutOfReach:
    """Stands where NATS is; whoever gets here was let in."""

    def __getattr__(self, name: str) -> NoReturn:
        raise AssertionError(f"expected nobody to reach NATS, found a call of {name}")


class RealApps:
    """A platform's two applications over a data folder of their own."""

    def __init__(self, folder: Path, clock: Clock, *, nats: Any = None) -> None:
        data = DataFolder(folder / "data")
        config = ServerConfig(trust_domain="fleet.test")
        initialise(data, config, passphrase_file=None, clock=clock, tell=lambda _: None)
        self.rooms: Rooms = build_rooms(data, config, config.ports, clock)
        behind = nats or _OutOfReach()
        origins = frozenset({self.rooms.addresses.console, "https://fleet.test"})
        media = MediaContext(
            self.rooms.db, cast("Any", behind), self.rooms.addresses.console, origins, timedelta(minutes=10)
        )
        messaging = MessagingContext(
            telemetry=behind, watcher=behind, presence=behind, dead_letters=KeptDeadLetters()
        )
        self.console: FastAPI = build_console_app(self.rooms, messaging, media, lambda _: None)
        self.devices: FastAPI = build_devices_app(self.rooms, media)
        self.authorization = {"Authorization": f"Bearer {read_admin_token(data.admin_token)}"}

    def operator(self, method: str, path: str, **more: Any) -> httpx.Response:
        """Ask the API as the administrator."""
        return AsgiClient(self.console).request(
            method, f"/api/v1{path}", headers={**self.authorization, **more.pop("headers", {})}, **more
        )

    def device(self, peer: x509.Certificate | None, method: str, path: str, **more: Any) -> httpx.Response:
        """Ask the devices' port with a client certificate, or without one."""
        return AsgiClient(WithPeer(self.devices, peer)).request(method, path, **more)

    def add_model(self, model: str, **rules: Any) -> None:
        add_model(self.rooms.db, model, **rules)

    def enroll(self, device_id: str, model: str) -> x509.Certificate:
        """Register a device and enroll it by its claim, over EST."""
        with self.rooms.db.write("operator:test") as tx:
            _, claim = enrollment.add_device(tx, device_id, model)
        body = est.render_csr(Keypair().csr_for(device_id).public_bytes(Encoding.DER))
        answer = self.device(
            None, "POST", f"{est.PATH}/simpleenroll", content=body, auth=(device_id, claim.token)
        )
        assert answer.status_code == 200, answer.text
        return est.parse_certificates(answer.content)[0]

    def close(self) -> None:
        self.rooms.db.close()
