"""Settings of the platform: `fleetward.toml` in the data folder."""

import ipaddress
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from fleetward.base.errors import ConfigError, InvalidInputError
from fleetward.base.ids import parse_trust_domain
from fleetward.base.layout import DataFolder

S = TypeVar("S", bound=msgspec.Struct)

DEFAULT_PORT_BASE = 8443
_MAX_CONFIG_BYTES = 64 * 1024
LOG_LEVELS = ("debug", "info", "warning", "error")
_MAX_PORT = 65_535
_HINT = "See docs/reference/config.md for every setting."


@dataclass(frozen=True)
class Section:
    """A section of fleetward.toml that a feature reads.

    Attributes:
        kind: its type; a section that `ServerConfig.get` asks for has a default in every field.
        check: raises InvalidInputError over a value that the type alone lets pass.
    """

    name: str
    kind: type[msgspec.Struct]
    check: Callable[[Any], None]


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


class ServerConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All settings of the server; a feature's own are in the section that its door declares.

    Attributes:
        sections: those of features that the file has, by name; ask `get` or `find` by type.
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
    sections: Mapping[str, msgspec.Struct] = {}

    def get(self, kind: type[S]) -> S:
        """Return a feature's section, with its defaults where the file has none."""
        return self.find(kind) or kind()

    def find(self, kind: type[S]) -> S | None:
        """Return a feature's section, None where the file has none."""
        return next((one for one in self.sections.values() if isinstance(one, kind)), None)

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


def load_config(folder: DataFolder, sections: Iterable[Section]) -> ServerConfig:
    """Return the settings of a data folder.

    Raises:
        ConfigError: missing, not TOML, an unknown or wrong field; names file and field.
    """
    return parse_config(_read(folder.config), sections, source=str(folder.config))


def parse_config(content: bytes, sections: Iterable[Section], *, source: str) -> ServerConfig:
    """Return the settings in `content`; `source` names it in errors. Raises ConfigError."""
    try:
        found = tomllib.loads(content.decode())
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(
            f"{source}: expected TOML, found an error: {error}",
            hint=_HINT,
        ) from error
    if "sections" in found:
        raise ConfigError(f"{source}: expected sections by their names, found `sections`", hint=_HINT)
    parsed = {
        one.name: _parse_section(one, found.pop(one.name), source) for one in sections if one.name in found
    }
    try:
        config = msgspec.convert(found, ServerConfig)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{source}: {error}", hint=_HINT) from error
    _check(config, source)
    return msgspec.structs.replace(config, sections=parsed)


def _parse_section(section: Section, found: object, source: str) -> msgspec.Struct:
    try:
        settings = msgspec.convert(found, section.kind)
        section.check(settings)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{source}: {section.name}: {error}", hint=_HINT) from error
    except InvalidInputError as error:
        raise ConfigError(f"{source}: {error.message}", hint=_HINT) from error
    return settings


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


def _check(config: ServerConfig, source: str) -> None:
    try:
        parse_trust_domain(config.trust_domain)
    except InvalidInputError as error:
        raise ConfigError(f"{source}: {error.message}") from error
    try:
        ipaddress.ip_address(config.listen)
    except ValueError as error:
        raise ConfigError(f"{source}: listen: expected an IP address, found {config.listen!r}") from error
    if not config.host_names:
        raise ConfigError(f"{source}: host_names: expected at least one name, found none")
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
