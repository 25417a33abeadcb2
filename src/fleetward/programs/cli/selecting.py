"""Which devices a command means: the same options wherever devices are listed or acted on."""

from typing import Any

import click

from fleetward.base.errors import NotFoundError
from fleetward.outside.http.platform import Api
from fleetward.programs.cli.output import Command

_FIELDS = ("model", "group", "state", "firmware", "search", "sort")


def filter_options(command: Command) -> Command:
    """Add `--model --group --state --firmware --search --filter` to a command."""
    for option in (
        click.option("--filter", "saved", metavar="NAME", help="A filter you saved in the console."),
        click.option("--search", help="Part of the id."),
        click.option(
            "--firmware", metavar="VERSION", help='The version that runs; "" where it is not known.'
        ),
        click.option("--state", help="registered, enrolled, active, quarantined, revoked or retired."),
        click.option("--group"),
        click.option("--model"),
    ):
        command = option(command)
    return command


def resolve_filter(api: Api, given: dict[str, Any]) -> dict[str, str]:
    """Return the parameters that the options mean: those of the saved filter, narrowed by the others.

    Raises:
        NotFoundError: no filter of that name.
    """
    chosen = {name: given[name] for name in _FIELDS if given.get(name) is not None}
    if given.get("saved") is None:
        return chosen
    found: dict[str, dict[str, str]] = {one["name"]: one["filter"] for one in api.get("/filters")}
    if given["saved"] not in found:
        names = ", ".join(sorted(found)) or "none saved"
        raise NotFoundError(f"--filter: expected one of your own ({names}), found {given['saved']!r}")
    return {**found[given["saved"]], **chosen}
