"""What a repository may answer a device: whatever it is, an error of ours or a manifest comes of it."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from securesystemslib.signer import CryptoSigner, SSlibKey
from tuf.api.metadata import Metadata, Root, Snapshot, TargetFile, Targets, Timestamp

from fleetward.base.errors import FleetwardError
from fleetward.outside.tuf.client import TufClient
from fleetward.wire import update_paths as paths

NOW = datetime(2026, 6, 1, tzinfo=UTC)
CONTENT = b"the manifest"
NAME = paths.current_manifest("cam", paths.DEFAULT_CHANNEL)


@dataclass(frozen=True)
class Answer:
    status: int
    chunks: list[bytes]


class Repository:
    """A repository by python-tuf, whose files can be changed."""

    def __init__(self, *algorithms: str) -> None:
        private = Ed25519PrivateKey.generate()
        key = SSlibKey.from_crypto(private.public_key())
        signer, end = CryptoSigner(private, key), NOW + timedelta(days=9)
        root, targets, snapshot = Root(expires=end), Targets(expires=end), Snapshot(expires=end)
        for role in ("root", "targets", "snapshot", "timestamp"):
            root.add_key(key, role)
        hashes = {one: hashlib.new(one, CONTENT).hexdigest() for one in algorithms}
        targets.targets[NAME] = TargetFile(len(CONTENT), hashes, NAME)

        def sign(signed: Any) -> bytes:
            made = Metadata(signed)
            made.sign(signer)
            return made.to_bytes()

        self.root = sign(root)
        base = paths.metadata_url("cam")
        self.files = {
            f"{base}1.targets.json": sign(targets),
            f"{base}1.snapshot.json": sign(snapshot),
            f"{base}timestamp.json": sign(Timestamp(expires=end)),
        }
        for digest in hashes.values():
            self.files[paths.targets_url("cam") + paths.consistent_name(NAME, digest)] = CONTENT

    @contextmanager
    def fetch(self, path: str, *, offset: int = 0) -> Iterator[Any]:
        assert offset == 0
        found = self.files.get(path)
        yield Answer(404, []) if found is None else Answer(200, [found])

    def check(self, folder: Path) -> bytes | None:
        return TufClient(folder, root=self.root, model="cam", fetch=self.fetch).check(NOW)


@pytest.mark.parametrize("algorithms", [("sha256", "sha512"), ("sha256",), ("sha512",)])
def test_a_manifest_is_found_by_whatever_digest_is_named(tmp_path: Path, algorithms: tuple[str, ...]) -> None:
    assert Repository(*algorithms).check(tmp_path) == CONTENT


def test_nothing_published_is_no_error(tmp_path: Path) -> None:
    repository = Repository("sha256")
    repository.files.clear()
    assert repository.check(tmp_path) is None


GOOD = Repository("sha256", "sha512")


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_nothing_but_our_errors_comes_of_changed_files(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    changed = Repository.__new__(Repository)
    changed.root, changed.files = GOOD.root, dict(GOOD.files)
    name = data.draw(st.sampled_from(sorted(GOOD.files)))
    content = bytearray(GOOD.files[name])
    for _ in range(data.draw(st.integers(0, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    junk = st.sampled_from([b"", b"null", b"[" * 9000, b'{"signed":1}', b'{"signed":{},"signatures":[{}]}'])
    changed.files[name] = data.draw(st.just(bytes(content)) | junk | st.binary(max_size=99))
    try:
        found = changed.check(tmp_path_factory.mktemp("tuf"))
    except FleetwardError:
        return
    assert found in (CONTENT, None)
