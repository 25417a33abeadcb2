"""Attacks on what a device runs: a changed slot, an older image, a stranger's firmware, old metadata.

Each has a camera of its own, made, shipped and enrolled as the demo's is. The last two play a front server in
the attacker's hands: it has a certificate that devices accept, and none of the release keys.
"""

import json
import secrets
import shutil
import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata, Snapshot, Targets, Timestamp

from fleetward.base.clock import SystemClock
from fleetward.base.files import write_secret
from fleetward.features.pki.authority.ceremony import load_ca
from fleetward.features.pki.authority.profiles import sign_server
from fleetward.features.updates.boot.pointer import BootPointer, Slot
from fleetward.features.updates.boot.selection import Refusal
from fleetward.outside.http.device import DeviceHttp
from fleetward.outside.keys.software import SoftwareKeyStore
from fleetward.outside.slots.folder import SlotFolder
from fleetward.outside.tls.client import TlsIdentity
from fleetward.programs.simulator.attacks.stock import (
    PLAIN,
    ROLLED_BACK,
    WITH_CHIP,
    fetch_metadata,
    prepare_stock,
    read_yesterday,
)
from fleetward.programs.simulator.attacks.target import Outcome, Target, Trace
from fleetward.programs.simulator.chip import Chip, ChipMaker
from fleetward.programs.simulator.demo import (
    FIRST,
    SECOND,
    Place,
    has_chips,
    make_place,
    provision,
    wait_for_event,
    wait_until,
)
from fleetward.programs.simulator.machine import Machine
from fleetward.wire import update_paths


