"""Tables of releases and of the TUF metadata that stands published for each model."""

from datetime import datetime
from typing import Any

import sqlalchemy as sa

from fleetward.base.db import IdQuery, RowId, Timestamp, Tx, is_among, metadata
from fleetward.base.events import IS_ALERTING, Event, as_event, events_table
from fleetward.features.updates.model import (
    MAX_VERSION_CHARS,
    Approval,
    Artifact,
    Release,
    ReleaseState,
    RepositoryState,
)

_ROLES = ("targets", "snapshot", "timestamp")

releases = sa.Table(
    "releases",
    metadata,
    sa.Column("id", RowId, primary_key=True, autoincrement=True),
    sa.Column("model", sa.String(64), sa.ForeignKey("models.id"), nullable=False),
    sa.Column("version", sa.String(MAX_VERSION_CHARS), nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("security_counter", sa.BigInteger, nullable=False),
    sa.Column("image_sha256", sa.String(64), nullable=False),
    sa.Column("image_sha512", sa.String(128), nullable=False),
    sa.Column("image_length", sa.BigInteger, nullable=False),
    sa.Column("sbom_sha256", sa.String(64), nullable=False),
    sa.Column("sbom_sha512", sa.String(128), nullable=False),
    sa.Column("sbom_length", sa.BigInteger, nullable=False),
    sa.Column("manifest", sa.Text, nullable=False),
    sa.Column("author", sa.String(128), nullable=False),
    sa.Column("created_at", Timestamp, nullable=False),
    sa.Column("published_at", Timestamp, nullable=True),
    sa.Column("withdrawn_at", Timestamp, nullable=True),
    sa.Column("withdrawn_reason", sa.String(200), nullable=False),
    sa.Column("rejected_at", Timestamp, nullable=True),
    sa.Column("rejected_by", sa.String(64), nullable=True),
    sa.Column("rejected_reason", sa.String(200), nullable=True),
    sa.UniqueConstraint("model", "version", name="uq_releases_model_version"),
    sa.UniqueConstraint("model", "security_counter", name="uq_releases_model_security_counter"),
)

approvals = sa.Table(
    "release_approvals",
    metadata,
    sa.Column("release", RowId, sa.ForeignKey("releases.id"), primary_key=True, autoincrement=False),
    sa.Column("operator", sa.String(64), primary_key=True),
    sa.Column("at", Timestamp, nullable=False),
)

repositories = sa.Table(
    "update_repositories",
    metadata,
    sa.Column("model", sa.String(64), sa.ForeignKey("models.id"), primary_key=True),
    sa.Column("reserved", sa.BigInteger, nullable=False),
    sa.Column("root", sa.BigInteger, nullable=False),
    *(sa.Column(f"{role}_version", sa.BigInteger, nullable=True) for role in _ROLES),
    *(sa.Column(f"{role}_expires_at", Timestamp, nullable=True) for role in _ROLES),
)


def insert_release(tx: Tx, release: Release) -> Release:
    """Record a release and return it with its id."""
    tx.conn.execute(
        releases.insert().values(
            model=release.model,
            version=release.version,
            state=release.state.value,
            security_counter=release.security_counter,
            image_sha256=release.image.sha256,
            image_sha512=release.image.sha512,
            image_length=release.image.length,
            sbom_sha256=release.sbom.sha256,
            sbom_sha512=release.sbom.sha512,
            sbom_length=release.sbom.length,
            manifest=release.manifest.decode(),
            author=release.author,
            created_at=release.created_at,
            withdrawn_reason="",
        )
    )
    return get_release(tx, release.model, release.version)


def get_release(tx: Tx, model: str, version: str) -> Release:
    """Return a release that is known to exist."""
    row = tx.conn.execute(
        releases.select().where(releases.c.model == model, releases.c.version == version)
    ).one()
    return _as_release(row)


def find_release(tx: Tx, model: str, version: str) -> Release | None:
    row = tx.conn.execute(
        releases.select().where(releases.c.model == model, releases.c.version == version)
    ).one_or_none()
    return None if row is None else _as_release(row)


def list_releases(tx: Tx, *, model: str | None = None, state: ReleaseState | None = None) -> list[Release]:
    """Return releases by model, oldest counter first."""
    query = releases.select().order_by(releases.c.model, releases.c.security_counter)
    if model is not None:
        query = query.where(releases.c.model == model)
    if state is not None:
        query = query.where(releases.c.state == state.value)
    return [_as_release(row) for row in tx.conn.execute(query)]


def highest_counter(tx: Tx, model: str) -> int | None:
    """Return the highest security counter ever given out for a model."""
    query = sa.select(sa.func.max(releases.c.security_counter)).where(releases.c.model == model)
    highest: int | None = tx.conn.execute(query).scalar_one()
    return highest


def update_release(tx: Tx, release: Release, **values: Any) -> bool:
    """Change a release that is still in the state that was read; return whether it changed."""
    result = tx.conn.execute(
        releases.update()
        .where(releases.c.id == release.id, releases.c.state == release.state.value)
        .values(**values)
    )
    return result.rowcount == 1


def insert_approval(tx: Tx, approval: Approval) -> None:
    tx.conn.execute(approvals.insert().values(**approval.__dict__))


def list_approvals(tx: Tx, release: int | None = None) -> list[Approval]:
    """Return the approvals of one release, or of all, oldest first."""
    query = approvals.select().order_by(approvals.c.at, approvals.c.operator)
    if release is not None:
        query = query.where(approvals.c.release == release)
    return [Approval(row.release, row.operator, row.at) for row in tx.conn.execute(query)]


def ensure_repository(tx: Tx, model: str) -> None:
    """Make a model's row when there is none; the caller holds the model's lock."""
    if find_repository(tx, model) is None:
        tx.conn.execute(repositories.insert().values(model=model, reserved=0, root=0))


def find_repository(tx: Tx, model: str, *, is_locking: bool = False) -> RepositoryState | None:
    """Return a model's state. `is_locking` keeps other writers out until this transaction ends."""
    query = repositories.select().where(repositories.c.model == model)
    row = tx.conn.execute(query.with_for_update() if is_locking else query).one_or_none()
    if row is None:
        return None
    values = row._mapping  # noqa: SLF001 - SQLAlchemy's documented name
    roles: dict[str, tuple[int, datetime]] = {}
    if values["timestamp_version"] is not None:
        roles = {role: (values[f"{role}_version"], values[f"{role}_expires_at"]) for role in _ROLES}
    return RepositoryState(model, values["reserved"], roles, values["root"])


def list_repositories(tx: Tx) -> list[str]:
    """Return the models that have a repository."""
    query = sa.select(repositories.c.model).order_by(repositories.c.model)
    return list(tx.conn.execute(query).scalars())


def reserve_version(tx: Tx, model: str) -> int:
    """Give out the next version number of a model's metadata."""
    tx.conn.execute(
        repositories.update()
        .where(repositories.c.model == model)
        .values(reserved=repositories.c.reserved + 1)
    )
    query = sa.select(repositories.c.reserved).where(repositories.c.model == model)
    return int(tx.conn.execute(query).scalar_one())


def update_repository(tx: Tx, state: RepositoryState) -> None:
    """Record what stands published now."""
    values: dict[str, Any] = {"root": state.root}
    for role, (version, expires_at) in state.roles.items():
        values |= {f"{role}_version": version, f"{role}_expires_at": expires_at}
    tx.conn.execute(repositories.update().where(repositories.c.model == state.model).values(**values))


def lock_model(tx: Tx, model: str) -> None:
    """Keep other publishers of this model out until the transaction ends."""
    models = metadata.tables["models"]
    tx.conn.execute(sa.select(models.c.id).where(models.c.id == model).with_for_update()).one()


def _as_release(row: sa.Row[Any]) -> Release:
    return Release(
        id=row.id,
        model=row.model,
        version=row.version,
        state=ReleaseState(row.state),
        security_counter=row.security_counter,
        image=Artifact(row.image_sha256, row.image_sha512, row.image_length),
        sbom=Artifact(row.sbom_sha256, row.sbom_sha512, row.sbom_length),
        manifest=row.manifest.encode(),
        author=row.author,
        created_at=row.created_at,
        published_at=row.published_at,
        withdrawn_at=row.withdrawn_at,
        withdrawn_reason=row.withdrawn_reason,
        rejected_at=row.rejected_at,
        rejected_by=row.rejected_by,
        rejected_reason=row.rejected_reason,
    )


def list_troubles(
    tx: Tx, kinds: tuple[str, ...], since: datetime, among: IdQuery, *, limit: int
) -> list[Event]:
    """Return the newest alerting event of these kinds of each device in `among`, out of the last `limit`."""
    # Grouped here, not in SQL: SQLite would walk the index of devices over every event there is.
    query = (
        events_table.select()
        .where(
            IS_ALERTING,
            events_table.c.at >= since,
            events_table.c.kind.in_(kinds),
            is_among(events_table.c.device, among),
        )
        .order_by(events_table.c.at.desc(), events_table.c.id.desc())
        .limit(limit)
    )
    newest: dict[str | None, Event] = {}
    for row in tx.conn.execute(query):
        newest.setdefault(row.device, as_event(row))
    return list(newest.values())
