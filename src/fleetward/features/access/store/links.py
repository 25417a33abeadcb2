"""One-time links: setup and invitations."""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

import sqlalchemy as sa

from fleetward.base.db import Timestamp, Tx, metadata
from fleetward.features.access.store.rows import as_value

links = sa.Table(
    "access_links",
    metadata,
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("token_hash", sa.LargeBinary(32), nullable=False, unique=True),
    sa.Column("kind", sa.String(16), nullable=False),
    sa.Column("operator", sa.String(64), nullable=True),
    sa.Column("created_by", sa.String(128), nullable=False),
    sa.Column("created_at", Timestamp, nullable=False),
    sa.Column("expires_at", Timestamp, nullable=False),
    sa.Column("closed_at", Timestamp, nullable=True),
    sa.Column("challenge", sa.LargeBinary, nullable=True),
    sa.Column("sealed_totp", sa.LargeBinary, nullable=True),
)


class LinkKind(StrEnum):
    SETUP = "setup"
    INVITATION = "invitation"
    RECOVERY = "recovery"


@dataclass(frozen=True)
class Link:
    """A one-time link, and the challenge and TOTP secret last offered to who opened it."""

    id: str
    token_hash: bytes = field(repr=False)
    kind: LinkKind
    operator: str | None
    created_by: str
    created_at: datetime
    expires_at: datetime
    closed_at: datetime | None = None
    challenge: bytes | None = None
    sealed_totp: bytes | None = None


def insert(tx: Tx, link: Link) -> None:
    tx.conn.execute(links.insert().values(**{**link.__dict__, "kind": link.kind.value}))


def find_open(tx: Tx, token_hash: bytes) -> Link | None:
    """Return the link of a token while it may still be used."""
    condition = (links.c.token_hash == token_hash, links.c.closed_at.is_(None), links.c.expires_at > tx.now)
    row = tx.conn.execute(links.select().where(*condition)).one_or_none()
    return None if row is None else as_value(Link, row, kind=LinkKind(row.kind))


def offer(tx: Tx, link_id: str, operator: str, challenge: bytes, sealed_totp: bytes) -> None:
    """Remember what was offered last, and to which name; an earlier offer is void."""
    values = {"operator": operator, "challenge": challenge, "sealed_totp": sealed_totp}
    tx.conn.execute(links.update().where(links.c.id == link_id).values(values))


def close(tx: Tx, link_id: str) -> bool:
    """Use up a link; return whether it was still open."""
    change = links.update().where(links.c.id == link_id, links.c.closed_at.is_(None))
    return tx.conn.execute(change.values(closed_at=tx.now)).rowcount == 1


def close_all(tx: Tx, kind: LinkKind, operator: str | None = None) -> None:
    """Void every open link of a kind: of all, or of one operator."""
    change = links.update().where(links.c.kind == kind.value, links.c.closed_at.is_(None))
    if operator is not None:
        change = change.where(links.c.operator == operator)
    tx.conn.execute(change.values(closed_at=tx.now))


def forget_expired(tx: Tx) -> None:
    tx.conn.execute(links.delete().where(links.c.expires_at < tx.now))
