"""Models and firmware of the attacked cameras' own, made while the platform has no operator.

Afterwards two people must approve a release, and an attacker's tool is not one of them.
"""

import secrets
import ssl
from collections.abc import Callable
from pathlib import Path

import urllib3
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from tuf.api.metadata import Metadata, Snapshot, Timestamp

from fleetward.base.errors import UnavailableError
from fleetward.base.files import write_atomically, write_secret
from fleetward.programs.simulator.attacks.target import Target, find_target, request_certificate
from fleetward.programs.simulator.demo import FIRST, SECOND, Place, add_model, has_chips, make_place, publish
from fleetward.wire import update_paths
from fleetward.wire.est import parse_certificates

WITH_CHIP, PLAIN, ROLLED_BACK = "victim-camera-tpm", "victim-camera", "victim-rollback"
MAX_METADATA_BYTES = 1024 * 1024
_HTTP_OK = 200


def prepare_stock(data: Path) -> None:
    """Publish what the attacks need, once; keep the metadata that a rollback serves again.

    Raises:
        ConflictError: the platform has operators, and they have not approved these releases.
    """
    target = find_target(data)
    for model, is_tpm in ((WITH_CHIP, True), (PLAIN, False), (ROLLED_BACK, False)):
        if is_tpm and not has_chips():
            continue
        place = make_place(data, "stock", model)
        add_model(place, is_tpm=is_tpm)
        publish(place, FIRST)
        if model == ROLLED_BACK:
            _keep_yesterday(target, place)
            publish(place, SECOND)


def read_yesterday(target: Target) -> dict[str, bytes]:
    """Return the metadata of `ROLLED_BACK` from before its second release, by name."""
    return {path.name: path.read_bytes() for path in _yesterday(target).glob("*.json")}


def fetch_metadata(fetch: Callable[[str], bytes]) -> dict[str, bytes]:
    """Return a model's update metadata by name; `fetch` gets one file."""
    found: dict[str, bytes] = {}

    def keep(name: str) -> bytes:
        found[name] = fetch(name)[:MAX_METADATA_BYTES]
        return found[name]

    timestamp = Metadata[Timestamp].from_bytes(keep("timestamp.json")).signed
    version = timestamp.snapshot_meta.version
    snapshot = Metadata[Snapshot].from_bytes(keep(f"{version}.snapshot.json")).signed
    keep(f"{snapshot.meta['targets.json'].version}.targets.json")
    return found


def _yesterday(target: Target) -> Path:
    return target.folder / "yesterday"


def _keep_yesterday(target: Target, place: Place) -> None:
    """Fetch the metadata as a device of the model, before there is a second release."""
    folder = _yesterday(target)
    if folder.exists():
        return
    device, key = f"victim-{secrets.token_hex(4)}", ec.generate_private_key(ec.SECP256R1())
    claim = place.api.post("/devices", {"id": device, "model": place.model})["claim"]
    status, body = request_certificate(target, device, claim, key)
    if status != _HTTP_OK:
        raise UnavailableError(f"{device}: expected a certificate, found status {status}: {body[:200]!r}")
    identity = target.folder / f"{device}.pem"
    chain = b"".join(one.public_bytes(Encoding.PEM) for one in parse_certificates(body))
    write_secret(identity, chain + key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    context = ssl.create_default_context(cafile=str(target.ca_file))
    context.load_cert_chain(identity)
    with urllib3.PoolManager(ssl_context=context, retries=False, timeout=10) as pool:

        def fetch(name: str) -> bytes:
            answer = pool.request(
                "GET", f"{target.devices_url}{update_paths.metadata_url(place.model)}{name}"
            )
            if answer.status != _HTTP_OK:
                raise UnavailableError(f"{name}: expected metadata, found status {answer.status}")
            return answer.data

        found = fetch_metadata(fetch)
    folder.mkdir(mode=0o700)
    for name, content in found.items():
        write_atomically(folder / name, content)
