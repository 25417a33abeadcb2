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
from fleetward.base.web import Principal

_MIN_TOKEN_CHARS = 32
_ACTOR = "operator:admin"


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


class AdminTokenAuthenticator:
    """Lets the holder of the admin token do everything, and nobody else anything."""

    def __init__(self, token: str, db: Database) -> None:
        self._digest = hashlib.sha256(token.encode()).digest()
        self._db = db
        self._throttle = RefusalThrottle()

    def authorize(self, request: Request, permission: str) -> Principal:
        """Return the administrator. Raises UnauthenticatedError for anyone else; the attempt is recorded."""
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        given = hashlib.sha256(token.strip().encode()).digest()
        if scheme.lower() == "bearer" and hmac.compare_digest(given, self._digest):
            return Principal(_ACTOR)
        self._record(request, permission)
        raise UnauthenticatedError(
            "authorization: expected the administrator's token, found " + ("another" if token else "none"),
            hint="Send it as 'Authorization: Bearer …'; it lies in admin.token of the data folder.",
        )

    def _record(self, request: Request, permission: str) -> None:
        address = request.client.host if request.client else "unknown"
        held_back = self._throttle.admit(("access.refused", address), time.monotonic())
        if held_back is None:
            return
        with self._db.write("system:access") as tx:
            emit(
                tx,
                "access.refused",
                f"Someone at {address} asked for {permission} without a valid token.",
                severity=Severity.WARNING,
                address=address,
                permission=permission,
                repeats=held_back,
            )
