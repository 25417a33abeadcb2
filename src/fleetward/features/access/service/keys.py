"""The key that seals (`keys/access.key`) and the list of common passwords."""

import gzip
import secrets
from importlib.resources import files
from pathlib import Path

from fleetward.base.errors import KeyUnavailableError
from fleetward.base.files import write_secret
from fleetward.features.access.model.sealing import KEY_BYTES, Sealer


def ensure_sealer(folder: Path) -> Sealer:
    """Return the sealer of the keys' folder, with a fresh key when there is none.

    Raises:
        KeyUnavailableError: the file is no key, or unreadable.
    """
    path = folder / "access.key"
    if not path.exists():
        write_secret(path, secrets.token_bytes(KEY_BYTES))
    try:
        key = path.read_bytes()
    except OSError as error:
        raise KeyUnavailableError(f"{path}: expected the key that seals, found it unreadable") from error
    if len(key) != KEY_BYTES:
        raise KeyUnavailableError(
            f"{path}: expected {KEY_BYTES} bytes, found {len(key)}",
            hint="Restore it from a backup: without it nobody's TOTP code can be verified.",
        )
    return Sealer(key)


def load_common_passwords() -> frozenset[str]:
    """Return 16,290 passwords known from breaches, lower case, of eight characters and more.

    Made from the lists in zxcvbn 4.5 (MIT) and Django 5.2 (BSD), both drawn from published breaches.
    """
    packed = files("fleetward.features.access.model").joinpath("common_passwords.txt.gz").read_bytes()
    return frozenset(gzip.decompress(packed).decode().split())
