"""Which data folder a command means."""

from pathlib import Path

import click

from fleetward.base.errors import ConfigError
from fleetward.base.layout import DataFolder


def named_folder(ctx: click.Context, data: Path | None) -> DataFolder:
    """Return the folder named by the command's own `--data`, or by the one before it; it need not exist yet.

    Raises:
        ConfigError: neither is given.
    """
    path = data or ctx.find_root().obj["data"]
    if path is None:
        raise ConfigError("data folder: expected --data DIR, found none", hint="fleetward up --data ./data")
    return DataFolder(Path(path).resolve())


def existing_folder(ctx: click.Context, data: Path | None) -> DataFolder:
    """Return a folder that a platform was made in. Raises ConfigError, NewerDataError as its `check` does."""
    folder = named_folder(ctx, data)
    folder.check()
    return folder
