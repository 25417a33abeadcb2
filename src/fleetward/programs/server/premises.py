"""Looks at the data folder and the settings, for the checklist."""

import stat
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from cryptography import x509

from fleetward.base.config import ServerConfig
from fleetward.base.layout import DataFolder
from fleetward.features.overview.model.checklist import Premises
from fleetward.programs.server.backup import list_elsewhere

_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_SECRET = frozenset({".pem", ".seed"})
_LOOPBACK = frozenset({"127.0.0.1", "::1"})


class FolderSurveyor:
    """Implements overview's `Surveyor` for one data folder."""

    def __init__(
        self, folder: DataFolder, config: ServerConfig, find_backup: Callable[[], datetime | None]
    ) -> None:
        self._folder = folder
        self._config = config
        self._find_backup = find_backup

    def inspect(self) -> Premises:
        """Return what is there now."""
        secrets: list[Path] = [self._folder.admin_token, self._folder.config]
        for room in (self._folder.keys, self._folder.offline):
            secrets += [path for path in room.glob("*") if path.suffix in _SECRET]
        return Premises(
            is_root_key_here=(self._folder.offline / "root.key.pem").exists(),
            is_update_root_key_here=(self._folder.offline / "tuf-root.key.pem").exists(),
            open_to_others=tuple(
                str(path.relative_to(self._folder.path)) for path in secrets if _is_open_to_others(path)
            ),
            server_certificate_ends_at=_find_end(self._folder.tls / "server.pem"),
            database="postgresql" if self._config.database.startswith("postgresql") else "sqlite",
            listens_beyond_loopback=self._config.listen not in _LOOPBACK,
            host_names=self._config.host_names,
            backed_up_at=self._find_backup(),
            saved_elsewhere=bool(list_elsewhere(self._config)),
        )


def _is_open_to_others(path: Path) -> bool:
    try:
        return path.is_file() and bool(path.stat().st_mode & _OTHERS)
    except FileNotFoundError:
        return False  # renewed at this moment


def _find_end(path: Path) -> datetime | None:
    try:
        return x509.load_pem_x509_certificates(path.read_bytes())[0].not_valid_after_utc
    except (OSError, ValueError):
        return None
