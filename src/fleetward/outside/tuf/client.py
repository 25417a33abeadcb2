"""A device's view of its update repository: python-tuf's client over the agent's own HTTPS.

The client workflow is python-tuf's (TUF section 5): signatures, versions that never go back, expiry, lengths.
The clock it judges expiry by is the agent's, which signed time may have corrected; the system's may be
decades off. What is stored of earlier checks is only a floor: expired or damaged copies are fetched again.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from tuf.api.exceptions import (
    DownloadError,
    DownloadHTTPError,
    DownloadLengthMismatchError,
    RepositoryError,
)
from tuf.api.metadata import TargetFile
from tuf.ngclient import FetcherInterface, Updater, UpdaterConfig

from fleetward.base.errors import FleetwardError, TooLargeError, UnavailableError
from fleetward.features.updates.device.memory import ImageTarget
from fleetward.features.updates.ports import ArtifactFetcher
from fleetward.wire import update_paths as paths
from fleetward.wire.manifest import MAX_MANIFEST_BYTES

_MAX_ROOT_ROTATIONS = 256
_MAX_REASON_CHARS = 300
_NOT_FOUND = 404
_OK = 200


class MetadataRefusedError(FleetwardError):
    """The repository answered with metadata that must not be believed."""

    code = "metadata_refused"


class TufClient:
    """One model's repository. One check at a time."""

    def __init__(self, folder: Path, *, root: bytes, model: str, fetch: ArtifactFetcher) -> None:
        """Keep metadata in `folder`; trust begins at `root`, pinned at provisioning."""
        self._folder = folder
        self._root = root
        self._model = model
        self._fetcher = _Fetcher(fetch)
        self._updater: Updater | None = None

    def check(self, now: datetime) -> bytes | None:
        """Return the manifest envelope of the model's current release, None when nothing is published.

        Raises:
            MetadataRefusedError: signatures, versions, expiry or hashes do not hold.
            UnavailableError: the repository is out of reach, or the disk is full.
        """
        self._updater = None
        try:
            with _judging():
                self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                updater = Updater(
                    str(self._folder),
                    paths.metadata_url(self._model),
                    fetcher=self._fetcher,
                    config=UpdaterConfig(max_root_rotations=_MAX_ROOT_ROTATIONS, max_delegations=1),
                    bootstrap=self._root,
                )
                updater._trusted_set.reference_time = now  # noqa: SLF001 - guarded by a contract test
                updater.refresh()
                found = updater.get_targetinfo(paths.current_manifest(self._model, paths.DEFAULT_CHANNEL))
                self._updater = updater
                return None if found is None else self._fetch_small(found)
        except UnavailableError as error:
            if _is_missing(error.__cause__) and self._fetcher.last.endswith("/timestamp.json"):
                return None
            raise

    def locate(self, version: str) -> ImageTarget | None:
        """Return what the last check's metadata vouches for as the image of `version`. Raises as `check`."""
        if self._updater is None:
            return None
        name = paths.image(self._model, version)
        with _judging():
            found = self._updater.get_targetinfo(name)
        if found is None or {"sha256", "sha512"} - found.hashes.keys():
            return None
        return ImageTarget(name, found.hashes["sha256"], found.hashes["sha512"], found.length)

    def image_path(self, target: ImageTarget) -> str:
        """Return where to fetch an image from."""
        return paths.targets_url(self._model) + paths.consistent_name(target.name, target.sha256)

    def _fetch_small(self, target: TargetFile) -> bytes:
        if target.length > MAX_MANIFEST_BYTES:
            raise TooLargeError(
                f"{target.path}: expected at most {MAX_MANIFEST_BYTES} bytes, found {target.length}"
            )
        digest = target.hashes.get("sha256") or next(iter(target.hashes.values()))  # one at least (TUF 4.5)
        name = paths.consistent_name(target.path, digest)
        content = self._fetcher.download_bytes(paths.targets_url(self._model) + name, target.length)
        target.verify_length_and_hashes(content)
        return content


class _Fetcher(FetcherInterface):
    """Attributes: last: the path asked for last."""

    def __init__(self, fetch: ArtifactFetcher) -> None:
        self.last = ""
        self._open = fetch

    def _fetch(self, url: str) -> Iterator[bytes]:
        self.last = url
        with self._open(url) as answer:
            if answer.status != _OK:
                raise DownloadHTTPError(f"HTTP status {answer.status}", answer.status)
            yield from answer.chunks


@contextmanager
def _judging() -> Iterator[None]:
    """Turn what python-tuf, the line and the disk raise into errors of ours."""
    try:
        yield
    except DownloadLengthMismatchError as error:
        raise MetadataRefusedError(f"update metadata: {_reason(error)}") from error
    except DownloadError as error:
        raise UnavailableError(f"update metadata: expected it, found {_reason(error)}") from error
    except RepositoryError as error:
        raise MetadataRefusedError(f"update metadata: {_reason(error)}") from error
    except OSError as error:
        raise UnavailableError(
            f"update metadata: expected room for it on the device, found {error.strerror}"
        ) from error


def _is_missing(error: BaseException | None) -> bool:
    return isinstance(error, DownloadHTTPError) and error.status_code == _NOT_FOUND


def _reason(error: Exception) -> str:
    return str(error)[:_MAX_REASON_CHARS] or type(error).__name__
