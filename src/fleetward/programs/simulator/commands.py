"""`fleetward demo`: the smart camera, and the attacks on it."""

import json
import sys
from dataclasses import asdict
from pathlib import Path

import click

from fleetward.base.errors import ConfigError, InvalidInputError

_data_option = click.option(
    "--data", type=click.Path(path_type=Path, file_okay=False), help="The data folder."
)
_json_option = click.option("--json", "as_json", is_flag=True, help="Print an object a line.")


@click.group()
def demo() -> None:
    """The smart camera and the attacks on it."""


@demo.command()
@_data_option
@_json_option
@click.pass_context
def camera(ctx: click.Context, data: Path | None, as_json: bool) -> None:
    """Play the life of a smart camera on the running platform, then keep it running."""
    from fleetward.programs.simulator.attacks.stock import prepare_stock  # noqa: PLC0415 - attack loads others
    from fleetward.programs.simulator.demo import run_camera  # noqa: PLC0415 - as above

    sys.exit(run_camera(_folder(ctx, data), as_json=as_json, prepare_attacks=prepare_stock))


@demo.command()
@click.argument("name")
@_data_option
@_json_option
@click.pass_context
def attack(ctx: click.Context, name: str, data: Path | None, as_json: bool) -> None:
    """Really do attack NAME, or all, and show what stopped it and the event it left."""
    from fleetward.programs.simulator.attacks.catalogue import ATTACKS  # noqa: PLC0415 - as above
    from fleetward.programs.simulator.attacks.target import find_target, run_attack  # noqa: PLC0415

    if name not in {"all", *ATTACKS}:
        raise InvalidInputError(f"attack: expected all or one of {', '.join(ATTACKS)}; found {name!r}")
    target = find_target(_folder(ctx, data))
    has_failed = False
    for one in ATTACKS if name == "all" else (name,):
        report = run_attack(one, ATTACKS[one], target)
        has_failed = has_failed or not report.refused or report.event is None
        if as_json:
            click.echo(json.dumps(asdict(report)))
        else:
            colour, verdict = ("green", "refused") if report.refused else ("red", "SUCCEEDED")
            mark = click.style(verdict, fg=colour)
            trace = report.event["message"] if report.event else click.style("NO EVENT", fg="red")
            click.echo(f"{click.style(one, bold=True):<32} {mark}  {report.seen}\n{'':<24}  {trace}")
    sys.exit(1 if has_failed else 0)


def _folder(ctx: click.Context, data: Path | None) -> Path:
    path = data or ctx.find_root().obj["data"]
    if path is None:
        raise ConfigError("data folder: expected --data DIR, found none")
    return Path(path).resolve()
