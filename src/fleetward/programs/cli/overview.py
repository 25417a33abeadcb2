"""`fleetward today`, `fleetward checklist`, and what `fleetward device` says of why and of many."""

import shutil
import textwrap
from typing import Any

import click

from fleetward.base.terminal import say
from fleetward.programs.cli.client import connect
from fleetward.programs.cli.output import json_option, paint, print_facts, print_json, print_table, show_time
from fleetward.programs.cli.selecting import filter_options, resolve_filter

_MARK = {True: ("✓", "green"), False: ("✗", "red")}
_STATE_COLOUR = {"ok": "green", "warn": "yellow", "fail": "red"}
_ACTIONS = ("quarantine", "release", "revoke", "retire", "command")
_SHOWN = 10


@click.command()
@json_option
@click.pass_context
def today(ctx: click.Context, as_json: bool) -> None:
    """Print what waits for a decision, the gravest first."""
    found = connect(ctx).get("/overview/today")
    if as_json:
        print_json(found)
        return
    if not found["cards"]:
        say("Nothing waits for you.")
    for card in found["cards"]:
        say(f"{paint(card['severity'])}  {click.style(card['title'], bold=True)}")
        for item in card["items"]:
            number = f"[event {item['event']}] " if item["event"] is not None else ""
            _wrap(f"{number}{item['label']}")
        if card["count"] > len(card["items"]):
            _wrap(f"… and {card['count'] - len(card['items']):,} more")
        _wrap(card["command"], colour="cyan")
        say()


@click.command()
@json_option
@click.pass_context
def checklist(ctx: click.Context, as_json: bool) -> None:
    """Print how this platform is run, and what to do better."""
    found = connect(ctx).get("/settings/checklist")
    if as_json:
        print_json(found)
        return
    for check in found:
        state = click.style(check["state"].ljust(4), fg=_STATE_COLOUR[check["state"]], bold=True)
        say(f"{state}  {click.style(check['title'], bold=True)}: {check['found']}")
        _wrap(check["fix"], indent=6)
        _wrap(check["command"], indent=6, colour="cyan")


@click.command()
@click.argument("device_id", metavar="ID")
@json_option
@click.pass_context
def why(ctx: click.Context, device_id: str, as_json: bool) -> None:
    """Say why ID is denied, offline, not updating or without video, from facts."""
    found = connect(ctx).get(f"/devices/{device_id}/why")
    if as_json:
        print_json(found)
        return
    for question in found["questions"]:
        mark, colour = _MARK[question["good"]]
        name = question["question"].replace("_", " ")
        say(f"{click.style(f'{mark} {name}', fg=colour, bold=True)}")
        _wrap(question["answer"])
        for fact in question["facts"]:
            mark, colour = _MARK[fact["good"]]
            _wrap(f"{mark} {fact['what']}: {fact['value']}", indent=4, colour=colour)
        _wrap(question["fix"])
        _wrap(question["command"], colour="cyan")
        say()


@click.command()
@click.argument("device_id", metavar="ID")
@json_option
@click.pass_context
def firmware(ctx: click.Context, device_id: str, as_json: bool) -> None:
    """Show what ID runs, what it should run, its slots and its last report."""
    found = connect(ctx).get(f"/devices/{device_id}/firmware")
    if as_json:
        print_json(found)
        return
    report, trial = found["last_report"], found["trial"]
    print_facts(
        {
            "runs": f"{found['running'] or 'unknown'}, {'proven' if found['proven'] else 'by its own word'}",
            "should run": (found["wanted_release"] or {}).get("version"),
            "active slot": _say_slot(found["active"]),
            "other slot": _say_slot(found["inactive"]),
            "on trial": trial and f"slot {trial['slot']}, {trial['tries_left']} tries left",
            "says": report and f"{report['state']} {report['error']}".strip(),
        }
    )
    for told in found["history"]:
        _wrap(f"{show_time(told['at'])}  {told['message']}")


@click.command()
@click.argument("action", type=click.Choice(_ACTIONS))
@filter_options
@click.option("--id", "ids", multiple=True, metavar="ID", help="These devices instead; may be repeated.")
@click.option("--all", "is_all", is_flag=True, help="Every device there is.")
@click.option("--reason", default="by an operator", show_default=True, help="Why; goes into the audit log.")
@click.option("--command", "command_name", metavar="NAME", help="For the action command: which one.")
@click.option(
    "--arg", "arguments", multiple=True, metavar="KEY=VALUE", help="Its arguments; may be repeated."
)
@click.option("--timeout", "timeout_s", default=30, show_default=True, help="Its seconds to wait.")
@click.option("--apply", "is_applied", is_flag=True, help="Do it; else only show what would change.")
@json_option
@click.pass_context
def bulk(
    ctx: click.Context, /, action: str, ids: tuple[str, ...], is_applied: bool, as_json: bool, **given: Any
) -> None:
    """Do ACTION on every device that matches: shows the effect, and acts with --apply."""
    api = connect(ctx)
    chosen = resolve_filter(api, given)
    chosen.pop("sort", None)
    if [bool(ids), bool(chosen), given["is_all"]].count(True) != 1:
        raise click.UsageError("expected one of: filters, --id, --all")
    body: dict[str, Any] = {"action": action, "reason": given["reason"]}
    body |= {"ids": list(ids)} if ids else {"filter": chosen}
    if given["command_name"] is not None:
        args = dict(_parse_argument(one) for one in given["arguments"])
        body["command"] = {"name": given["command_name"], "args": args, "timeout_s": given["timeout_s"]}
    found = api.post("/devices/bulk", body)
    if is_applied:
        found = api.post("/devices/bulk", {**body, "apply": True, "expected": found["will_change"]})
    if as_json:
        print_json(found)
    else:
        _show_plan(found)


def _show_plan(found: dict[str, Any]) -> None:
    verb = "changed" if found["applied"] else "would change"
    say(f"{found['action']}: {found['will_change']:,} of {found['matching']:,} devices {verb}")
    _wrap(", ".join(found["devices"][:_SHOWN]) + (" …" if found["will_change"] > _SHOWN else ""))
    if found["skipped"]:
        say(f"{found['skipped_count']:,} stay as they are:")
        print_table(found["skipped"][:_SHOWN], {"id": "Device", "why": "Why"}, empty="")
    if not found["applied"]:
        say("Nothing was changed. Add --apply to do it.")


def _parse_argument(text: str) -> tuple[str, str]:
    key, mark, value = text.partition("=")
    if not mark:
        raise click.BadParameter(f"expected KEY=VALUE, found {text!r}", param_hint="--arg")
    return key, value


def _say_slot(slot: dict[str, Any] | None) -> str | None:
    return f"{slot['slot']}: {slot['version'] or 'empty'}" if slot else None


def _wrap(text: str, *, indent: int = 2, colour: str | None = None) -> None:
    """Print a text over as many lines as the terminal needs; nothing when it is empty."""
    width = max(40, min(shutil.get_terminal_size().columns, 120)) - indent
    for number, line in enumerate(textwrap.wrap(text, width, break_long_words=False)):
        say(" " * (indent if number == 0 else indent + 2) + click.style(line, fg=colour))
