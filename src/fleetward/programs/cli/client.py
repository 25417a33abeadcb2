"""Which platform the command line means."""

from functools import partial
from pathlib import Path

import click

from fleetward.base.errors import ConfigError
from fleetward.outside.http.platform import Api, find_platform
from fleetward.programs.cli import credentials
from fleetward.programs.cli.device_flow import step_up


def connect(ctx: click.Context) -> Api:
    """Return the platform that the command line names, with the best proof there is.

    `--server` with `--token`, else the sign-in kept for it; `--data`, by its local token; else the platform
    signed in to last.

    Raises:
        ConfigError: none of these.
        UnavailableError: the folder has no running platform.
    """
    settings = ctx.find_root().obj
    if settings["server"]:
        if settings["token"]:
            return Api(settings["server"], settings["token"], settings["ca_file"])
        return _kept(credentials.normalise(settings["server"]), settings["ca_file"])
    if settings["data"] is not None:
        return find_platform(settings["data"])
    return _kept(None, settings["ca_file"])


def _kept(server: str | None, ca_file: Path | None) -> Api:
    found = credentials.find(server)
    if found is None and server is None:
        raise ConfigError(
            "platform: expected --data DIR or --server URL, found neither",
            hint="Example: fleetward --data ./data device list",
        )
    if found is None:
        raise ConfigError(
            "--server: expected a sign-in or a token too, found neither",
            hint=f"fleetward --server {server} login, or set FLEETWARD_TOKEN.",
        )
    root = ca_file or found.ca_file
    return Api(found.server, found.token, root, step_up=partial(step_up, found, root))
