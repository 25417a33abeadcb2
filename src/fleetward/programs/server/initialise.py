"""Makes a platform: folder, root and issuing CAs, keys, database, update repository. Safe to run again."""

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from fleetward.base import journal
from fleetward.base.clock import Clock
from fleetward.base.config import ServerConfig, load_config, parse_config, render_config
from fleetward.base.db import Database
from fleetward.base.errors import ConfigError, ConflictError, CorruptDataError, KeyUnavailableError
from fleetward.base.events import emit
from fleetward.base.files import write_atomically, write_secret
from fleetward.base.ids import new_token
from fleetward.base.layout import DataFolder
from fleetward.features.access.service.keys import ensure_sealer
from fleetward.features.access.service.local_token import ensure_admin_token
from fleetward.features.audit import service as audit
from fleetward.features.audit.service import LogNotary
from fleetward.features.pki.authority import rollover
from fleetward.features.pki.authority.ceremony import (
    create_hierarchy,
    ensure_server_certificate,
    load_ca,
    write_chains,
)
from fleetward.features.updates.repository.ceremony import create_update_repository
from fleetward.migrations.runner import migrate
from fleetward.outside.blobs.open import open_blobs
from fleetward.outside.nats.credentials import ensure_nats_keys
from fleetward.programs.server.doors import SETTINGS

MIN_PASSPHRASE_CHARS = 15


@dataclass(frozen=True)
class Initialised:
    """What `initialise` did.

    Attributes:
        passphrase: the generated root passphrase, to be shown once; None when the operator chose it or the
            platform existed.
        was_new: whether the platform did not exist before.
    """

    config: ServerConfig
    passphrase: str | None
    was_new: bool


def initialise(
    folder: DataFolder,
    wanted: ServerConfig,
    *,
    passphrase_file: Path | None,
    clock: Clock,
    tell: Callable[[str], None],
) -> Initialised:
    """Create the platform in `folder`, or finish a creation that was interrupted.

    Keys that exist are never overwritten. The root key is encrypted with the passphrase; nothing that runs
    later needs it.

    Raises:
        ConfigError: unreadable or short passphrase; settings that do not parse.
        ConflictError: the folder belongs to another trust domain.
        CorruptDataError: the database of an existing platform has gone.
        NewerDataError: a later release wrote the folder.
    """
    was_new = not folder.version.exists()
    folder.create()
    folder.check()
    config = _ensure_config(folder, wanted)
    is_complete = _is_complete(folder)
    generated = None
    if not is_complete:
        passphrase, generated = _take_passphrase(folder, passphrase_file)
        tell("Signing the device and server CAs with the offline root")
        create_hierarchy(folder.path, config.trust_domain, passphrase, clock.now())
        _ensure_audit_key(folder)
        ensure_nats_keys(folder.keys)
        tell("Creating the update repository")
        create_update_repository(
            folder.path, open_blobs(blobs_url(folder, config)), passphrase=passphrase, now=clock.now()
        )
    elif not config.database and not folder.database.exists():
        raise CorruptDataError(
            f"{folder.database}: expected the database of this platform, found none",
            hint="Restore the last backup: without it every device and every revocation would be unknown.",
        )
    for name in rollover.NAMES:
        rollover.finish_replacement(folder.path, name, clock.now())
    if not (folder.path / "ca" / "device-cas.pem").exists():
        write_chains(folder.path, ())  # folders of earlier releases lack it
    ensure_admin_token(folder.admin_token)
    ensure_sealer(folder.keys)
    tell("Bringing the database to this release's schema")
    _prepare_database(folder, config, clock, is_first=not is_complete)
    if not is_complete:
        write_atomically(folder.keys / "initialised", b"")
    return Initialised(config, generated, was_new)


def database_url(folder: DataFolder, config: ServerConfig) -> str:
    """Return where relational state lives: as set, or SQLite in the folder."""
    return config.database or f"sqlite:///{folder.database.resolve()}"


def open_database(folder: DataFolder, config: ServerConfig, clock: Clock, notary: LogNotary) -> Database:
    """Return the database of a platform, whose audit log takes down every change."""
    return Database(database_url(folder, config), clock, journal=audit.append, notary=notary)


def blobs_url(folder: DataFolder, config: ServerConfig) -> str:
    """Return where artifacts live: as set, or a folder in the folder."""
    return config.blobs or folder.blobs.resolve().as_uri()


