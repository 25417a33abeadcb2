"""Wires access from settings: limits of sessions, names passkeys are bound to, the OpenID provider."""

from collections.abc import Mapping
from pathlib import Path

import click

from fleetward.base.clock import Clock
from fleetward.base.config import ServerConfig
from fleetward.base.db import Database
from fleetward.base.errors import ConfigError, InvalidInputError
from fleetward.base.ids import parse_duration, parse_id
from fleetward.base.layout import DataFolder
from fleetward.base.permissions import Permission
from fleetward.features.access.context import AccessContext, SingleSignOn, new_password_checks
from fleetward.features.access.model.passwords import Passwords
from fleetward.features.access.model.roles import ALL_GROUPS, Role, parse_role
from fleetward.features.access.service import signing_up
from fleetward.features.access.service.authorize import Decider, load_policies
from fleetward.features.access.service.keys import ensure_sealer, load_common_passwords
from fleetward.features.access.settings import Access, Oidc, OidcRole
from fleetward.features.devices import service as devices
from fleetward.outside.oidc.client import OidcProvider, ProviderSettings

_HTTPS_PORT = ":443"


def build_access(
    folder: DataFolder,
    config: ServerConfig,
    console: str,
    clock: Clock,
    catalogue: Mapping[str, Permission],
) -> AccessContext:
    """Return what access needs.

    Raises:
        KeyUnavailableError: the sealing key is unreadable.
        ConfigError: [oidc] names an unknown role, or its secret cannot be read.
    """
    port = console.rpartition(":")[2]
    limits, oidc = config.get(Access), config.find(Oidc)
    return AccessContext(
        console=console.removesuffix(_HTTPS_PORT),
        rp_id=config.public_name,
        origins=frozenset(f"https://{name}:{port}".removesuffix(_HTTPS_PORT) for name in config.host_names),
        idle=parse_duration(limits.session_idle, what="access.session_idle"),
        absolute=parse_duration(limits.session_absolute, what="access.session_absolute"),
        sealer=ensure_sealer(folder.keys),
        passwords=Passwords(),
        password_checks=new_password_checks(),
        common_passwords=load_common_passwords(),
        decider=Decider(load_policies(catalogue), devices),
        sso=None if oidc is None else _build_sso(oidc, folder, clock),
    )


def show_setup_link(db: Database, access: AccessContext) -> None:
    """Print the one-time link that makes the first operator, while there is none; earlier ones are void."""
    with db.write("system:setup") as tx:
        if not signing_up.is_setup_open(tx):
            return
        link = signing_up.create_setup_link(tx, access)
    bold = click.style("Nobody administers this platform yet.", bold=True)
    click.echo(f"\n  {bold} Become its first operator:\n\n    {link.url}\n", err=True)
    click.echo(
        "  The link works once, for 30 minutes, and is not shown again. "
        "Another one: fleetward --data DIR operator setup-link\n",
        err=True,
    )


def _build_sso(oidc: Oidc, folder: DataFolder, clock: Clock) -> SingleSignOn:
    where = folder.config
    settings = ProviderSettings(
        issuer=oidc.issuer,
        client_id=oidc.client_id,
        client_secret=_read_secret(Path(oidc.client_secret_file)),
        scopes=oidc.scopes,
        groups_claim=oidc.groups_claim,
        ca_file=Path(oidc.ca_file) if oidc.ca_file else None,
    )
    roles: dict[str, tuple[tuple[Role, str], ...]] = {}
    for one in oidc.roles:
        roles[one.provider_group] = (*roles.get(one.provider_group, ()), _parse_role(one, where))
    return SingleSignOn(
        OidcProvider(settings, clock), oidc.name, roles, frozenset(oidc.mfa_amr), frozenset(oidc.mfa_acr)
    )


def _parse_role(one: OidcRole, where: Path) -> tuple[Role, str]:
    try:
        group = one.group if one.group == ALL_GROUPS else parse_id(one.group, what="group")
        return parse_role(one.role), group
    except InvalidInputError as error:
        raise ConfigError(f"{where}: oidc.roles of {one.provider_group}: {error.message}") from error


def _read_secret(path: Path) -> str:
    try:
        is_open_to_others = path.stat().st_mode & 0o077
        text = path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: expected the client secret of [oidc], found it unreadable") from error
    if is_open_to_others:
        raise ConfigError(
            f"{path}: expected it readable by its owner alone, found it open to others",
            hint=f"chmod 600 {path}",
        )
    return text
