"""The agent's settings as it finds them on the device."""

import stat
from collections.abc import Sequence
from pathlib import Path

from fleetward.base.agent_config import (
    MAX_CONFIG_BYTES,
    AgentConfig,
    Pkcs11Keys,
    Section,
    parse_agent_config,
    render_agent_config,
)
from fleetward.base.errors import ConfigError
from fleetward.programs.agent.abilities.all import SECTIONS

__all__ = ["AgentConfig", "load_agent_config", "read_secret", "render_agent_config"]

_MAX_SECRET_BYTES = 4096
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def load_agent_config(path: Path, *, sections: Sequence[type[Section]] = SECTIONS) -> AgentConfig:
    """Return the settings in `path`, whose secret files are readable by their owner alone.

    Args:
        sections: of the abilities that are to run.

    Raises:
        ConfigError: missing or wrong; names file and field.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_CONFIG_BYTES + 1)
    except OSError as error:
        raise ConfigError(
            f"{path}: expected the agent's settings, found it unreadable ({error.strerror})",
            hint="docs/reference/agent-config.md shows a complete file.",
        ) from error
    config = parse_agent_config(content, source=path, sections=sections)
    if not config.ca_file.is_file():
        raise ConfigError(
            f"{path}: ca_file: expected the platform's root certificate, found no file {config.ca_file}",
            hint="Copy ca/ca-bundle.pem of the platform's data folder to it.",
        )
    for field, secret in _secret_files(config).items():
        _check_private(secret, field, path)
    return config


def read_secret(path: Path) -> str | None:
    """Return the one line of a claim or PIN file, None when there is no file.

    Raises:
        ConfigError: others may read it, or it is no text.
    """
    _check_private(path, "secret file", path)
    try:
        with path.open("rb") as file:
            return file.read(_MAX_SECRET_BYTES).decode("ascii").strip() or None
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: expected one line of ASCII text, found it unreadable") from error


def _secret_files(config: AgentConfig) -> dict[str, Path]:
    found = {} if config.claim_file is None else {"claim_file": config.claim_file}
    if isinstance(config.keys, Pkcs11Keys):
        found["keys.pin_file"] = config.keys.pin_file
    return found


def _check_private(secret: Path, field: str, source: Path) -> None:
    try:
        mode = secret.stat().st_mode
    except FileNotFoundError:
        return
    if mode & _OTHERS:
        raise ConfigError(
            f"{source}: {field}: expected {secret} to be readable by its owner alone, "
            f"found mode {stat.S_IMODE(mode):04o}",
            hint=f"chmod 600 {secret}",
        )
