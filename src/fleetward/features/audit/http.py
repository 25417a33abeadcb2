"""Operator routes of the audit log."""

import base64
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request

from fleetward.base.clock import parse_time, render_time
from fleetward.base.errors import RateLimitedError
from fleetward.base.web import Db, Principal, requires
from fleetward.features.audit import service
from fleetward.features.audit.model.entry import Entry, to_micros
from fleetward.features.audit.ports import Witness
from fleetward.features.audit.service import LogNotary

router = APIRouter(tags=["audit"])
_MAX_PAGE = 5000
_VERIFY_AGAIN_S = 5
_MAX_SIZE = 2**53
# PostgreSQL takes no NUL in a text.
Text = Annotated[str | None, Query(max_length=200, pattern=r"^[^\x00]*$")]
Size = Annotated[int, Query(ge=0, le=_MAX_SIZE)]


@dataclass(frozen=True)
class AuditContext:
    """Who signs the log, and who watches it; in `app.state.audit`."""

    notary: LogNotary
    witness: Witness | None = None
    verifying: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)


@dataclass(frozen=True)
class AuditEntryView:
    """An entry and its leaf hash, base64."""

    sequence: int
    time: str
    at_us: int
    actor: str
    action: str
    subject: str
    details: dict[str, Any]
    leaf_hash: str


@dataclass(frozen=True)
class AuditPage:
    entries: list[AuditEntryView]
    next_after: int | None


@dataclass(frozen=True)
class AuditHeadView:
    """Where the log ends: its size, the roots of its full subtrees in base64, the signed note."""

    size: int
    peaks: list[str]
    note: str


@dataclass(frozen=True)
class AuditCheckpoints:
    """Signed notes (C2SP tlog-checkpoint) and the Ed25519 public key that verifies them, base64."""

    origin: str
    public_key: str
    head: AuditHeadView
    notes: list[str]
    next_after: int | None


@dataclass(frozen=True)
class AuditVerdict:
    """The log holds together. `witnessed` counts the notes of the witness it was held against."""

    verified: bool
    entries: int
    root: str
    public_key: str
    witnessed: int


@dataclass(frozen=True)
class InclusionProof:
    """RFC 6962 section 2.1.1; hashes in base64. `note` signs the root, null where none was kept."""

    entry: AuditEntryView
    size: int
    path: list[str]
    root: str
    note: str | None
    public_key: str


@dataclass(frozen=True)
class ConsistencyProof:
    """RFC 6962 section 2.1.2; hashes in base64. The notes sign the roots, null where none was kept."""

    first_size: int
    second_size: int
    path: list[str]
    first_root: str
    second_root: str
    first_note: str | None
    second_note: str | None
    public_key: str


@router.get("/audit/entries")
def search(
    db: Db,
    _principal: Annotated[Principal, requires("audit.read")],
    after: Annotated[int, Query(ge=-1, le=_MAX_SIZE)] = -1,
    limit: Annotated[int, Query(ge=1, le=_MAX_PAGE)] = 1000,
    actor: Text = None,
    action: Text = None,
    subject: Text = None,
    device: Text = None,
    since: str | None = None,
    until: str | None = None,
) -> AuditPage:
    """Entries in order. `action` is a prefix, `device` means the subject `device:<id>`, `until` is out."""
    with db.read() as tx:
        entries = service.search(
            tx,
            after=after,
            limit=limit,
            actor=actor,
            action=action,
            subject=subject if device is None else f"device:{device}",
            since=parse_time(since) if since else None,
            until=parse_time(until) if until else None,
        )
        found = [_view(entry, leaf) for entry, leaf in entries]
    return AuditPage(found, found[-1].sequence if len(found) == limit else None)


