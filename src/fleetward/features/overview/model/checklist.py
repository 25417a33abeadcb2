"""What can be known of the machine a platform runs on, and what to do about it. Pure."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from fleetward.base.checklist import Check, CheckState

_SERVER_SOON = timedelta(days=7)
_LOCAL_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
_OUTGROWN_BY = 20_000
_BACKUP_RECENT = timedelta(days=7)
CHECK_IDS = (
    "root_key_offline",
    "update_root_offline",
    "files_private",
    "server_certificate",
    "host_names",
    "database",
    "backup",
)


@dataclass(frozen=True)
class Premises:
    """What the machine and its settings are like.

    Attributes:
        is_root_key_here: the root CA's private key lies in the data folder.
        is_update_root_key_here: the update root's private key does.
        open_to_others: files of the data folder that others than its owner may read and should not.
        server_certificate_ends_at: of the listeners; None when it cannot be read.
        database: `sqlite` or `postgresql`.
        listens_beyond_loopback: other machines can reach the listeners.
        host_names: names in the server certificate.
        backed_up_at: when the last backup was taken and read back; None when none ever was.
        saved_elsewhere: whether rows, releases or streams lie where a backup of ours does not reach.
    """

    is_root_key_here: bool
    is_update_root_key_here: bool
    open_to_others: tuple[str, ...]
    server_certificate_ends_at: datetime | None
    database: str
    listens_beyond_loopback: bool
    host_names: tuple[str, ...]
    backed_up_at: datetime | None = None
    saved_elsewhere: bool = False


def check_premises(premises: Premises, devices: int, now: datetime) -> list[Check]:
    """Return the points about the machine and its settings.

    Args:
        devices: how many there are.
    """
    return [
        _check_root(premises),
        _check_update_root(premises),
        _check_files(premises),
        _check_server_certificate(premises.server_certificate_ends_at, now),
        _check_names(premises),
        _check_database(premises.database, devices),
        _check_backup(premises, now),
    ]


def _check_root(premises: Premises) -> Check:
    title = "The root key is kept elsewhere"
    if not premises.is_root_key_here:
        return Check("root_key_offline", title, CheckState.OK, "it is not in the data folder")
    fix = "Move offline/ to a medium in a safe; it is needed again only to sign a new CA."
    return Check("root_key_offline", title, CheckState.WARN, "offline/root.key.pem lies here, encrypted", fix)


def _check_update_root(premises: Premises) -> Check:
    title = "The update root key is kept elsewhere"
    if not premises.is_update_root_key_here:
        return Check("update_root_offline", title, CheckState.OK, "it is not in the data folder")
    fix = "Move offline/ to a medium in a safe; it is needed again only to change the update keys."
    found = "offline/tuf-root.key.pem lies here, encrypted"
    return Check("update_root_offline", title, CheckState.WARN, found, fix)


def _check_files(premises: Premises) -> Check:
    title = "Keys and tokens are readable by their owner alone"
    if not premises.open_to_others:
        return Check("files_private", title, CheckState.OK, "all of them are; none of them is a default")
    names = ", ".join(premises.open_to_others[:3])
    return Check(
        "files_private",
        title,
        CheckState.FAIL,
        f"others may read {names}",
        "chmod 600 them, and replace what may have been read.",
    )


def _check_server_certificate(ends_at: datetime | None, now: datetime) -> Check:
    title = "The listeners' certificate renews itself"
    if ends_at is None:
        fix = "Start the platform anew: it makes what is missing."
        return Check("server_certificate", title, CheckState.FAIL, "tls/server.pem cannot be read", fix)
    found, left = f"it ends at {ends_at:%Y-%m-%d %H:%M} UTC", ends_at - now
    if left >= _SERVER_SOON:
        return Check("server_certificate", title, CheckState.OK, found)
    state = CheckState.FAIL if left <= timedelta() else CheckState.WARN
    fix = "It is overdue: look at the log for certificate_renewal."
    return Check("server_certificate", title, state, found, fix)


def _check_names(premises: Premises) -> Check:
    title, names = "Devices can verify this server by its name", ", ".join(premises.host_names)
    if premises.listens_beyond_loopback and set(premises.host_names) <= _LOCAL_NAMES:
        fix = "Add the name that devices use to host_names in fleetward.toml."
        return Check(
            "host_names", title, CheckState.FAIL, f"it is reachable from afar, and named {names}", fix
        )
    return Check("host_names", title, CheckState.OK, names)


def _check_database(kind: str, devices: int) -> Check:
    title, found = "The database fits the fleet", f"{kind}, {devices:,} devices"
    if kind == "sqlite" and devices > _OUTGROWN_BY:
        fix = "Move to PostgreSQL, so that more than one process and a standby can serve the fleet."
        return Check("database", title, CheckState.WARN, found, fix)
    return Check("database", title, CheckState.OK, found)


def _check_backup(premises: Premises, now: datetime) -> Check:
    title, at = "A recent backup exists", premises.backed_up_at
    fix = "Take one regularly, keep it elsewhere, and try to restore it: docs/how-to/back-up-and-restore.md."
    command = "fleetward --data DIR backup FILE --passphrase-file PHRASE"
    if at is None:
        return Check("backup", title, CheckState.WARN, "none was taken yet", fix, command)
    found = f"the last was taken and read back at {at:%Y-%m-%d %H:%M} UTC"
    if premises.saved_elsewhere:
        found += "; what lies outside of the data folder is not in it"
    if now - at > _BACKUP_RECENT:
        return Check("backup", title, CheckState.WARN, found, fix, command)
    return Check("backup", title, CheckState.OK, found)