def tampered_slot(target: Target) -> Outcome:
    """Change the image in a camera's active slot while it is off, and power it on again."""
    with ExitStack() as stack:
        place, machine = _make_camera(stack, target, WITH_CHIP if has_chips() else PLAIN)
        machine.cut_power()
        image = place.slots / "a" / "image"
        content = bytearray(image.read_bytes())
        content[len(content) // 2] ^= 0xFF
        image.write_bytes(bytes(content))
        tampered_at = SystemClock().now()
        machine.start()
        wait_until(
            lambda: "boot_refused" in (place.folder / "device.log").read_text(), "the boot stage to refuse"
        )
        kinds = frozenset({"attestation.failed"} if has_chips() else {"boot.refused"})
        for kind in kinds:
            wait_for_event(place, tampered_at, kind)
        has_session = bool(place.api.get(f"/devices/{place.device}/presence")["connected"]) and has_chips()
        seen = "the boot stage did not start it" + (", but it has a session" if has_session else "")
        if has_chips():
            seen += "; the chip told on it: no session"
        return Outcome(not has_session, seen, Trace(kinds, place.device))


def older_image(target: Target) -> Outcome:
    """Put a camera's older firmware, properly signed, back into both slots and set its boot pointer back."""
    made_at = SystemClock().now()
    with ExitStack() as stack:
        place, machine = _make_camera(stack, target, ROLLED_BACK)
        wait_for_event(place, made_at, "update.confirmed")
        machine.cut_power()
        log = place.folder / "device.log"
        before = len(log.read_bytes())
        slots = SlotFolder(place.slots)
        for source, goal in (
            (slots.image(Slot.A), slots.image(Slot.B)),
            (slots.manifest(Slot.A), slots.manifest(Slot.B)),
        ):
            shutil.copyfile(source, goal)
        slots.write_pointer(BootPointer(Slot.A))
        put_back_at = SystemClock().now()
        machine.start()
        said = wait_for_event(place, put_back_at, "boot.refused")["details"]["said"]
        started = [line["version"] for line in _read_log(log, before) if line["event"] == "boot_verified"]
        return Outcome(
            FIRST not in started and said["reason"] == Refusal.ROLLED_BACK,
            f"firmware {FIRST}, signed as it was: the boot stage did not start it",
            Trace(frozenset({"boot.refused"}), place.device, {"said": said}),
        )


def strangers_firmware(target: Target) -> Outcome:
    """Offer firmware in metadata that is well formed and signed, by keys of a stranger."""
    with ExitStack() as stack:
        place, machine = _make_camera(stack, target, PLAIN)
        machine.stop()
        offered = _sign_as_stranger(_fetch_metadata(place))
        return _offer(stack, target, place, machine, offered, "metadata signed by a stranger")


def rolled_back_metadata(target: Target) -> Outcome:
    """Serve a camera that has seen the newest release the metadata of the one before."""
    with ExitStack() as stack:
        place, machine = _make_camera(stack, target, ROLLED_BACK)
        wait_until(
            lambda: place.api.get(f"/devices/{place.device}")["firmware_version"] == SECOND,
            f"firmware {SECOND}",
        )
        machine.stop()
        return _offer(stack, target, place, machine, read_yesterday(target), "metadata of yesterday")


def _read_log(path: Path, start: int) -> list[dict[str, Any]]:
    """Return what a camera's boot stage and agent have logged from byte `start` on."""
    lines = path.read_bytes()[start:].splitlines()
    return [json.loads(line) for line in lines if line.startswith(b"{") and line.endswith(b"}")]


def _make_camera(stack: ExitStack, target: Target, model: str) -> tuple[Place, Machine]:
    """Return a camera that has had a verified session, running its first firmware."""
    data, device = target.folder.parent.parent, f"victim-{secrets.token_hex(4)}"
    prepare_stock(data)
    place = make_place(data, device, model)
    place = replace(place, folder=target.folder / device)
    place.folder.mkdir(mode=0o700)
    maker = chip = None
    if model == WITH_CHIP:
        maker = ChipMaker(target.folder / "chip-maker")
        maker.make(place.folder / "chip")
        chip = stack.enter_context(Chip(place.folder / "chip"))
    provision(place, chip, maker)
    machine = Machine(place.config_file, chip=chip, log=place.folder / "device.log")
    stack.callback(machine.stop)
    started = SystemClock().now()
    machine.start()
    wait_for_event(place, started, "session.opened")
    wait_until(
        lambda: (place.folder / "state" / "tuf").exists() or _knows_version(place), "its first update check"
    )
    return place, machine


def _knows_version(place: Place) -> bool:
    return bool(place.api.get(f"/devices/{place.device}")["firmware_version"] == FIRST)


def _offer(
    stack: ExitStack, target: Target, place: Place, machine: Machine, offered: Mapping[str, bytes], what: str
) -> Outcome:
    """Let the camera meet a front server of the attacker's; return what came of it."""
    before = place.api.get(f"/devices/{place.device}")["firmware_version"]
    address = stack.enter_context(_front_server(target, offered, place.folder))
    config = place.config_file.read_text()
    write_secret(place.config_file, config.replace(place.ready["devices"], address).encode())
    offered_at = SystemClock().now()
    machine.start()
    wait_for_event(place, offered_at, "update.refused")
    after = place.api.get(f"/devices/{place.device}")["firmware_version"]
    return Outcome(
        before == after,
        f"{what}: the camera refused it and still runs {after}",
        Trace(frozenset({"update.refused"}), place.device),
    )


def _fetch_metadata(place: Place) -> dict[str, bytes]:
    """Return the model's update metadata by name, as the camera itself would fetch it."""
    key_store = SoftwareKeyStore(place.folder / "keys")
    label = key_store.list_labels()[-1]
    chain = next((place.folder / "state").rglob(f"{label}*.pem"))
    identity = TlsIdentity(label, lambda context: key_store.open_key(label).bind(context, chain))
    http = DeviceHttp(place.ready["devices"], Path(place.ready["ca_file"]))

    def fetch(name: str) -> bytes:
        with http.download(f"{update_paths.metadata_url(place.model)}{name}", identity=identity) as answer:
            return b"".join(answer.chunks)

    found = fetch_metadata(fetch)
    http.close()
    return found


def _sign_as_stranger(genuine: Mapping[str, bytes]) -> dict[str, bytes]:
    """Return the same metadata one version on, signed by fresh keys."""
    signer = CryptoSigner(Ed25519PrivateKey.generate())
    timestamp = Metadata[Timestamp].from_bytes(genuine["timestamp.json"])
    snapshot_name = next(name for name in genuine if name.endswith(".snapshot.json"))
    targets_name = next(name for name in genuine if name.endswith(".targets.json"))
    snapshot = Metadata[Snapshot].from_bytes(genuine[snapshot_name])
    targets = Metadata[Targets].from_bytes(genuine[targets_name])
    targets.signed.version += 1
    snapshot.signed.version += 1
    snapshot.signed.meta["targets.json"].version = targets.signed.version
    timestamp.signed.version += 1
    timestamp.signed.snapshot_meta.version = snapshot.signed.version
    for metadata in (timestamp, snapshot, targets):
        metadata.sign(signer)
    return {
        "timestamp.json": timestamp.to_bytes(),
        f"{snapshot.signed.version}.snapshot.json": snapshot.to_bytes(),
        f"{targets.signed.version}.targets.json": targets.to_bytes(),
    }


@contextmanager
def _front_server(target: Target, files: Mapping[str, bytes], folder: Path) -> Iterator[str]:
    """Yield the address of an HTTPS server that devices believe and that serves `files` alone."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            content = files.get(self.path.rsplit("/", 1)[-1])
            self.send_response(404 if content is None else 200)
            self.send_header("Content-Length", str(len(content or b"")))
            self.end_headers()
            self.wfile.write(content or b"")

        do_POST = do_GET  # noqa: N815 - as above

        def log_message(self, *_arguments: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.socket = _stolen_context(target, folder).wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, name="front-server", daemon=True)
    thread.start()
    try:
        yield f"https://localhost:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


def _stolen_context(target: Target, folder: Path) -> ssl.SSLContext:
    """Return TLS as our own servers do it: this attacker holds a key of the server CA."""
    data = target.folder.parent.parent
    key = ec.generate_private_key(ec.SECP256R1())
    leaf = sign_server(
        load_ca(data, "server-ca"), key.public_key(), names=["localhost"], lifetime=timedelta(hours=1),
        now=SystemClock().now(),
    )  # fmt: skip
    authority = load_ca(data, "server-ca").certificate
    pem = leaf.public_bytes(Encoding.PEM) + authority.public_bytes(Encoding.PEM)
    path = folder / "front-server.pem"
    write_secret(path, pem + key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return context
