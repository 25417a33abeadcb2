"""`fleetward agent`: the device's side."""

import fcntl
import json
import sys
from pathlib import Path

import click

from fleetward.programs.agent.config import load_agent_config

_config_option = click.option(
    "--config", "config_path", required=True, type=click.Path(path_type=Path, dir_okay=False),
    help="The device's settings; docs/reference/agent-config.md.",
)  # fmt: skip


@click.group()
def agent() -> None:
    """The device's side: run, boot, status."""


@agent.command()
@_config_option
@click.option("--degraded", is_flag=True, help="The boot stage found no firmware it may start.")
def run(config_path: Path, degraded: bool) -> None:
    """Run the agent until SIGTERM: keys, certificate, attestation, session, updates, video."""
    from fleetward.programs.agent.run import run_agent  # noqa: PLC0415 - status need not load it

    sys.exit(run_agent(config_path, degraded=degraded))


@agent.command()
@_config_option
def boot(config_path: Path) -> None:
    """Verify and measure the firmware, start it and the agent, and watch over both. Exits 75 to reboot."""
    from fleetward.programs.agent.boot import run_boot  # noqa: PLC0415 - as above

    sys.exit(run_boot(config_path))


@agent.command()
@_config_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def status(config_path: Path, as_json: bool) -> None:
    """Show how the agent on this device is doing."""
    config = load_agent_config(config_path)
    try:
        found = json.loads(config.status_file.read_bytes())
    except (OSError, ValueError):
        found = {"state": "never started", "device_id": config.device_id}
    if found["state"] == "running" and not _is_running(config.state_dir / "agent.lock"):
        found["state"] = "killed"
    if as_json:
        click.echo(json.dumps(found))
        return
    for name, value in found.items():
        shown = ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else value
        click.echo(f"{name:>16}: {shown}")


def _is_running(lock: Path) -> bool:
    """Return whether an agent holds its lock; the kernel lets go of it however the agent ended."""
    try:
        with lock.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False
