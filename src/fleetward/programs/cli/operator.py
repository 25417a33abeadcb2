"""`fleetward operator`: the people who administer the platform."""

from typing import Any

import click

from fleetward.base.errors import NotFoundError
from fleetward.base.terminal import say
from fleetward.programs.cli.client import connect
from fleetward.programs.cli.output import json_option, print_facts, print_json, print_table

_COLUMNS = {
    "name": "Name",
    "display_name": "Called",
    "state": "State",
    "roles": "Roles",
    "proofs": "Signs in by",
    "last_seen_at": "Last seen",
}


@click.group()
def operator() -> None:
    """People: invite, list, give roles, disable, recover."""


@operator.command()
@click.argument("name")
@click.option("--display-name", default="", help="What people call them.")
@click.option("--role", "roles", multiple=True, metavar="ROLE[@GROUP]",
              help="A role in a group of devices, or in all groups; repeatable.")  # fmt: skip
@json_option
@click.pass_context
def invite(ctx: click.Context, name: str, display_name: str, roles: tuple[str, ...], as_json: bool) -> None:
    """Invite NAME and print the link they register their passkey by: once, within a day."""
    body = {"name": name, "display_name": display_name, "grants": [_parse_grant(text) for text in roles]}
    _show_link(connect(ctx).post("/operators/invitations", body), as_json=as_json)


@operator.command("list")
@json_option
@click.pass_context
def list_operators(ctx: click.Context, as_json: bool) -> None:
    """List operators."""
    found = connect(ctx).get("/operators")
    if as_json:
        print_json(found)
        return
    rows = [{**one, "roles": _roles(one), "proofs": _proofs(one)} for one in found]
    print_table(rows, _COLUMNS, empty="Nobody yet. The first one: fleetward --data DIR operator setup-link")


@operator.command()
@click.argument("name")
@click.option("--give", multiple=True, metavar="ROLE[@GROUP]", help="Give a role; repeatable.")
@click.option("--take", multiple=True, metavar="ROLE[@GROUP]", help="Take a role away; repeatable.")
@json_option
@click.pass_context
def role(ctx: click.Context, name: str, give: tuple[str, ...], take: tuple[str, ...], as_json: bool) -> None:
    """Show, give or take the roles of NAME, each in a group of devices or in all."""
    api = connect(ctx)
    held = {(one["role"], one["group"]): one["id"] for one in api.get(f"/operators/{name}")["grants"]}
    for wanted in map(_parse_grant, give):
        api.post(f"/operators/{name}/grants", wanted)
    for unwanted in map(_parse_grant, take):
        grant_id = held.get((unwanted["role"], unwanted["group"]))
        if grant_id is None:
            where = f"{unwanted['role']} in {unwanted['group']}"
            raise NotFoundError(f"operator {name}: expected them to hold {where}, found they do not")
        api.delete(f"/operators/{name}/grants/{grant_id}")
    found = api.get(f"/operators/{name}")
    if as_json:
        print_json(found["grants"])
    else:
        say(f"{name}: {_roles(found)}")


@operator.command()
@click.argument("name")
@click.option("--reason", default="", help="Why; goes into the audit log.")
@json_option
@click.pass_context
def disable(ctx: click.Context, name: str, reason: str, as_json: bool) -> None:
    """Keep NAME from signing in; their sessions and tokens end now."""
    _show_state(connect(ctx).post(f"/operators/{name}/disable", {"reason": reason}), as_json=as_json)


@operator.command()
@click.argument("name")
@json_option
@click.pass_context
def enable(ctx: click.Context, name: str, as_json: bool) -> None:
    """Let a disabled NAME sign in again."""
    _show_state(connect(ctx).post(f"/operators/{name}/enable"), as_json=as_json)


@operator.command()
@click.argument("name")
@json_option
@click.pass_context
def recover(ctx: click.Context, name: str, as_json: bool) -> None:
    """Print a link by which NAME replaces every factor they lost; everybody is told."""
    _show_link(connect(ctx).post(f"/operators/{name}/recover"), as_json=as_json)


@operator.command("setup-link")
@json_option
@click.pass_context
def setup_link(ctx: click.Context, as_json: bool) -> None:
    """Print a fresh link that makes the first operator; earlier ones are void."""
    _show_link(connect(ctx).post("/setup/link"), as_json=as_json)


def _parse_grant(text: str) -> dict[str, str]:
    role, _, group = text.partition("@")
    return {"role": role, "group": group or "*"}


def _show_link(made: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(made)
    else:
        print_facts({"operator": made.get("name"), "link": made["link"], "until": made["expires_at"]})
        say("It works once and is not shown again: hand it over by a way you trust.")


def _show_state(found: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(found)
    else:
        say(f"{found['name']} is {found['state']}.")


def _roles(found: dict[str, Any]) -> str:
    held = [f"{one['role']}{'' if one['group'] == '*' else '@' + one['group']}" for one in found["grants"]]
    return ", ".join(held) or "none"


def _proofs(found: dict[str, Any]) -> str:
    factors = found["factors"]
    ways = [f"{factors['passkeys']} passkey(s)"] if factors["passkeys"] else []
    ways += ["password and code"] if factors["password"] and factors["totp"] else []
    ways += ["single sign-on"] if found["sso"] else []
    return ", ".join(ways) or "nothing yet"
