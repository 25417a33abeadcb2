"""`fleetward demo`: the smart camera, the attacks on it, and a fleet of simulated devices."""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from fleetward.base.errors import ConfigError, InvalidInputError
from fleetward.base.ids import parse_duration

_data_option = click.option(
    "--data", type=click.Path(path_type=Path, file_okay=False), help="The data folder."
)
_json_option = click.option("--json", "as_json", is_flag=True, help="Print an object a line.")


@click.group()
def demo() -> None:
    """The smart camera, the attacks on it, and a fleet to try things on."""


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


@demo.command()
@click.option("--devices", type=click.IntRange(1, 100_000), default=100, show_default=True, help="How many.")
@click.option("--model", default=None, help="Their model, made when missing; sim-PROFILE when not given.")
@click.option("--group", default="default", show_default=True, help="The group of new devices.")
@click.option("--profile", default="camera", show_default=True, help="camera, meter or gateway.")
@click.option(
    "--for", "duration", default=None, metavar="TIME", help="Run that long, e.g. 10m; else until Ctrl-C."
)
@click.option("--seed", default=1, show_default=True, help="The same seed, the same behaviour.")
@click.option(
    "--fault", "faults", multiple=True, metavar="KIND[=SHARE]",
    help="offline, flapping, slow, rollback or compromised, in a share of the devices (0.1).",
)  # fmt: skip
@click.option("--telemetry", default=None, metavar="TIME", help="Between readings; else the profile's.")
@click.option("--metrics", default=None, metavar="TIME", help="Between reports; else the profile's.")
@click.option(
    "--update-check", default="5m", show_default=True, help="Between looks for a release; 0s for never."
)
@click.option("--firmware", default="1.0.0", show_default=True, help="The version they start with.")
@click.option("--processes", type=click.IntRange(0, 16), default=0, help="0 chooses.", show_default=True)
@_data_option
@_json_option
@click.pass_context
def fleet(
    ctx: click.Context, /, data: Path | None, profile: str, model: str | None, *, as_json: bool, **given: Any
) -> None:
    """Simulate many devices: real certificates and mutual TLS, but no machine behind them."""
    from fleetward.programs.simulator.fleet.faults import parse_faults  # noqa: PLC0415 - loads OpenSSL
    from fleetward.programs.simulator.fleet.profiles import find_profile  # noqa: PLC0415 - as above
    from fleetward.programs.simulator.fleet.run import FleetSettings, run_fleet  # noqa: PLC0415 - as above

    settings = FleetSettings(
        devices=given["devices"],
        model=model or f"sim-{profile}",
        group=given["group"],
        profile=find_profile(profile),
        seed=given["seed"],
        faults=parse_faults(given["faults"]),
        telemetry_s=_seconds(given["telemetry"], "--telemetry"),
        metrics_s=_seconds(given["metrics"], "--metrics"),
        update_s=_seconds(given["update_check"], "--update-check") or 0.0,
        for_s=_seconds(given["duration"], "--for"),
        processes=given["processes"],
        firmware=given["firmware"],
    )
    sys.exit(run_fleet(_folder(ctx, data), settings, as_json=as_json))


def _seconds(text: str | None, what: str) -> float | None:
    """Return a duration in seconds; `0s` is none at all. Raises InvalidInputError."""
    if text is None or text == "0s":
        return None
    return parse_duration(text, what=what).total_seconds()


def _folder(ctx: click.Context, data: Path | None) -> Path:
    path = data or ctx.find_root().obj["data"]
    if path is None:
        raise ConfigError("data folder: expected --data DIR, found none")
    return Path(path).resolve()
