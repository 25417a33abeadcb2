"""How a command line is let in through a browser (RFC 8628): to act as somebody, or to be given a token."""

import getpass
import json
import socket
import sys
import time
from pathlib import Path
from typing import Any

import click

from fleetward.base.errors import FleetwardError
from fleetward.base.terminal import say
from fleetward.outside.http.platform import Api
from fleetward.programs.cli import credentials
from fleetward.programs.cli.credentials import SignedIn

_GRANT = "urn:ietf:params:oauth:grant-type:device_code"
_SLOWER_S = 5


def sign_in(server: str, ca_file: Path | None, *, as_json: bool) -> SignedIn:
    """Have a person let this command line in; keep the token. Raises FleetwardError: denied or expired."""
    token = ask(server, ca_file, {}, as_json=as_json)
    return credentials.save(server, token["operator"], token["expires_at"], token["access_token"], ca_file)


def step_up(kept: SignedIn, ca_file: Path | None) -> str | None:
    """Have a person confirm who they are, and return the token that takes the place of the kept one.

    None where nobody is there to answer: errors then go where no one reads them as they come.

    Raises:
        FleetwardError: denied or expired.
    """
    if not sys.stderr.isatty():
        return None
    say("This needs two factors given within the last five minutes.", err=True)
    renewed = sign_in(kept.server, ca_file, as_json=False)
    Api(kept.server, kept.token, ca_file).post("/signout")
    return renewed.token


def ask(server: str, ca_file: Path | None, wanted: dict[str, str], *, as_json: bool) -> dict[str, Any]:
    """Return what a person let this command line have. Raises FleetwardError: denied or expired.

    Args:
        wanted: fields beside the name of this program, such as `scope`.
    """
    api = Api(server, None, ca_file)
    client = {"client_id": f"fleetward of {getpass.getuser()} on {socket.gethostname()}"}
    began = api.post_form("/oauth/device_authorization", {**client, **wanted})
    _show_code(began, as_json=as_json)
    fields = {**client, "grant_type": _GRANT, "device_code": began["device_code"]}
    return _await_answer(api, fields, int(began["interval"]))


def _show_code(began: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        shown = {name: value for name, value in began.items() if name != "device_code"}
        click.echo(json.dumps(shown), err=True)
        return
    code = click.style(began["user_code"], bold=True)
    say(f"Open this page where you are signed in, and compare the code {code}:\n", err=True)
    say(f"  {began['verification_uri_complete']}\n", err=True)
    say("Waiting for your answer there …", err=True)


def _await_answer(api: Api, fields: dict[str, str], interval_s: int) -> dict[str, Any]:
    """Poll until somebody answered (RFC 8628 section 3.5)."""
    while True:
        time.sleep(interval_s)
        try:
            token: dict[str, Any] = api.post_form("/oauth/token", fields)
        except FleetwardError as error:
            if error.code == "slow_down":
                interval_s += _SLOWER_S
            elif error.code != "authorization_pending":
                raise
        else:
            return token
