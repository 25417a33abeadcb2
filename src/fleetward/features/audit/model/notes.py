"""Signed statements of what the log was: C2SP tlog-checkpoint notes with two lines of our own. Pure.

The body is origin, size, root, then `at_us N` (when it was signed) and `previous N` (the size of the
checkpoint kept before it, 0 for the first): kept checkpoints form a chain, and none can be taken out.
"""

import base64
import hashlib
from dataclasses import dataclass
from datetime import datetime

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from fleetward.base.errors import InvalidInputError
from fleetward.features.audit.model.entry import AuditTamperedError, to_micros
from fleetward.features.audit.model.tree import Tree

MAX_NOTE_CHARS = 2_000
_ED25519 = b"\x01"


@dataclass(frozen=True)
class Checkpoint:
    """A signed statement that the log of this size had this root.

    Attributes:
        at_us: when it was signed, microseconds since 1970; None in notes of the first builds.
        previous: size of the checkpoint kept before it; None in notes of the first builds.
    """

    origin: str
    size: int
    root: bytes
    at_us: int | None
    previous: int | None
    note: str


def render_body(tree: Tree, origin: str, *, at: datetime, previous: int) -> str:
    """Return the text that is signed to state `tree`."""
    root = base64.b64encode(tree.root).decode()
    return f"{origin}\n{tree.size}\n{root}\nat_us {to_micros(at)}\nprevious {previous}\n"


def render_note(body: str, origin: str, key_hash: bytes, signature: bytes) -> str:
    """Return the signed note of a body and its Ed25519 signature."""
    return f"{body}\n\u2014 {origin} {base64.b64encode(key_hash + signature).decode()}\n"


def hash_key(origin: str, key: Ed25519PublicKey) -> bytes:
    """Return the four bytes that name a key in a note."""
    return hashlib.sha256(origin.encode() + b"\n" + _ED25519 + key.public_bytes_raw()).digest()[:4]


def parse_checkpoint(note: str) -> Checkpoint:
    """Return what a note says; nobody has checked who signed it.

    Raises:
        InvalidInputError: not a signed note.
    """
    if len(note) > MAX_NOTE_CHARS:
        raise InvalidInputError(f"audit checkpoint: expected at most {MAX_NOTE_CHARS} characters, found more")
    try:
        note.encode()  # half of a surrogate pair is a character to Python, and text to nobody
        body, _ = note.split("\n\n", 1)
        origin, size, root, *extensions = body.split("\n")
        at_us, previous = _parse_extensions(extensions)
        return Checkpoint(origin, int(size), base64.b64decode(root, validate=True), at_us, previous, note)
    except ValueError as error:
        raise InvalidInputError("audit checkpoint: expected a signed note, found something else") from error


def verify_checkpoint(note: str, key: Ed25519PublicKey) -> Checkpoint:
    """Return the checkpoint of a signed note.

    Raises:
        AuditTamperedError: no signed note, or not signed by `key`.
    """
    try:
        checkpoint = parse_checkpoint(note)
        body, signatures = note.split("\n\n", 1)
        mark, name, signature = signatures.removesuffix("\n").split(" ")
        raw = base64.b64decode(signature, validate=True)
    except (InvalidInputError, ValueError) as error:
        raise AuditTamperedError(f"audit checkpoint: expected a signed note, found {note[:60]!r}") from error
    # The encoded text must be the only one for these bytes: base64 has spare bits, and a note none.
    is_ours = note == f"{body}\n\n\u2014 {checkpoint.origin} {base64.b64encode(raw).decode()}\n"
    is_ours = is_ours and mark == "\u2014" and name == checkpoint.origin
    is_ours = is_ours and raw[:4] == hash_key(checkpoint.origin, key)
    try:
        key.verify(raw[4:], f"{body}\n".encode())
    except InvalidSignature:
        is_ours = False
    if not is_ours:
        raise AuditTamperedError(
            f"audit checkpoint at {checkpoint.size}: expected a signature of the log's key, found another",
            hint="Compare the public key with the one you noted when the platform was made.",
            checkpoint=checkpoint.size,
        )
    return checkpoint


def _parse_extensions(lines: list[str]) -> tuple[int | None, int | None]:
    if not lines:
        return None, None
    at_line, previous_line = lines
    return int(at_line.removeprefix("at_us ")), int(previous_line.removeprefix("previous "))
