"""`fleetward break-glass`: emergency rights that two people lend one of them."""

from typing import Any

import click

from fleetward.programs.cli.client import connect
from fleetward.programs.cli.output import json_option, print_facts, print_json, print_table

_COLUMNS = {
    "id": "Id",
    "state": "State",
    "requester": "For",
    "reason": "Reason",
    "approver": "Approved by",
    "expires_at": "Until",
    "reviewer": "Reviewed by",
}
_ACT_COLUMNS = {"time": "Time", "action": "Action", "subject": "What"}


@click.group("break-glass")
def break_glass() -> None:
    """Emergency rights: asked for by one, approved by another, over after 30 minutes, then reviewed."""


@break_glass.command("request")
@click.option("--reason", required=True, help="What happened; everybody reads it.")
@json_option
@click.pass_context
def request_(ctx: click.Context, reason: str, as_json: bool) -> None:
    """Ask another person for every emergency right."""
    _show(connect(ctx).post("/break-glass", {"reason": reason}), as_json=as_json)


@break_glass.command("list")
@json_option
@click.pass_context
def list_(ctx: click.Context, as_json: bool) -> None:
    """List emergencies, newest first."""
    found = connect(ctx).get("/break-glass")
    if as_json:
        print_json(found)
    else:
        print_table(found, _COLUMNS, empty="The glass was never broken.")


@break_glass.command()
@click.argument("glass_id", metavar="ID")
@json_option
@click.pass_context
def approve(ctx: click.Context, glass_id: str, as_json: bool) -> None:
    """Break the glass for who asked: they hold its rights for 30 minutes from now."""
    _show(connect(ctx).post(f"/break-glass/{glass_id}/approve"), as_json=as_json)


@break_glass.command()
@click.argument("glass_id", metavar="ID")
@json_option
@click.pass_context
def end(ctx: click.Context, glass_id: str, as_json: bool) -> None:
    """End an emergency before its time, or take back a request."""
    _show(connect(ctx).post(f"/break-glass/{glass_id}/end"), as_json=as_json)


@break_glass.command()
@click.argument("glass_id", metavar="ID")
@json_option
@click.pass_context
def acts(ctx: click.Context, glass_id: str, as_json: bool) -> None:
    """Show what was done with it, from the audit log: what a review is about."""
    found = connect(ctx).get(f"/break-glass/{glass_id}/acts")
    if as_json:
        print_json(found)
    else:
        print_table(found, _ACT_COLUMNS, empty="Nothing was changed with it.")


@break_glass.command()
@click.argument("glass_id", metavar="ID")
@click.option("--findings", required=True, help="What you found of what was done with it.")
@json_option
@click.pass_context
def review(ctx: click.Context, glass_id: str, findings: str, as_json: bool) -> None:
    """Say what you found, so that who asked may act again."""
    _show(connect(ctx).post(f"/break-glass/{glass_id}/review", {"findings": findings}), as_json=as_json)


def _show(found: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(found)
    else:
        print_facts({heading: found.get(key) for key, heading in _COLUMNS.items()})
