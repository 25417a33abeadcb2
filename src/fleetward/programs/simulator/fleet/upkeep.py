"""Renewals and updates of simulated devices: slow work over HTTPS, in a few threads beside the lines.

Everything is verified as a device verifies it, TUF metadata, manifest and image; only the flash is missing:
an image is hashed and thrown away. Devices of one process share what they remember of TUF metadata.
"""

import base64
import hashlib
import ssl
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from fleetward.base.clock import Clock
from fleetward.base.errors import FleetwardError, InvalidInputError, UnavailableError
from fleetward.features.updates.device.memory import ImageTarget
from fleetward.outside.http.device import DeviceHttp, Download
from fleetward.outside.tls.client import TlsIdentity
from fleetward.outside.tuf.client import TufClient
from fleetward.programs.simulator.fleet.identities import Identity, Keys, key_pem, leaf_of, make_csr
from fleetward.wire.est import PATH as EST_PATH
from fleetward.wire.manifest import PinnedKeys, verify_manifest

_THREADS = 2
_OK = 200
_SLOW_CHUNK_PAUSE_S = 0.05


@dataclass(frozen=True)
class Trust:
    """What a device is provisioned with, to judge updates by."""

    model: str
    tuf_root: bytes
    keys: PinnedKeys


@dataclass(frozen=True)
class Fetched:
    """A device downloaded and verified the firmware of a version; "" when there was nothing new."""

    device: str
    version: str


@dataclass(frozen=True)
class Renewed:
    identity: Identity


@dataclass(frozen=True)
class Failed:
    """`what` did not work for a device; `is_refusal` when what came must not be believed."""

    device: str
    what: str
    reason: str
    is_refusal: bool = False


Outcome = Fetched | Renewed | Failed


class Upkeep:
    """Does one thing a device at a time; each outcome is handed to `on_outcome`, from a thread."""

    def __init__(
        self,
        server: str,
        ca_file: Path,
        folder: Path,
        *,
        keys: Keys,
        trust: Trust,
        clock: Clock,
        on_outcome: Callable[[Outcome], None],
    ) -> None:
        """Keep TUF metadata in `folder`, which is this process's own."""
        self._http = DeviceHttp(server, ca_file)
        self._folder, self._keys, self._trust, self._clock = folder, keys, trust, clock
        self._on_outcome = on_outcome
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="upkeep")
        self._checking = threading.Lock()
        self._busy: set[str] = set()

    def renew(self, identity: Identity) -> None:
        """Ask for the next certificate, with the next key."""
        self._submit(identity, "renew", self._renew)

    def look(self, identity: Identity, running: str, *, is_slow: bool) -> None:
        """Look for a release other than `running`; download and verify it."""
        self._submit(identity, "update", partial(self._look, running, is_slow))

    def close(self) -> None:
        """End; what is under way is finished, what waits is forgotten."""
        self._threads.shutdown(wait=True, cancel_futures=True)
        self._http.close()

    def _submit(self, identity: Identity, what: str, act: Callable[[Identity], Outcome]) -> None:
        if identity.device in self._busy:
            return
        self._busy.add(identity.device)

        def run() -> None:
            try:
                outcome = act(identity)
            except FleetwardError as error:
                outcome = Failed(
                    identity.device, what, error.message, is_refusal=not isinstance(error, UnavailableError)
                )
            finally:
                self._http.forget(_label(identity))
                self._busy.discard(identity.device)
            self._on_outcome(outcome)

        self._threads.submit(run)

    def _renew(self, identity: Identity) -> Renewed:
        key = self._keys.derive(identity.device, identity.generation + 1)
        answer = self._http.request(
            "POST",
            f"{EST_PATH}/simplereenroll",
            headers={"Content-Type": "application/pkcs10"},
            body=base64.b64encode(make_csr(key, identity.device)),
            identity=self._identity(identity),
        )
        if answer.status != _OK:
            said = answer.body[:300].decode(errors="replace")
            raise UnavailableError(f"expected a certificate, found {answer.status}: {said}")
        return Renewed(Identity(identity.device, identity.generation + 1, leaf_of(answer.body)))

    def _look(self, running: str, is_slow: bool, identity: Identity) -> Fetched:
        fetch = partial(self._fetch, identity)
        client = TufClient(self._folder, root=self._trust.tuf_root, model=self._trust.model, fetch=fetch)
        with self._checking:  # one folder of metadata, one check at a time
            envelope = client.check(self._clock.now())
        if envelope is None:
            return Fetched(identity.device, "")
        manifest = verify_manifest(envelope, self._trust.keys)
        if manifest.version == running:
            return Fetched(identity.device, "")
        target = client.locate(manifest.version)
        if target is None or (target.sha256, target.length) != (manifest.sha256, manifest.length):
            raise InvalidInputError(f"firmware {manifest.version}: expected TUF to vouch for the same image")
        self._download(identity, client.image_path(target), target, is_slow=is_slow)
        return Fetched(identity.device, manifest.version)

    def _download(self, identity: Identity, path: str, target: ImageTarget, *, is_slow: bool) -> None:
        digest, received = hashlib.sha256(), 0
        with self._fetch(identity, path) as answer:
            if answer.status != _OK:
                raise UnavailableError(f"image: expected it, found HTTP status {answer.status}")
            for chunk in answer.chunks:
                received += len(chunk)
                if received > target.length:
                    break
                digest.update(chunk)
                if is_slow:
                    time.sleep(_SLOW_CHUNK_PAUSE_S)
        if received != target.length or digest.hexdigest() != target.sha256:
            raise InvalidInputError(
                f"image: expected {target.length} bytes of the signed digest, found others"
            )

    def _fetch(self, identity: Identity, path: str, *, offset: int = 0) -> AbstractContextManager[Download]:
        return self._http.download(path, offset=offset, identity=self._identity(identity))

    def _identity(self, identity: Identity) -> TlsIdentity:
        def bind(context: ssl.SSLContext) -> None:
            """Python's TLS takes keys from files only: this one lives for a moment, readable by us alone."""
            key = self._keys.derive(identity.device, identity.generation)
            with tempfile.NamedTemporaryFile(dir=self._folder.parent) as file:
                file.write(key_pem(key) + ssl.DER_cert_to_PEM_cert(identity.leaf).encode())
                file.flush()
                context.load_cert_chain(file.name)

        return TlsIdentity(_label(identity), bind)


def _label(identity: Identity) -> str:
    return f"{identity.device}/{identity.generation}"
