"""`fleetward events`: what happened."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import click

from fleetward.base.clock import SystemClock, parse_time, render_time
from fleetward.base.errors import InvalidInputError
from fleetward.base.ids import parse_duration
from fleetward.base.terminal import say, visible
from fleetward.outside.http.platform import Api
from fleetward.programs.cli.client import connect
from fleetward.programs.cli.output import json_option, paint, print_json

_PAGE = 1000


@click.group(invoke_without_command=True)
@click.option("--device", help="Only this device.")
@click.option("--since", help="RFC 3339 time, Unix seconds, or an age such as 15m.")
@click.option("--follow", is_flag=True, help="Stay and print what happens.")
@json_option
@click.pass_context
def events(ctx: click.Context, device: str | None, since: str | None, follow: bool, as_json: bool) -> None:
    """Print events, oldest first, one a line."""
    if ctx.invoked_subcommand is not None:
        return
    api = connect(ctx)
    last = 0
    for event in _pages(api, device, None if since is None else _since(since)):
        last = event["id"]
        _print(event, as_json=as_json)
    if follow:
        try:
            for event in api.stream("/events/stream", device=device, after=last):
                _print(event, as_json=as_json)
        except KeyboardInterrupt:
            return


@events.command()
@click.argument("numbers", metavar="ID...", type=int, nargs=-1, required=True)
@click.option("--note", default="", help="What came of it; goes into the audit log.")
@json_option
@click.pass_context
def ack(ctx: click.Context, numbers: tuple[int, ...], note: str, as_json: bool) -> None:
    """Take note of events, so that they leave `fleetward today`."""
    api = connect(ctx)
    for number in numbers:
        made = api.post(f"/events/{number}/acknowledge", {"note": note})
        if as_json:
            print_json(made)
        else:
            say(f"event {number}: acknowledged by {made['actor']} at {made['at'][:19]}")


def _pages(api: Api, device: str | None, since: str | None) -> Iterator[dict[str, Any]]:
    after: int | None = 0
    while after is not None:
        page = api.get("/events", device=device, since=since, after=after, limit=_PAGE)
        yield from page["events"]
        after = page["next_after"]


def _since(text: str) -> str:
    if text[-1:] in "smhd" and text[:-1].isdigit():
        return render_time(SystemClock().now() - parse_duration(text, what="--since"))
    try:
        return render_time(datetime.fromtimestamp(float(text), UTC))
    except (ValueError, OverflowError, OSError):
        pass
    try:
        return render_time(parse_time(text))
    except InvalidInputError as error:
        raise InvalidInputError(
            f"--since: expected a time such as 2026-11-23T17:00:00Z or an age such as 15m, found {text!r}"
        ) from error


def _print(event: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(event)
        return
    at = click.style(event["time"][:19].replace("T", " "), dim=True)
    say(
        f"{at}  {paint(event['severity']):<8}  {click.style(event['kind'], bold=True)}"
        f"  {visible(event['message'])}"
    )
