"""`fleetward login`, `logout`, `whoami`: the sign-in of a command line, through a browser (RFC 8628)."""

import json
from pathlib import Path

import click

from fleetward.base.errors import ConfigError, FleetwardError
from fleetward.base.layout import DataFolder
from fleetward.base.terminal import say
from fleetward.outside.http.platform import Api
from fleetward.programs.cli import credentials
from fleetward.programs.cli.client import connect
from fleetward.programs.cli.device_flow import sign_in
from fleetward.programs.cli.output import json_option, print_facts, print_json


@click.command()
@json_option
@click.pass_context
def login(ctx: click.Context, as_json: bool) -> None:
    """Sign this command line in: approve it in a browser. No password is typed here."""
    server, ca_file = _named_server(ctx)
    kept = sign_in(server, ca_file, as_json=as_json)
    if as_json:
        print_json({"server": server, "operator": kept.operator, "expires_at": kept.expires_at})
    else:
        say(f"Signed in to {server} as {kept.operator}, until {kept.expires_at}.")


@click.command()
@json_option
@click.pass_context
def logout(ctx: click.Context, as_json: bool) -> None:
    """Revoke this command line's token and forget it."""
    named = ctx.find_root().obj["server"]
    kept = credentials.find(None if named is None else credentials.normalise(named))
    if kept is None:
        raise ConfigError(
            "sign-in: expected one to end, found none", hint="See where you are: fleetward whoami"
        )
    try:
        Api(kept.server, kept.token, kept.ca_file).post("/signout")
    except FleetwardError as error:
        # An expired or revoked token is over anyway; a server that is away must hear of it later.
        if error.code != "unauthenticated":
            raise
    credentials.forget(kept.server)
    if as_json:
        print_json({"server": kept.server, "signed_out": True})
    else:
        say(f"Signed out of {kept.server}.")


@click.command()
@json_option
@click.pass_context
def whoami(ctx: click.Context, as_json: bool) -> None:
    """Show as whom this command line acts, and what they may do."""
    api = connect(ctx)
    me = api.get("/me")
    if as_json:
        print_json({**me, "server": api.url})
        return
    print_facts(
        {
            "server": api.url,
            "name": f"{me['name']} ({me['display_name']})",
            "by": me["via"],
            "two factors at": me["mfa_at"],
            "roles": ", ".join(f"{one['role']} in {_group(one['group'])}" for one in me["grants"]),
            "may": ", ".join(me["permissions"]),
        }
    )


def _group(name: str) -> str:
    return "all groups" if name == "*" else name


def _named_server(ctx: click.Context) -> tuple[str, Path | None]:
    """Return the server to sign in to and its root: as named, of the data folder, or the one kept."""
    settings = ctx.find_root().obj
    if settings["server"]:
        server = credentials.normalise(settings["server"])
        kept = credentials.find(server)
        return server, settings["ca_file"] or (None if kept is None else kept.ca_file)
    if settings["data"] is not None:
        folder = DataFolder(settings["data"])
        folder.check()
        if folder.ready.is_file():
            ready = json.loads(folder.ready.read_text())
            return credentials.normalise(ready["console"]), Path(ready["ca_file"])
    kept = credentials.find(None)
    if kept is None:
        raise ConfigError(
            "platform: expected --server URL, or --data of one that runs, found neither",
            hint="Example: fleetward --server https://fleet.example:8443 --ca-file root.pem login",
        )
    return kept.server, settings["ca_file"] or kept.ca_file
