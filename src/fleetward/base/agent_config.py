"""Settings of one device: the TOML file that provisioning writes and the agent reads.

What every device has stands here, and not with the agent, because whoever prepares a device renders it
without knowing the agent. The rest are sections, each owned by the ability that it sets up. No secret is in
it: claims, PINs and keys are files it names. Relative paths start at the file's folder.
"""

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, TypeAlias, TypeVar
from urllib.parse import urlsplit

import msgspec

from fleetward.base.errors import ConfigError, InvalidInputError
from fleetward.base.ids import parse_device_id

MAX_CONFIG_BYTES = 64 * 1024
MIN_SPOOL_BYTES = 64 * 1024
_MAX_PORT = 65_535
_HINT = "docs/reference/agent-config.md explains every setting."


class SoftwareKeys(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="software"):
    """Keys in files: the weakest tier, for devices without a chip.

    Attributes:
        folder: where they lie, owner-only.
        factory_key: label of the key whose request is in the shipment manifest.
    """

    folder: Path
    factory_key: str | None = None


class Pkcs11Keys(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="pkcs11"):
    """Keys in a secure element or HSM.

    Attributes:
        module: the PKCS#11 library.
        token: label of the token in it.
        pin_file: holds the user PIN; owner-only.
        idevid: label of the manufacturer's certificate and key, to enroll with instead of a claim.
        factory_key: as for `software`.
    """

    module: Path
    token: str
    pin_file: Path
    idevid: str | None = None
    factory_key: str | None = None


class TpmKeys(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="tpm"):
    """Keys in a TPM 2.0.

    Attributes:
        tcti: how to reach it, as tpm2-tss writes it.
        folder: where the chip's wrapped keys lie; useless outside this chip.
    """

    folder: Path
    tcti: str = "device:/dev/tpmrm0"


Keys: TypeAlias = SoftwareKeys | Pkcs11Keys | TpmKeys


class SpoolLimits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How much may wait for the server; beyond it the oldest telemetry is dropped, and the gap reported."""

    max_bytes: int = 64 * 1024 * 1024


class Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an ability of the agent lets be set, a table of the file.

    Attributes:
        table: its name there.
    """

    table: ClassVar[str]

    def check(self) -> None:
        """Raise InvalidInputError, which names the field, for a value that its type lets pass."""


S = TypeVar("S", bound=Section)
C = TypeVar("C", bound=msgspec.Struct)


class AgentConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """All settings of a device.

    Attributes:
        server: `https://host:port` of the platform's devices port.
        mqtt: `host:port` of its MQTT port.
        ca_file: the root certificate that this device pins.
        state_dir: what the agent remembers; owner-only.
        claim_file: a single-use claim token; the agent deletes it once it is used.
        sections: what the file sets of the abilities.
    """

    device_id: str
    server: str
    mqtt: str
    ca_file: Path
    state_dir: Path
    keys: Keys
    claim_file: Path | None = None
    log_level: str = "info"
    spool: SpoolLimits = SpoolLimits()
    sections: tuple[Section, ...] = ()

    @property
    def mqtt_address(self) -> tuple[str, int]:
        host, _, port = self.mqtt.rpartition(":")
        return host.strip("[]"), int(port)

    def find(self, kind: type[S]) -> S | None:
        """Return the section of this kind, None where the file has none."""
        return next((one for one in self.sections if isinstance(one, kind)), None)

    @property
    def agent_socket(self) -> Path:
        """Where the application hands in what it has to say."""
        return self.state_dir / "agent.sock"

    @property
    def event_log(self) -> Path:
        """What the boot stage measured."""
        return self.state_dir / "eventlog.json"

    @property
    def status_file(self) -> Path:
        return self.state_dir / "status.json"


def parse_agent_config(content: bytes, *, source: Path, sections: Sequence[type[Section]]) -> AgentConfig:
    """Return the settings in `content`. `source` names them in errors and anchors relative paths.

    Args:
        sections: of the abilities this agent has.

    Raises:
        ConfigError: not TOML, an unknown, missing or wrong field or section; names file and field.
    """
    if len(content) > MAX_CONFIG_BYTES:
        raise ConfigError(f"{source}: expected at most {MAX_CONFIG_BYTES} bytes, found {len(content)}")
    try:
        document = tomllib.loads(content.decode())
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigError(f"{source}: expected TOML, found an error: {error}") from error
    _refuse_unknown(document, source, sections)
    folder = source.resolve().parent
    found = tuple(
        _convert(document.pop(kind.table), kind, folder=folder, source=source, under=f"{kind.table}.")
        for kind in sections
        if kind.table in document
    )
    config = _convert(document, AgentConfig, folder=folder, source=source)
    config = msgspec.structs.replace(config, sections=found)
    _check(config, source)
    return config


