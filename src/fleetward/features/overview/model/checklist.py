"""The deployment checklist: what can be known of how this platform is run, and what to do about it. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from fleetward.features.devices.model import AttestationPolicy, Model

_SOON = timedelta(days=60)
_SERVER_SOON = timedelta(days=7)
_LOCAL_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
_MIN_ADMINISTRATORS = 2
MIN_WAYS_IN = 2
_OUTGROWN_BY = 20_000


class CheckState(StrEnum):
    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True)
class Person:
    """An operator who may sign in, and what with; `has_totp` is a password together with its code."""

    name: str
    is_administrator: bool
    passkeys: int
    has_totp: bool
    recovery_codes_left: int

    @property
    def ways_in(self) -> int:
        """How many things they can each sign in with: passkeys, and password with code."""
        return self.passkeys + self.has_totp


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
    """

    is_root_key_here: bool
    is_update_root_key_here: bool
    open_to_others: tuple[str, ...]
    server_certificate_ends_at: datetime | None
    database: str
    listens_beyond_loopback: bool
    host_names: tuple[str, ...]


@dataclass(frozen=True)
class Check:
    """One point of the list: what was found, and what mends it ("" when nothing is to be done)."""

    id: str
    title: str
    state: CheckState
    found: str
    fix: str = ""
    command: str = ""


@dataclass(frozen=True)
class Findings:
    """What the list is drawn from.

    Attributes:
        authorities: end of each CA certificate, by name.
    """

    now: datetime
    premises: Premises
    authorities: Mapping[str, datetime]
    models: Sequence[Model]
    devices: int
    people: Sequence[Person]


def run_checks(findings: Findings) -> list[Check]:
    """Return the whole list, in the order to work through it."""
    return [
        _check_root(findings.premises),
        _check_update_root(findings.premises),
        _check_files(findings.premises),
        _check_authorities(findings),
        _check_server_certificate(findings),
        _check_names(findings.premises),
        _check_models(findings.models),
        *_check_people(findings.people),
        _check_database(findings),
        Check(
            "backup", "A recent backup exists", CheckState.WARN, "not known: Fleetward is told of no backup",
            "Copy database, blobs, keys and settings away regularly, and try to restore them.",
        ),
    ]  # fmt: skip


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


def _check_authorities(findings: Findings) -> Check:
    name, ends_at = min(findings.authorities.items(), key=lambda item: item[1])
    title = "The certificate authorities are good for long enough"
    found = f"the {name} certificate ends on {ends_at:%Y-%m-%d}"
    state = _by_time(ends_at - findings.now, _SOON)
    fix = "" if state is CheckState.OK else "Sign a successor with the root key and roll over to it."
    return Check("authority_expiry", title, state, found, fix)


def _check_server_certificate(findings: Findings) -> Check:
    title, ends_at = "The listeners' certificate renews itself", findings.premises.server_certificate_ends_at
    if ends_at is None:
        fix = "Start the platform anew: it makes what is missing."
        return Check("server_certificate", title, CheckState.FAIL, "tls/server.pem cannot be read", fix)
    state = _by_time(ends_at - findings.now, _SERVER_SOON)
    fix = "" if state is CheckState.OK else "It is overdue: look at the log for certificate_renewal."
    return Check("server_certificate", title, state, f"it ends at {ends_at:%Y-%m-%d %H:%M} UTC", fix)


def _check_names(premises: Premises) -> Check:
    title, names = "Devices can verify this server by its name", ", ".join(premises.host_names)
    if premises.listens_beyond_loopback and set(premises.host_names) <= _LOCAL_NAMES:
        fix = "Add the name that devices use to host_names in fleetward.toml."
        return Check(
            "host_names", title, CheckState.FAIL, f"it is reachable from afar, and named {names}", fix
        )
    return Check("host_names", title, CheckState.OK, names)


def _check_models(models: Sequence[Model]) -> Check:
    title = "Every model demands attestation"
    open_ones = [one.id for one in models if one.attestation is AttestationPolicy.NONE]
    if not open_ones:
        return Check(
            "models_attested", title, CheckState.OK, f"all {len(models)} do" if models else "no model yet"
        )
    fix = "For hardware with a TPM, add a model that demands attestation, and register devices under it."
    found = f"without attestation: {', '.join(open_ones[:5])}"
    return Check("models_attested", title, CheckState.WARN, found, fix, "fleetward model list")


def _check_people(people: Sequence[Person]) -> list[Check]:
    administrators = [one for one in people if one.is_administrator]
    bare = [one.name for one in people if one.ways_in < MIN_WAYS_IN]
    without_passkey = [one.name for one in people if not one.passkeys]
    few = len(administrators) < _MIN_ADMINISTRATORS
    return [
        Check(
            "administrators", "Two administrators exist", CheckState.WARN if few else CheckState.OK,
            f"{len(administrators)} of {len(people)} operators",
            "Invite another: nobody can approve what only one person may." if few else "",
            "fleetward operator invite NAME --role administrator" if few else "",
        ),
        Check(
            "passkeys", "Everybody signs in with a passkey", _warn_if(without_passkey),
            f"without: {', '.join(without_passkey)}" if without_passkey else "all do",
            "Have them register one: a password with a code can be phished." if without_passkey else "",
        ),
        Check(
            "spare_factor", "Everybody has a second way in", _warn_if(bare),
            f"with one only: {', '.join(bare)}" if bare else "all have",
            "Have them register a second passkey, kept elsewhere." if bare else "",
        ),
    ]  # fmt: skip


def _check_database(findings: Findings) -> Check:
    kind, title = findings.premises.database, "The database fits the fleet"
    found = f"{kind}, {findings.devices:,} devices"
    if kind == "sqlite" and findings.devices > _OUTGROWN_BY:
        fix = "Move to PostgreSQL, so that more than one process and a standby can serve the fleet."
        return Check("database", title, CheckState.WARN, found, fix)
    return Check("database", title, CheckState.OK, found)


def _warn_if(names: Sequence[str]) -> CheckState:
    return CheckState.WARN if names else CheckState.OK


def _by_time(left: timedelta, soon: timedelta) -> CheckState:
    if left <= timedelta():
        return CheckState.FAIL
    return CheckState.WARN if left < soon else CheckState.OK
