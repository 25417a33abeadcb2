"""`fleetward authority`: ceremonies of the certificate authorities."""

import json
from pathlib import Path

import click

from fleetward.base import journal
from fleetward.base.clock import SystemClock, render_time
from fleetward.base.config import load_config
from fleetward.base.events import Severity, emit
from fleetward.features.pki.authority.profiles import subject_key_id
from fleetward.features.pki.authority.rollover import NAMES, replace_issuing_ca
from fleetward.programs.server.doors import SETTINGS
from fleetward.programs.server.folder import existing_folder
from fleetward.programs.server.guard import hold_folder
from fleetward.programs.server.initialise import load_notary, open_database, read_passphrase

_ACTOR = "operator:root-keeper"


@click.group()
def authority() -> None:
    """The issuing CAs: give one a new key, by the offline root."""


@authority.command()
@click.argument("name", type=click.Choice(NAMES))
@click.option("--data", type=click.Path(path_type=Path, file_okay=False), help="The data folder.")
@click.option("--root-passphrase-file", type=click.Path(path_type=Path, exists=True, dir_okay=False),
              required=True, help="Opens the root key in offline/.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def rotate(
    ctx: click.Context, name: str, data: Path | None, root_passphrase_file: Path, as_json: bool
) -> None:
    """Give the issuing CA NAME a new key while the platform is stopped.

    Who has the root's passphrase may do it, and nobody else. Certificates of the old CA stay valid to their
    end; devices get new ones from the new CA at their next renewal, listeners at the next start.
    """
    folder = existing_folder(ctx, data)
    config, clock = load_config(folder, SETTINGS), SystemClock()
    passphrase = read_passphrase(root_passphrase_file).encode()
    with hold_folder(folder):
        db = open_database(folder, config, clock, load_notary(folder, config))
        try:
            found = replace_issuing_ca(folder.path, name, config.trust_domain, passphrase, clock.now())
            key_id, until = subject_key_id(found).hex(), render_time(found.not_valid_after_utc)
            with db.write(_ACTOR) as tx:
                journal.record(tx, "authority.rotated", f"authority:{name}", key_id=key_id, not_after=until)
                emit(tx, "authority.rotated", f"The {name} has a new key, until {until}.",
                     severity=Severity.WARNING, authority=name, key_id=key_id)  # fmt: skip
        finally:
            db.close()
    if as_json:
        click.echo(json.dumps({"authority": name, "key_id": key_id, "not_after": until}))
    else:
        click.echo(f"{name}: new key {key_id[:16]}…, until {until}. Start the platform again.")
        click.echo(
            "  Now move offline/ back to where it is safe. In a cluster, copy ca/ and keys/ to every machine."
        )
