"""The Merkle tree of RFC 6962 section 2.1 over audit entries, and its verification. Pure.

A leaf is SHA-256(0x00 || entry bytes), a node SHA-256(0x01 || left || right). A log is kept as its
`peaks`: the roots of the full subtrees that its size, written in binary, names from the left.
"""

import base64
import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from fleetward.base.errors import CorruptDataError, InvalidInputError

EMPTY_ROOT = hashlib.sha256(b"").digest()
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MAX_CHECKPOINT_CHARS = 2_000


class AuditTamperedError(CorruptDataError):
    """The log is not what was signed; details name the entry or the checkpoint."""

    code = "audit_tampered"


@dataclass(frozen=True)
class Entry:
    """One state change. `sequence` counts from 0 without gaps."""

    sequence: int
    at: datetime
    actor: str
    action: str
    subject: str
    details: dict[str, Any] = field(default_factory=dict)


def render_entry(entry: Entry) -> bytes:
    """Return the bytes that are hashed: JSON, sorted keys, no white space, time in microseconds."""
    return json.dumps(
        {
            "action": entry.action,
            "actor": entry.actor,
            "at_us": (entry.at - _EPOCH) // timedelta(microseconds=1),
            "details": entry.details,
            "sequence": entry.sequence,
            "subject": entry.subject,
        },
        sort_keys=True,
        separators=(",", ":"),
        ensure_ascii=True,
    ).encode()


def hash_leaf(entry_bytes: bytes) -> bytes:
    return hashlib.sha256(b"\x00" + entry_bytes).digest()


def hash_node(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()


@dataclass(frozen=True)
class Tree:
    """A log of `size` entries, held as its peaks, largest subtree first."""

    size: int = 0
    peaks: tuple[bytes, ...] = ()

    def append(self, leaf: bytes) -> "Tree":
        """Return the tree with one more leaf."""
        peaks = [*self.peaks, leaf]
        remaining = self.size
        while remaining & 1:
            right = peaks.pop()
            peaks.append(hash_node(peaks.pop(), right))
            remaining >>= 1
        return Tree(self.size + 1, tuple(peaks))

    @property
    def root(self) -> bytes:
        """The Merkle tree hash (RFC 6962 section 2.1)."""
        if not self.peaks:
            return EMPTY_ROOT
        root = self.peaks[-1]
        for peak in reversed(self.peaks[:-1]):
            root = hash_node(peak, root)
        return root


@dataclass(frozen=True)
class Checkpoint:
    """A signed statement that the log of this size had this root."""

    origin: str
    size: int
    root: bytes
    note: str


def sign_checkpoint(tree: Tree, origin: str, key: Ed25519PrivateKey) -> Checkpoint:
    """Return a checkpoint in the signed note form of C2SP tlog-checkpoint."""
    body = f"{origin}\n{tree.size}\n{base64.b64encode(tree.root).decode()}\n"
    signature = base64.b64encode(_key_hash(origin, key.public_key()) + key.sign(body.encode())).decode()
    return Checkpoint(origin, tree.size, tree.root, f"{body}\n\u2014 {origin} {signature}\n")


def verify_checkpoint(note: str, key: Ed25519PublicKey) -> Checkpoint:
    """Return the checkpoint of a signed note.

    Raises:
        InvalidInputError: not a signed note.
        AuditTamperedError: not signed by `key`.
    """
    if len(note) > _MAX_CHECKPOINT_CHARS:
        raise InvalidInputError(
            f"audit checkpoint: expected at most {_MAX_CHECKPOINT_CHARS} characters, found more"
        )
    try:
        body, signatures = note.split("\n\n", 1)
        origin, size, root = body.split("\n")
        mark, name, signature = signatures.rstrip("\n").split(" ")
        raw = base64.b64decode(signature, validate=True)
        checkpoint = Checkpoint(origin, int(size), base64.b64decode(root, validate=True), note)
    except ValueError as error:
        raise InvalidInputError("audit checkpoint: expected a signed note, found something else") from error
    is_ours = mark == "\u2014" and name == origin and raw[:4] == _key_hash(origin, key)
    try:
        key.verify(raw[4:], f"{body}\n".encode())
    except InvalidSignature:
        is_ours = False
    if not is_ours:
        raise AuditTamperedError(
            f"audit checkpoint at {size}: expected a signature of the log's key, found another",
            checkpoint=checkpoint.size,
        )
    return checkpoint


def verify_log(entries: Iterable[tuple[Entry, bytes]], notes: Sequence[str], key: Ed25519PublicKey) -> Tree:
    """Return the tree of a whole log that holds together.

    1. Sequences run 0, 1, 2 … 2. Each entry hashes to its stored leaf hash. 3. Each checkpoint is signed
    and names the root at its size. 4. No checkpoint lies beyond the end.

    Args:
        entries: each entry with its stored leaf hash, in order.
        notes: checkpoints, any order.

    Raises:
        AuditTamperedError: something was altered, removed or reordered; details name which.
    """
    checkpoints = {found.size: found for found in (verify_checkpoint(note, key) for note in notes)}
    tree, trusted = Tree(), 0
    _verify_root(tree, checkpoints, trusted)
    for entry, leaf in entries:
        if entry.sequence != tree.size:
            raise AuditTamperedError(
                f"audit entry {tree.size}: expected next in order, found {entry.sequence}", entry=tree.size
            )
        if hash_leaf(render_entry(entry)) != leaf:
            raise AuditTamperedError(
                f"audit entry {entry.sequence}: expected the content that was hashed, found it altered",
                entry=entry.sequence,
            )
        tree = tree.append(leaf)
        if tree.size in checkpoints:
            _verify_root(tree, checkpoints, trusted)
            trusted = tree.size
    beyond = [size for size in checkpoints if size > tree.size]
    if beyond:
        raise AuditTamperedError(
            f"audit entry {tree.size}: expected {max(beyond)} entries as signed, found {tree.size}: "
            "the last were removed",
            entry=tree.size,
        )
    return tree


def _verify_root(tree: Tree, checkpoints: dict[int, Checkpoint], trusted: int) -> None:
    signed = checkpoints.get(tree.size)
    if signed is not None and signed.root != tree.root:
        raise AuditTamperedError(
            f"audit entries {trusted} to {tree.size - 1}: expected the signed root, found another: "
            "one of them was replaced together with its hash",
            entry=trusted,
            last=tree.size - 1,
        )


def _key_hash(origin: str, key: Ed25519PublicKey) -> bytes:
    return hashlib.sha256(origin.encode() + b"\n\x01" + key.public_bytes_raw()).digest()[:4]