def render_agent_config(config: AgentConfig) -> bytes:
    """Return the TOML that `parse_agent_config` reads back; defaults are written out."""
    lines = ["# Settings of this device; docs/reference/agent-config.md explains each."]
    tables: list[str] = []
    for name, value in _fields(config):
        if isinstance(value, msgspec.Struct):
            tables += _render_table(name, value)
        elif name != "sections":
            lines.append(f"{name} = {_literal(value)}")
    for section in config.sections:
        tables += _render_table(section.table, section)
    return "\n".join([*lines, *tables, ""]).encode()


def _render_table(name: str, struct: msgspec.Struct) -> list[str]:
    tag = struct.__struct_config__.tag
    kind = [f"kind = {_literal(tag)}"] if tag else []
    return ["", f"[{name}]", *kind, *(f"{key} = {_literal(item)}" for key, item in _fields(struct))]


def _fields(struct: msgspec.Struct) -> list[tuple[str, object]]:
    pairs = [(name, getattr(struct, name)) for name in struct.__struct_fields__]
    return [(name, value) for name, value in pairs if value is not None]


def _refuse_unknown(document: dict[str, Any], source: Path, sections: Sequence[type[Section]]) -> None:
    settings = {*AgentConfig.__struct_fields__} - {"sections"}
    tables = {kind.table for kind in sections}
    for name, value in document.items():
        if name in settings | tables:
            continue
        if isinstance(value, dict):
            expected = f"a section this agent knows ({', '.join(sorted({'keys', 'spool'} | tables))})"
        else:
            expected = "a setting this agent knows"
        raise ConfigError(f"{source}: {name}: expected {expected}, found an unknown one", hint=_HINT)


def _convert(value: object, kind: type[C], *, folder: Path, source: Path, under: str = "") -> C:
    def resolve(wanted: type, text: object) -> Any:
        if wanted is Path and isinstance(text, str) and text and "\0" not in text:
            return folder / text
        raise ValueError(f"expected a path, found {text!r}")

    try:
        return msgspec.convert(value, kind, dec_hook=resolve)
    except msgspec.ValidationError as error:
        reason, _, where = str(error).partition(" - at `$.")
        field = f"{under}{where.rstrip('`')}".rstrip(".")
        raise ConfigError(f"{source}: {f'{field}: ' if field else ''}{reason}", hint=_HINT) from error


def _literal(value: object) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(map(_literal, value))}]"
    if isinstance(value, int):
        return str(value)
    # A JSON string is a TOML basic string, but for DEL, which TOML wants escaped (TOML 1.0, "String").
    return msgspec.json.encode(str(value)).decode().replace("\x7f", "\\u007f")


def _check(config: AgentConfig, source: Path) -> None:
    url = urlsplit(config.server)
    is_url = url.scheme == "https" and url.hostname and not url.path.strip("/") and not url.query
    levels = ("debug", "info", "warning", "error")
    wrong: dict[str, tuple[str, object]] = {}
    if not is_url:
        wrong["server"] = ("https://host:port", config.server)
    if not _is_address(config.mqtt):
        wrong["mqtt"] = ("host:port", config.mqtt)
    if config.log_level not in levels:
        wrong["log_level"] = (", ".join(levels), config.log_level)
    if config.spool.max_bytes < MIN_SPOOL_BYTES:
        wrong["spool.max_bytes"] = (f"at least {MIN_SPOOL_BYTES}", config.spool.max_bytes)
    for field, (expected, found) in wrong.items():
        raise ConfigError(f"{source}: {field}: expected {expected}, found {found!r}", hint=_HINT)
    _check_texts(config, source)


def _check_texts(config: AgentConfig, source: Path) -> None:
    try:
        parse_device_id(config.device_id)
        for section in config.sections:
            section.check()
    except InvalidInputError as error:
        raise ConfigError(f"{source}: {error.message}", hint=_HINT) from error


def _is_address(text: str) -> bool:
    host, _, port = text.rpartition(":")
    return bool(host) and port.isascii() and port.isdigit() and 1 <= int(port[:6]) <= _MAX_PORT
