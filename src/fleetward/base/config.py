"""Settings of the platform: `fleetward.toml` in the data folder."""

import ipaddress
import tomllib
from pathlib import Path

import msgspec

from fleetward.base.errors import ConfigError, InvalidInputError
from fleetward.base.ids import parse_duration, parse_trust_domain
from fleetward.base.layout import DataFolder

DEFAULT_PORT_BASE = 8443
_MAX_CONFIG_BYTES = 64 * 1024
LOG_LEVELS = ("debug", "info", "warning", "error")
_MAX_PORT = 65_535
_HINT = "See docs/reference/config.md for every setting."


class Ports(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The listeners. `nats` is the back end's own and listens on loopback."""

    console: int = 8443
    devices: int = 9443
    mqtt: int = 8883
    nats: int = 4222
    dtls: int = 5684


class Nats(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The message engine.

    Attributes:
        urls: an outside cluster's `tls://host:port`; empty starts a nats-server of our own.
        replicas: copies of each stream; 3 in a cluster.
    """

    urls: tuple[str, ...] = ()
    replicas: int = 1


class Media(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Limits of live views."""

    max_view: str = "10m"


class Access(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Limits of operators' sessions: unused, and at all."""

    session_idle: str = "30m"
    session_absolute: str = "8h"


class OidcRole(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A role everybody in one of the provider's groups holds, in a group of devices or in all."""

    provider_group: str
    role: str
    group: str = "*"


class Oidc(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An OpenID provider for single sign-on.

    Attributes:
        issuer: as the provider writes it, `https://…`.
        client_secret_file: a file readable by its owner alone.
        name: what the sign-in page calls it.
        groups_claim: the claim that lists a person's groups.
        mfa_amr, mfa_acr: values of these claims that prove two factors; others are stepped up locally.
        ca_file: the root that signs the provider's certificate; empty: the system's roots.
    """

    issuer: str
    client_id: str
    client_secret_file: str
    name: str = "Single sign-on"
    scopes: tuple[str, ...] = ("openid", "profile", "email")
    groups_claim: str = "groups"
    mfa_amr: tuple[str, ...] = ("mfa",)
    mfa_acr: tuple[str, ...] = ()
    ca_file: str = ""
    roles: tuple[OidcRole, ...] = ()


class Audit(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The audit log.

    Attributes:
        witness: file that each checkpoint is appended to as well, on another disk; empty keeps none.
    """

    witness: str = ""


class Events(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The feed of events: age after which one is forgotten, and how many are kept at most."""

    keep: str = "365d"
    most: int = 5_000_000


class ServerConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All settings of the server.

    Attributes:
        trust_domain: SPIFFE trust domain of every certificate.
        listen: address the listeners bind to.
        host_names: names and addresses devices and people reach us by; they stand in the server certificates.
        database: SQLAlchemy URL; empty is SQLite in the data folder.
        blobs: object store URL (`s3://…`, `file:///…`); empty is a folder in the data folder.
    """

    trust_domain: str
    listen: str = "127.0.0.1"
    host_names: tuple[str, ...] = ("localhost", "127.0.0.1")
    database: str = ""
    blobs: str = ""
    log_level: str = "info"
    ports: Ports = Ports()
    nats: Nats = Nats()
    media: Media = Media()
    access: Access = Access()
    oidc: Oidc | None = None
    audit: Audit = Audit()
    events: Events = Events()

    @property
    def public_name(self) -> str:
        """The name that URLs for people and devices carry."""
        return self.host_names[0]


def ports_from(base: int) -> Ports:
    """Return the listeners at `base` (console), +1 devices, +2 MQTT, +3 NATS, +4 DTLS.

    Raises:
        ConfigError: they would leave 1 to 65535.
    """
    if not 1 <= base <= _MAX_PORT - 4:
        raise ConfigError(f"--port-base: expected 1 to {_MAX_PORT - 4}, found {base}")
    return Ports(console=base, devices=base + 1, mqtt=base + 2, nats=base + 3, dtls=base + 4)


def load_config(folder: DataFolder) -> ServerConfig:
    """Return the settings of a data folder.

    Raises:
        ConfigError: missing, not TOML, an unknown or wrong field; names file and field.
    """
    return parse_config(_read(folder.config), source=str(folder.config))


def parse_config(content: bytes, *, source: str) -> ServerConfig:
    """Return the settings in `content`; `source` names it in errors. Raises ConfigError."""
    try:
        config = msgspec.convert(tomllib.loads(content.decode()), ServerConfig)
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(
            f"{source}: expected TOML, found an error: {error}",
            hint=_HINT,
        ) from error
    except msgspec.ValidationError as error:
        raise ConfigError(f"{source}: {error}", hint=_HINT) from error
    _check(config, source)
    return config


def render_config(config: ServerConfig) -> bytes:
    """Return the TOML of settings that `parse_config` reads back."""
    names = ", ".join(f'"{name}"' for name in config.host_names)
    ports = config.ports
    lines = [
        "# Settings of this Fleetward platform; docs/reference/config.md explains each.",
        f'trust_domain = "{config.trust_domain}"',
        f'listen = "{config.listen}"',
        f"host_names = [{names}]",
        f'log_level = "{config.log_level}"',
        "",
        "[ports]",
        *(f"{name} = {getattr(ports, name)}" for name in ports.__struct_fields__),
        "",
    ]
    return "\n".join(lines).encode()


def _check_access(config: ServerConfig, source: str) -> None:
    try:
        for name in config.access.__struct_fields__:
            parse_duration(getattr(config.access, name), what=f"{source}: access.{name}")
    except InvalidInputError as error:
        raise ConfigError(error.message) from error
    if config.oidc is not None and not config.oidc.issuer.startswith("https://"):
        raise ConfigError(f"{source}: oidc.issuer: expected https://…, found {config.oidc.issuer[:100]!r}")


def _check_events(events: Events, source: str) -> None:
    try:
        parse_duration(events.keep, what="events.keep")
    except InvalidInputError as error:
        raise ConfigError(f"{source}: {error.message}") from error
    if events.most < 1:
        raise ConfigError(f"{source}: events.most: expected at least 1, found {events.most}")


def _check(config: ServerConfig, source: str) -> None:
    try:
        parse_trust_domain(config.trust_domain)
        parse_duration(config.media.max_view, what="media.max_view")
    except InvalidInputError as error:
        raise ConfigError(f"{source}: {error.message}") from error
    try:
        ipaddress.ip_address(config.listen)
    except ValueError as error:
        raise ConfigError(f"{source}: listen: expected an IP address, found {config.listen!r}") from error
    if config.audit.witness and not Path(config.audit.witness).is_absolute():
        raise ConfigError(
            f"{source}: audit.witness: expected an absolute path, found {config.audit.witness!r}"
        )
    if not config.host_names:
        raise ConfigError(f"{source}: host_names: expected at least one name, found none")
    _check_access(config, source)
    _check_events(config.events, source)
    if config.log_level not in LOG_LEVELS:
        raise ConfigError(
            f"{source}: log_level: expected one of {', '.join(LOG_LEVELS)}, found {config.log_level[:40]!r}"
        )
    for url in config.nats.urls:
        if not url.startswith("tls://"):
            raise ConfigError(f"{source}: nats.urls: expected tls://host:port, found {url[:80]!r}")
    for name in config.ports.__struct_fields__:
        port = getattr(config.ports, name)
        if not 1 <= port <= _MAX_PORT:
            raise ConfigError(f"{source}: ports.{name}: expected 1 to {_MAX_PORT}, found {port}")


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_CONFIG_BYTES + 1)
    except FileNotFoundError as error:
        raise ConfigError(
            f"{path}: expected the platform's settings, found no file",
            hint=f"Create them: fleetward init --data {path.parent}",
        ) from error
    if len(content) > _MAX_CONFIG_BYTES:
        raise ConfigError(f"{path}: expected at most {_MAX_CONFIG_BYTES} bytes, found more")
    return content
