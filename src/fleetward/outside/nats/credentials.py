"""The nkeys by which the back end signs in to nats-server and signs the callout's answers."""

import os
from dataclasses import dataclass, field
from pathlib import Path

import nkeys

from fleetward.base.errors import KeyUnavailableError
from fleetward.base.files import write_secret


@dataclass(frozen=True)
class NatsKeys:
    """Seeds of the nkeys we sign and sign in with; secrets.

    Attributes:
        issuer: account key that signs the callout's answers.
        platform: user of the account FLEET.
        system: user of the system account.
    """

    issuer: str = field(repr=False)
    platform: str = field(repr=False)
    system: str = field(repr=False)


def ensure_nats_keys(folder: Path) -> NatsKeys:
    """Return the keys in `folder`, made at random where absent; existing ones are never overwritten.

    Raises:
        KeyUnavailableError: a file exists and is no seed, or cannot be read.
    """
    return NatsKeys(
        issuer=_ensure_seed(folder / "nats-issuer.seed", nkeys.PREFIX_BYTE_ACCOUNT),
        platform=_ensure_seed(folder / "nats-platform.seed", nkeys.PREFIX_BYTE_USER),
        system=_ensure_seed(folder / "nats-system.seed", nkeys.PREFIX_BYTE_USER),
    )


def public_nkey(seed: str) -> str:
    """Return the public nkey of a seed."""
    return str(nkeys.from_seed(seed.encode()).public_key.decode())


def _ensure_seed(path: Path, prefix: int) -> str:
    if not path.exists():
        write_secret(path, nkeys.encode_seed(os.urandom(32), prefix) + b"\n")
    try:
        seed = path.read_text().strip()
        nkeys.from_seed(seed.encode())
    except (OSError, UnicodeDecodeError, nkeys.ErrInvalidSeed, nkeys.ErrInvalidPrefixByte) as error:
        raise KeyUnavailableError(
            f"{path}: expected an nkey seed, found it unreadable or damaged",
            hint="Restore it from a backup, or remove it while Fleetward is stopped: a new one is made.",
        ) from error
    return seed