def load_notary(folder: DataFolder, config: ServerConfig) -> LogNotary:
    """Return who signs the audit log. Raises KeyUnavailableError."""
    path = folder.keys / "audit.pem"
    try:
        key = load_pem_private_key(path.read_bytes(), None)
    except (OSError, ValueError, TypeError) as error:
        raise KeyUnavailableError(
            f"{path}: expected the audit log's key, found it unreadable", hint="Restore it from a backup."
        ) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise KeyUnavailableError(f"{path}: expected an Ed25519 key, found another kind")
    return LogNotary(key, f"{config.trust_domain}/audit")


def ensure_listener_certificate(folder: DataFolder, config: ServerConfig, now: datetime) -> None:
    """Make the listeners' certificate, where no platform runs that would. Raises KeyUnavailableError."""
    ensure_server_certificate(folder.path, load_ca(folder.path, "server-ca"), config.host_names, now)


def adopt_log(folder: DataFolder, db: Database, notary: LogNotary) -> None:
    """Sign the end of a log that an earlier build wrote unsigned, once in the folder's life.

    The mark lies outside the database: who can only write there cannot have a forged log adopted.
    """
    mark = folder.keys / "audit.sealed"
    if not mark.exists():
        with db.write("system:audit") as tx:
            audit.adopt(tx, notary)
        write_atomically(mark, b"")


def _ensure_config(folder: DataFolder, wanted: ServerConfig) -> ServerConfig:
    if not folder.config.exists():
        content = render_config(wanted)
        parse_config(
            content, SETTINGS, source="settings"
        )  # wrong ones would lock the folder's owner out of it
        write_secret(folder.config, content)
    config = load_config(folder, SETTINGS)
    if wanted.trust_domain and config.trust_domain != wanted.trust_domain:
        raise ConflictError(
            f"{folder.path}: expected trust domain {wanted.trust_domain}, found {config.trust_domain}",
            hint="Choose another folder: a platform's trust domain stands in every certificate.",
        )
    return config


def _take_passphrase(folder: DataFolder, given: Path | None) -> tuple[bytes, str | None]:
    """Return the root passphrase and, when it was generated, its text.

    A generated one is kept in a file until the ceremony is complete, so that a second run can finish it.
    """
    if given is not None:
        text = read_passphrase(given)
        if len(text) < MIN_PASSPHRASE_CHARS:
            raise ConfigError(
                f"{given}: expected at least {MIN_PASSPHRASE_CHARS} characters, found {len(text)}"
            )
        return text.encode(), None
    pending = folder.offline / "passphrase.pending"
    if not pending.exists():
        write_secret(pending, new_token(bits=160).encode())
    text = pending.read_text()
    return text.encode(), text


def read_passphrase(path: Path) -> str:
    """Return the root passphrase in a file. Raises ConfigError: it cannot be read, or is no text."""
    try:
        return path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: expected the root passphrase, found it unreadable") from error


def check_secrecy(folder: DataFolder, passphrase_file: Path | None) -> None:
    """Pass when nobody keeps the passphrase that making a platform would show.

    Raises:
        ConfigError: what we print goes to the journal, and no passphrase was chosen.
    """
    if passphrase_file is None and not _is_complete(folder) and _is_journal():
        raise ConfigError(
            "root passphrase: expected a place where it is shown once, found the journal, which keeps it",
            hint=f"Make the platform by hand, once: fleetward init --data {folder.path}; then start it.",
        )


def _is_journal() -> bool:
    """Say whether what we print goes to systemd's journal (systemd.exec, JOURNAL_STREAM)."""
    journal = os.environ.get("JOURNAL_STREAM")
    for descriptor in (1, 2) if journal else ():
        with suppress(OSError):  # closed: nothing goes anywhere
            found = os.fstat(descriptor)
            if f"{found.st_dev}:{found.st_ino}" == journal:
                return True
    return False


def _is_complete(folder: DataFolder) -> bool:
    return (folder.keys / "initialised").exists()


def forget_passphrase(folder: DataFolder) -> None:
    """Remove the generated passphrase from disk once it has been shown."""
    (folder.offline / "passphrase.pending").unlink(missing_ok=True)


def _ensure_audit_key(folder: DataFolder) -> None:
    path = folder.keys / "audit.pem"
    if not path.exists():
        pem = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        write_secret(path, pem)


def _prepare_database(folder: DataFolder, config: ServerConfig, clock: Clock, *, is_first: bool) -> None:
    notary = load_notary(folder, config)
    db = open_database(folder, config, clock, notary)
    try:
        before, _ = migrate(db)
        adopt_log(folder, db, notary)
        if before is None or is_first:
            with db.write("system:init") as tx:
                journal.record(tx, "platform.initialised", f"platform:{config.trust_domain}")
                emit(tx, "platform.initialised", f"The platform of {config.trust_domain} was created.")
    finally:
        db.close()
