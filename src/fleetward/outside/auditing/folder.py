"""Reads the audit log of a platform that does not run, from the SQLite file in its data folder.

Read only, and through Python's own sqlite3: the log can be verified with nothing of the server installed.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from fleetward.base.errors import ConfigError, CorruptDataError, KeyUnavailableError
from fleetward.base.layout import DataFolder
from fleetward.features.audit.model.entry import HASH_BYTES, AuditTamperedError, Entry, read_entry
from fleetward.features.audit.model.log import Head, KeptCheckpoint, Statements, verify_kept, verify_log
from fleetward.features.audit.model.tree import Tree

_ENTRIES = (
    "SELECT sequence, at, actor, action, subject, details, leaf_hash FROM audit_entries ORDER BY sequence"
)


def verify_folder(folder: DataFolder, key: Ed25519PublicKey, witnessed: list[str]) -> Tree:
    """Return the tree of the log in a data folder, every column of every table checked.

    Raises:
        AuditTamperedError: something was altered, removed or reordered; details name which.
        ConfigError: the folder holds no SQLite database.
        CorruptDataError: the file cannot be read as one.
    """
    with _open(folder) as db:
        head = _read_head(db)
        rows = [
            KeptCheckpoint(*row)
            for row in db.execute("SELECT size, at, note FROM audit_checkpoints ORDER BY size")
        ]
        notes = verify_kept(rows, head, key)
        nodes = {(level, index): bytes(found) for level, index, found in
                 db.execute('SELECT level, "index", hash FROM audit_nodes')}  # fmt: skip
        return verify_log(_entries(db), Statements(notes, head, witnessed, nodes), key)


def load_public_key(folder: DataFolder) -> Ed25519PublicKey:
    """Return the public half of the log's key in a data folder. Raises KeyUnavailableError."""
    path = folder.keys / "audit.pem"
    try:
        key = load_pem_private_key(path.read_bytes(), None)
    except (OSError, ValueError, TypeError) as error:
        raise KeyUnavailableError(
            f"{path}: expected the audit log's key, found it unreadable",
            hint="Give the public key you noted: --public-key.",
        ) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise KeyUnavailableError(f"{path}: expected an Ed25519 key, found another kind")
    return key.public_key()


@contextmanager
def _open(folder: DataFolder) -> Iterator[sqlite3.Connection]:
    path = folder.database
    if not path.is_file():
        raise ConfigError(
            f"{path}: expected the database of a platform, found none",
            hint="A log in PostgreSQL: verify an export (--file), or ask the running platform.",
        )
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as db:
            db.execute("BEGIN")
            yield db
    except sqlite3.Error as error:
        raise CorruptDataError(
            f"{path}: expected a readable audit log, found: {error}",
            hint="Start the platform once to bring the database to this release.",
        ) from error


def _read_head(db: sqlite3.Connection) -> Head:
    rows = db.execute("SELECT size, peaks, note, kept FROM audit_head WHERE id = 1").fetchall()
    if len(rows) != 1:
        raise AuditTamperedError("audit head: expected one row, found none")
    size, peaks, note, kept = rows[0]
    found = bytes(peaks)
    split = tuple(found[at : at + HASH_BYTES] for at in range(0, len(found), HASH_BYTES))
    return Head(Tree(size, split), note, kept)


def _entries(db: sqlite3.Connection) -> Iterator[tuple[Entry, bytes]]:
    for row in db.execute(_ENTRIES):
        yield read_entry(row)
