"""The local administrator: whoever can read the random token in the data folder (0600)."""

import hashlib
import hmac
import time
from pathlib import Path

from fastapi import Request

from fleetward.base.db import Database
from fleetward.base.errors import ConfigError, UnauthenticatedError
from fleetward.base.events import Severity, emit
from fleetward.base.files import write_secret
from fleetward.base.ids import new_token
from fleetward.base.throttle import RefusalThrottle
from fleetward.features.access.model.identity import LOCAL_ACTOR, Identity

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
            hint="Run as the user who owns the data folder, or name a server with --server and --token-file.",
        ) from error
    if mode:
        raise ConfigError(
            f"{path}: expected it readable by its owner alone, found it open to others",
            hint=f"chmod 600 {path}",
        )
    if len(text) < _MIN_TOKEN_CHARS:
        raise ConfigError(f"{path}: expected a random token, found {len(text)} characters")
    return text


class LocalTokenIdentifier:
    """Knows the holder of the admin token, and nobody else."""

    def __init__(self, token: str, db: Database) -> None:
        self._digest = hashlib.sha256(token.encode()).digest()
        self._db = db
        self._throttle = RefusalThrottle()

    def identify(self, request: Request) -> Identity:
        """Return the administrator. Raises UnauthenticatedError for anyone else; the attempt is recorded."""
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        given = hashlib.sha256(token.strip().encode()).digest()
        if scheme.lower() == "bearer" and hmac.compare_digest(given, self._digest):
            return Identity(LOCAL_ACTOR, None, "local", None, None, None, restricted=False)
        self._record(request)
        raise UnauthenticatedError(
            "authorization: expected the administrator's token, found " + ("another" if token else "none"),
            hint="Send it as 'Authorization: Bearer …'; it lies in admin.token of the data folder.",
        )

    def _record(self, request: Request) -> None:
        address = request.client.host if request.client else "unknown"
        held_back = self._throttle.admit(("access.refused", address), time.monotonic())
        if held_back is None:
            return
        with self._db.write("system:access") as tx:
            emit(
                tx,
                "access.refused",
                f"Someone at {address} asked for {request.url.path} without a valid token.",
                severity=Severity.WARNING,
                address=address,
                path=request.url.path,
                repeats=held_back,
            )
