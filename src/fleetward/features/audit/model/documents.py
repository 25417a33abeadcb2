"""What the API and an export say of the log, as anybody can verify it with the public key alone. Pure.

Binary values are base64. `convert_document` is the only way in for what a file or a server said.
"""

from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from fleetward.base.errors import InvalidInputError
from fleetward.features.audit.model.entry import AuditTamperedError, Entry, from_micros, render_entry
from fleetward.features.audit.model.log import Head, Statements, verify_log
from fleetward.features.audit.model.notes import verify_checkpoint
from fleetward.features.audit.model.proofs import verify_consistency, verify_inclusion
from fleetward.features.audit.model.tree import Tree, hash_leaf

Document = TypeVar("Document", bound=msgspec.Struct)


class EntryDocument(msgspec.Struct, frozen=True):
    """An entry and its leaf hash."""

    sequence: int
    at_us: int
    actor: str
    action: str
    subject: str
    details: dict[str, Any]
    leaf_hash: bytes


class HeadDocument(msgspec.Struct, frozen=True):
    """Where the log ends."""

    size: int
    peaks: list[bytes]
    note: str


class LogDocument(msgspec.Struct, frozen=True):
    """The first line of an export: all that is said of the entries that follow."""

    public_key: bytes
    head: HeadDocument
    notes: list[str]


class InclusionDocument(msgspec.Struct, frozen=True):
    """A proof that an entry is in the log whose root `note` signs."""

    entry: EntryDocument
    size: int
    path: list[bytes]
    note: str | None
    public_key: bytes


class ConsistencyDocument(msgspec.Struct, frozen=True):
    """A proof that the log of `second_note` begins with that of `first_note`."""

    first_size: int
    second_size: int
    path: list[bytes]
    first_note: str | None
    second_note: str | None
    public_key: bytes


def convert_document(value: object, kind: type[Document], *, what: str) -> Document:
    """Return a document that a file or a server gave. Raises InvalidInputError."""
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise InvalidInputError(f"{what}: {error}") from error


def load_key(raw: bytes) -> Ed25519PublicKey:
    """Return a public key of 32 bytes. Raises InvalidInputError."""
    try:
        return Ed25519PublicKey.from_public_bytes(raw)
    except ValueError as error:
        raise InvalidInputError(f"audit public key: expected 32 bytes, found {len(raw)}") from error


def verify_log_document(
    document: LogDocument, entries: Iterable[object], key: Ed25519PublicKey, *, witnessed: list[str]
) -> Tree:
    """Return the tree of a log that was read elsewhere.

    Raises:
        AuditTamperedError: something was altered, removed or reordered; details name which.
        InvalidInputError: an entry is none.
    """
    head = Head(Tree(document.head.size, tuple(document.head.peaks)), document.head.note, 0)
    statements = Statements(document.notes, head, witnessed)
    return verify_log(_read_entries(entries), statements, key)


def verify_inclusion_document(document: InclusionDocument, key: Ed25519PublicKey) -> None:
    """Pass when the entry is in the signed log. Raises AuditTamperedError."""
    root = _verify_root(document.note, document.size, key)
    entry, _ = _read_entry(document.entry)
    leaf = hash_leaf(render_entry(entry))
    verify_inclusion(leaf, entry.sequence, document.size, document.path, root)


def verify_consistency_document(document: ConsistencyDocument, key: Ed25519PublicKey) -> None:
    """Pass when the longer signed log begins with the shorter. Raises AuditTamperedError."""
    first = _verify_root(document.first_note, document.first_size, key)
    second = _verify_root(document.second_note, document.second_size, key)
    verify_consistency(document.first_size, document.second_size, (first, second), document.path)


def _verify_root(note: str | None, size: int, key: Ed25519PublicKey) -> bytes:
    if note is None:
        raise AuditTamperedError(
            f"audit log of {size} entries: expected a signed note, found none",
            hint="Ask for the size of a kept checkpoint, or for the log as it is now.",
        )
    signed = verify_checkpoint(note, key)
    if signed.size != size:
        raise AuditTamperedError(
            f"audit log of {size} entries: expected the note of that size, found one of {signed.size}"
        )
    return signed.root


def _read_entries(entries: Iterable[object]) -> Iterator[tuple[Entry, bytes]]:
    for value in entries:
        yield _read_entry(convert_document(value, EntryDocument, what="audit entry"))


def _read_entry(found: EntryDocument) -> tuple[Entry, bytes]:
    try:
        at = from_micros(found.at_us)
    except OverflowError as error:
        raise AuditTamperedError(
            f"audit entry {found.sequence}: expected a time, found {found.at_us}", entry=found.sequence
        ) from error
    entry = Entry(found.sequence, at, found.actor, found.action, found.subject, found.details)
    return entry, found.leaf_hash
