"""Which platform the command line means."""

import click

from fleetward.base.errors import ConfigError
from fleetward.outside.http.platform import Api, find_platform


def connect(ctx: click.Context) -> Api:
    """Return the platform that the command line names by `--data`, or `--server` and `--token`.

    Raises:
        ConfigError: neither is given.
        UnavailableError: the folder has no running platform.
    """
    settings = ctx.find_root().obj
    if settings["server"]:
        if not settings["token"]:
            raise ConfigError("--server: expected a token too, found none", hint="Set FLEETWARD_TOKEN.")
        return Api(settings["server"], settings["token"], settings["ca_file"])
    if settings["data"] is None:
        raise ConfigError(
            "platform: expected --data DIR or --server URL, found neither",
            hint="Example: fleetward --data ./data device list",
        )
    return find_platform(settings["data"])
