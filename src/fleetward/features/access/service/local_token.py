"""The local administrator: whoever can read the random token in the data folder (0600)."""

from pathlib import Path

from fleetward.base.errors import ConfigError
from fleetward.base.files import write_secret
from fleetward.base.ids import new_token

_MIN_TOKEN_CHARS = 32


def ensure_admin_token(path: Path) -> bool:
    """Write a fresh random token when there is none; return whether it was written."""
    if path.exists():
        return False
    write_secret(path, f"{new_token(bits=256)}\n".encode())
    return True


def read_admin_token(path: Path) -> str:
    """Return the token of a data folder.

    Raises:
        ConfigError: missing, too short to be ours, or readable by others.
    """
    try:
        mode = path.stat().st_mode & 0o077
        text = path.read_text().strip()
    except OSError as error:
        raise ConfigError(
            f"{path}: expected the administrator's token, found it unreadable",
            hint="Run as the user who owns the data folder, or give --server and FLEETWARD_TOKEN.",
        ) from error
    if mode:
        raise ConfigError(
            f"{path}: expected it readable by its owner alone, found it open to others",
            hint=f"chmod 600 {path}",
        )
    if len(text) < _MIN_TOKEN_CHARS:
        raise ConfigError(
            f"{path}: expected a random token, found {len(text)} characters",
            hint="Remove it: the next 'fleetward init' or 'up' makes another.",
        )
    return text
