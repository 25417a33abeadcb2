"""`fleetward deadletter`: messages that could not be handled."""

from typing import Any

import click

from fleetward.base.terminal import say
from fleetward.programs.cli.client import connect
from fleetward.programs.cli.output import json_option, print_facts, print_json, print_table

_COLUMNS = {
    "number": "Number",
    "failed_at": "Failed at",
    "consumer": "By",
    "device": "Device",
    "reason": "Why",
}


@click.group()
def deadletter() -> None:
    """Messages that could be read and not handled: look at them, play them again."""


@deadletter.command("list")
@click.option("--limit", default=100, show_default=True, type=click.IntRange(1, 1000))
@json_option
@click.pass_context
def list_letters(ctx: click.Context, limit: int, as_json: bool) -> None:
    """List the last dead letters, newest first."""
    found = connect(ctx).get("/deadletters", limit=limit)
    if as_json:
        print_json(found)
    else:
        print_table(found, _COLUMNS, empty="No dead letters: every message was handled.")


@deadletter.command()
@click.argument("number", type=int)
@json_option
@click.pass_context
def show(ctx: click.Context, number: int, as_json: bool) -> None:
    """Show one with what it holds."""
    found: dict[str, Any] = connect(ctx).get(f"/deadletters/{number}")
    if as_json:
        print_json(found)
    else:
        print_facts(found)


@deadletter.command()
@click.argument("number", type=int)
@json_option
@click.pass_context
def replay(ctx: click.Context, number: int, as_json: bool) -> None:
    """Have it handled once more; it is gone when that goes well."""
    found = connect(ctx).post(f"/deadletters/{number}/replay")
    if as_json:
        print_json(found)
    elif found["handled"]:
        say(f"Dead letter {number} is handled.")
    else:
        say(f"Dead letter {number} failed again: {found['reason']}")
    if not found["handled"]:
        ctx.exit(1)


@deadletter.command()
@click.argument("number", type=int)
@json_option
@click.pass_context
def drop(ctx: click.Context, number: int, as_json: bool) -> None:
    """Delete it for good."""
    found = connect(ctx).delete(f"/deadletters/{number}")
    if as_json:
        print_json(found)
    else:
        say(f"Dead letter {number} is deleted.")
