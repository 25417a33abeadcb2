"""What `fleetward login` keeps: a folder for each server in ~/.config/fleetward, its owner's alone."""

import json
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from fleetward.base.errors import ConfigError
from fleetward.base.files import write_secret


@dataclass(frozen=True)
class SignedIn:
    """A server this user is signed in to; `ca_file` verifies it, None by the system's roots."""

    server: str
    operator: str
    expires_at: str
    token: str = field(repr=False)
    ca_file: Path | None


def save(server: str, operator: str, expires_at: str, token: str, ca_file: Path | None) -> SignedIn:
    """Keep a token and a copy of the root that verifies its server; this server is now the one meant."""
    folder = _folder_of(server)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    kept_ca = None
    if ca_file is not None:
        kept_ca = folder / "ca.pem"
        write_secret(kept_ca, ca_file.read_bytes())
    values = {"server": server, "operator": operator, "expires_at": expires_at, "token": token}
    write_secret(folder / "token.json", json.dumps(values).encode())
    write_secret(_home() / "current", server.encode())
    return SignedIn(server, operator, expires_at, token, kept_ca)


def find(server: str | None) -> SignedIn | None:
    """Return what is kept of a server, by default of the one signed in to last.

    Raises:
        ConfigError: the file is damaged, or readable by others.
    """
    if server is None:
        current = _home() / "current"
        server = current.read_text().strip() if current.is_file() else None
    if server is None:
        return None
    folder = _folder_of(server)
    path = folder / "token.json"
    if not path.is_file():
        return None
    if path.stat().st_mode & 0o077:
        raise ConfigError(
            f"{path}: expected it readable by its owner alone, found it open to others",
            hint=f"chmod 600 {path}",
        )
    try:
        kept = json.loads(path.read_bytes())
        ca_file = folder / "ca.pem" if (folder / "ca.pem").is_file() else None
        return SignedIn(kept["server"], kept["operator"], kept["expires_at"], kept["token"], ca_file)
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{path}: expected a token, found it damaged", hint="fleetward login") from error


def forget(server: str) -> None:
    """Remove what is kept of a server."""
    folder = _folder_of(server)
    for name in ("token.json", "ca.pem"):
        (folder / name).unlink(missing_ok=True)
    current = _home() / "current"
    if current.is_file() and current.read_text().strip() == server:
        current.unlink()


def normalise(server: str) -> str:
    """Return the one spelling of a server's address. Raises ConfigError: not https."""
    parts = urlsplit(server)
    if parts.scheme != "https" or not parts.hostname or parts.path.strip("/"):
        raise ConfigError(f"--server: expected https://host:port, found {server[:100]!r}")
    return f"https://{parts.netloc.lower()}"


def _home() -> Path:
    base = os.environ.get("XDG_CONFIG_HOME")
    return (Path(base) if base else Path.home() / ".config") / "fleetward"


def _folder_of(server: str) -> Path:
    return _home() / re.sub(r"[^A-Za-z0-9.-]", "_", urlsplit(server).netloc.lower())
