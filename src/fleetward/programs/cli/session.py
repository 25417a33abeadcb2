"""`fleetward login`, `logout`, `whoami`: the sign-in of a command line, through a browser (RFC 8628)."""

import getpass
import json
import socket
import time
from pathlib import Path
from typing import Any

import click

from fleetward.base.errors import ConfigError, FleetwardError
from fleetward.base.layout import DataFolder
from fleetward.outside.http.platform import Api
from fleetward.programs.cli import credentials
from fleetward.programs.cli.client import connect
from fleetward.programs.cli.output import json_option, print_facts, print_json, say

_SLOWER_S = 5


@click.command()
@json_option
@click.pass_context
def login(ctx: click.Context, as_json: bool) -> None:
    """Sign this command line in: approve it in a browser. No password is typed here."""
    server, ca_file = _named_server(ctx)
    api = Api(server, None, ca_file)
    began = api.post(
        "/signin/device-code", {"client": f"fleetward of {getpass.getuser()} on {socket.gethostname()}"}
    )
    _show_code(began, as_json=as_json)
    token = _await_token(api, began)
    kept = credentials.save(server, token["operator"], token["expires_at"], token["token"], ca_file)
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


def _show_code(began: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        shown = {name: value for name, value in began.items() if name != "device_code"}
        click.echo(json.dumps(shown), err=True)
        return
    code = click.style(began["user_code"], bold=True)
    say(f"Open this page where you are signed in, and compare the code {code}:\n", err=True)
    say(f"  {began['verification_uri_complete']}\n", err=True)
    say("Waiting for your answer there …", err=True)


def _await_token(api: Api, began: dict[str, Any]) -> dict[str, Any]:
    """Poll until somebody answered (RFC 8628 section 3.5). Raises FleetwardError: denied or expired."""
    interval_s = int(began["interval"])
    while True:
        time.sleep(interval_s)
        try:
            token: dict[str, Any] = api.post(
                "/signin/device-code/token", {"device_code": began["device_code"]}
            )
        except FleetwardError as error:
            if error.code == "slow_down":
                interval_s += _SLOWER_S
            elif error.code != "authorization_pending":
                raise
        else:
            return token
