"""`fleetward backup` and `fleetward restore`."""

import json
from pathlib import Path

import click

from fleetward.base.clock import SystemClock, render_time
from fleetward.base.config import load_config
from fleetward.base.errors import ConfigError
from fleetward.base.logging import configure_logging
from fleetward.programs.server.backup import take_backup
from fleetward.programs.server.doors import SETTINGS
from fleetward.programs.server.folder import existing_folder, named_folder
from fleetward.programs.server.initialise import MIN_PASSPHRASE_CHARS, read_passphrase
from fleetward.programs.server.restoring import restore_backup

_data_option = click.option(
    "--data", type=click.Path(path_type=Path, file_okay=False), help="The data folder."
)
_passphrase_option = click.option(
    "--passphrase-file", type=click.Path(path_type=Path, exists=True, dir_okay=False), required=True,
    help="Seals the backup and opens it again. Keep it elsewhere: nothing opens a backup without it.",
)  # fmt: skip


@click.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@_data_option
@_passphrase_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def backup(ctx: click.Context, file: Path, data: Path | None, passphrase_file: Path, as_json: bool) -> None:
    """Save the platform, running or not, into FILE: rows, keys, settings, releases, streams.

    FILE is sealed by the passphrase, and read back before it gets its name. What the platform
    keeps outside of its folder (PostgreSQL, a NATS cluster, an object store) it lacks, and says so.
    """
    configure_logging(level="warning")
    folder = existing_folder(ctx, data)
    passphrase = read_passphrase(passphrase_file)
    if len(passphrase) < MIN_PASSPHRASE_CHARS:
        raise ConfigError(
            f"{passphrase_file}: expected at least {MIN_PASSPHRASE_CHARS} characters, found {len(passphrase)}"
        )
    config = load_config(folder, SETTINGS)
    taken = take_backup(folder, config, file, passphrase.encode(), SystemClock())
    if as_json:
        click.echo(json.dumps({
            "file": str(taken.file), "bytes": taken.size, "taken_at": render_time(taken.taken_at),
            "elsewhere": list(taken.elsewhere),
        }))  # fmt: skip
        return
    click.echo(f"{taken.file}: {taken.size:,} bytes, sealed, and read back whole.")
    _say_elsewhere(taken.elsewhere, "Not in it")


@click.command()
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@_data_option
@_passphrase_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def restore(ctx: click.Context, file: Path, data: Path | None, passphrase_file: Path, as_json: bool) -> None:
    """Make the platform of the backup FILE in an empty data folder. It overwrites nothing."""
    configure_logging(level="warning")
    folder = named_folder(ctx, data)
    done = restore_backup(folder, file, read_passphrase(passphrase_file).encode(), SystemClock())
    if as_json:
        click.echo(json.dumps({
            "data": str(folder.path), "trust_domain": done.trust_domain,
            "taken_at": render_time(done.taken_at), "elsewhere": list(done.elsewhere),
        }))  # fmt: skip
        return
    click.echo(f"Platform {done.trust_domain} is in {folder.path}, as of {render_time(done.taken_at)}.")
    _say_elsewhere(done.elsewhere, "Bring back before the start")
    click.echo(f"  Look at it first: fleetward --data {folder.path} audit verify")
    click.echo("  What happened since then is not known to it: revoke again what was revoked, first of all.")


def _say_elsewhere(elsewhere: tuple[str, ...], what: str) -> None:
    for one in elsewhere:
        click.echo(f"  {what}: {one}")
