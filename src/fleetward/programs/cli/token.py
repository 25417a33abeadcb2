"""`fleetward token`: tokens of programs, such as a build that publishes releases."""

import click

from fleetward.base.terminal import say
from fleetward.programs.cli.client import connect
from fleetward.programs.cli.device_flow import ask
from fleetward.programs.cli.output import json_option, print_facts, print_json, print_table

_COLUMNS = {
    "id": "Id",
    "name": "Name",
    "kind": "Kind",
    "scopes": "Limited to",
    "expires_at": "Until",
    "last_used_at": "Last used",
}


@click.group()
def token() -> None:
    """Tokens of programs: scoped, at most 90 days."""


@token.command()
@click.argument("name")
@click.option("--scope", "scopes", multiple=True, required=True, metavar="PERMISSION",
              help="What it may do, such as device.read; repeatable.")  # fmt: skip
@click.option("--expires-in", default="30d", show_default=True, help="How long it works; at most 90d.")
@json_option
@click.pass_context
def create(ctx: click.Context, name: str, scopes: tuple[str, ...], expires_in: str, as_json: bool) -> None:
    """Make a token called NAME and print it, this once. You approve it in a browser."""
    api = connect(ctx)
    wanted = {"token_name": name, "scope": " ".join(scopes), "token_lifetime": expires_in}
    found = ask(api.url, api.ca_file, wanted, as_json=as_json)
    made = {
        "id": found["id"],
        "name": found["name"],
        "scopes": found["scope"].split(),
        "expires_at": found["expires_at"],
        "token": found["access_token"],
    }
    if as_json:
        print_json(made)
        return
    print_facts({"token": made["token"], "id": made["id"], "until": made["expires_at"],
                 "may": ", ".join(made["scopes"])})  # fmt: skip
    say("It is not shown again. Give it to the program as FLEETWARD_TOKEN.")


@token.command("list")
@json_option
@click.pass_context
def list_tokens(ctx: click.Context, as_json: bool) -> None:
    """List your tokens that still work."""
    found = connect(ctx).get("/tokens")
    if as_json:
        print_json(found)
        return
    rows = [{**one, "scopes": ", ".join(one["scopes"] or ["all that you may"])} for one in found]
    print_table(rows, _COLUMNS, empty="No tokens. Make one: fleetward token create NAME --scope device.read")


@token.command()
@click.argument("token_id", metavar="ID")
@json_option
@click.pass_context
def revoke(ctx: click.Context, token_id: str, as_json: bool) -> None:
    """End a token now."""
    connect(ctx).delete(f"/tokens/{token_id}")
    if as_json:
        print_json({"id": token_id, "revoked": True})
    else:
        say(f"Token {token_id} is revoked.")
