"""Operator routes of the audit log."""

import base64
from dataclasses import dataclass
from typing import Annotated, Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from fastapi import APIRouter, Query, Request

from fleetward.base.clock import render_time
from fleetward.base.web import Db, Principal, requires
from fleetward.features.audit import service
from fleetward.features.audit.model import Entry

router = APIRouter(tags=["audit"])
_MAX_PAGE = 5000


@dataclass(frozen=True)
class AuditContext:
    """The log's name and key; in `app.state.audit`."""

    key: Ed25519PrivateKey
    origin: str


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
class AuditCheckpoints:
    """Signed notes (C2SP tlog-checkpoint) and the Ed25519 public key that verifies them, base64."""

    origin: str
    public_key: str
    notes: list[str]


@router.get("/audit/entries")
def search(
    db: Db,
    _principal: Annotated[Principal, requires("audit.read")],
    after: int = -1,
    limit: Annotated[int, Query(ge=1, le=_MAX_PAGE)] = 1000,
    actor: str | None = None,
    action: str | None = None,
    subject: str | None = None,
) -> AuditPage:
    with db.read() as tx:
        found = [
            _view(entry, leaf)
            for entry, leaf in service.search(
                tx, after=after, limit=limit, actor=actor, action=action, subject=subject
            )
        ]
    return AuditPage(found, found[-1].sequence if len(found) == limit else None)


@router.get("/audit/checkpoints")
def checkpoints(
    request: Request, db: Db, principal: Annotated[Principal, requires("audit.read")]
) -> AuditCheckpoints:
    context: AuditContext = request.app.state.audit
    with db.write(principal.actor) as tx:
        service.checkpoint(tx, context.key, context.origin)
        notes = service.list_checkpoints(tx)
    public = base64.b64encode(context.key.public_key().public_bytes_raw()).decode()
    return AuditCheckpoints(context.origin, public, notes)


def _view(entry: Entry, leaf: bytes) -> AuditEntryView:
    return AuditEntryView(
        sequence=entry.sequence,
        time=render_time(entry.at),
        at_us=int(entry.at.timestamp()) * 1_000_000 + entry.at.microsecond,
        actor=entry.actor,
        action=entry.action,
        subject=entry.subject,
        details=entry.details,
        leaf_hash=base64.b64encode(leaf).decode(),
    )