@router.get("/audit/checkpoints")
def checkpoints(
    request: Request,
    db: Db,
    _principal: Annotated[Principal, requires("audit.read")],
    after: Annotated[int, Query(ge=-1, le=_MAX_SIZE)] = -1,
    limit: Annotated[int, Query(ge=1, le=_MAX_PAGE)] = _MAX_PAGE,
) -> AuditCheckpoints:
    notary = _context(request).notary
    with db.read() as tx:
        head = service.read_head(tx)
        found = service.list_checkpoints(tx, after=after, limit=limit)
    return AuditCheckpoints(
        notary.origin,
        _public_key(request),
        AuditHeadView(head.tree.size, [_b64(peak) for peak in head.tree.peaks], head.note),
        [note for _, note in found],
        found[-1][0] if len(found) == limit else None,
    )


@router.get("/audit/verify")
def verify(
    request: Request, db: Db, _principal: Annotated[Principal, requires("audit.read")]
) -> AuditVerdict:
    """Read the whole log where it lies and prove it; the problem `audit_tampered` names the entry.

    One at a time in each process, and never more than half of its time.
    """
    context = _context(request)
    if not context.verifying.acquire(blocking=False):
        raise RateLimitedError(
            "audit log: expected one verification at a time, found another under way",
            retry_after_s=_VERIFY_AGAIN_S,
        )
    try:
        witnessed = [] if context.witness is None else context.witness.read()
        with db.read() as tx:
            key = context.notary.public_key
            tree = service.verify(tx, key, witnessed=witnessed, rest=_rest_as_long_as_worked())
    finally:
        context.verifying.release()
    return AuditVerdict(
        verified=True,
        entries=tree.size,
        root=tree.root.hex(),
        public_key=_public_key(request),
        witnessed=len(witnessed),
    )


@router.get("/audit/proof/inclusion")
def prove_inclusion(
    request: Request,
    db: Db,
    _principal: Annotated[Principal, requires("audit.read")],
    sequence: Size,
    size: Size | None = None,
) -> InclusionProof:
    """Prove that an entry is in the log of `size` entries, or as it is now."""
    with db.read() as tx:
        found = service.prove_inclusion(tx, sequence, size)
    return InclusionProof(
        entry=_view(found.entry, found.leaf),
        size=found.size,
        path=[_b64(one) for one in found.path],
        root=_b64(found.root),
        note=found.note,
        public_key=_public_key(request),
    )


@router.get("/audit/proof/consistency")
def prove_consistency(
    request: Request,
    db: Db,
    _principal: Annotated[Principal, requires("audit.read")],
    first: Annotated[int, Query(ge=0, le=_MAX_SIZE, alias="from")],
    second: Annotated[int | None, Query(ge=0, le=_MAX_SIZE, alias="to")] = None,
) -> ConsistencyProof:
    """Prove that the log of `to` entries, or as it is now, begins with that of `from`."""
    with db.read() as tx:
        found = service.prove_consistency(tx, first, second)
    return ConsistencyProof(
        first_size=found.first,
        second_size=found.second,
        path=[_b64(one) for one in found.path],
        first_root=_b64(found.roots[0]),
        second_root=_b64(found.roots[1]),
        first_note=found.notes[0],
        second_note=found.notes[1],
        public_key=_public_key(request),
    )


def _rest_as_long_as_worked() -> Callable[[], None]:
    """Return what sleeps for as long as its thread has worked since the last time."""
    worked_s = time.thread_time()

    def rest() -> None:
        nonlocal worked_s
        now_s = time.thread_time()
        time.sleep(now_s - worked_s)
        worked_s = now_s

    return rest


def _context(request: Request) -> AuditContext:
    context: AuditContext = request.app.state.audit
    return context


def _public_key(request: Request) -> str:
    return _b64(_context(request).notary.public_key.public_bytes_raw())


def _b64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def _view(entry: Entry, leaf: bytes) -> AuditEntryView:
    return AuditEntryView(
        sequence=entry.sequence,
        time=render_time(entry.at),
        at_us=to_micros(entry.at),
        actor=entry.actor,
        action=entry.action,
        subject=entry.subject,
        details=entry.details,
        leaf_hash=_b64(leaf),
    )
