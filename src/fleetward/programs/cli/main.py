"""`fleetward`: names every command; each is imported only when it is used, to start quickly."""

import errno
import importlib
import json
import sys
from pathlib import Path
from typing import Any, NoReturn

import click

from fleetward import __version__
from fleetward.base.errors import FleetwardError, UnavailableError
from fleetward.base.terminal import say

# command → (module:attribute, one line of help); the help stands here so that --help imports nothing.
_COMMANDS = {
    "init": ("fleetward.programs.server.commands:init", "Create a platform: keys, certificates, database."),
    "up": ("fleetward.programs.server.commands:up", "Run a platform, with the demo camera unless --no-demo."),
    "serve": ("fleetward.programs.server.commands:serve", "Run a platform's processes by role."),
    "backup": (
        "fleetward.programs.server.backup_commands:backup",
        "Save a platform, running or not, into one sealed file.",
    ),
    "restore": (
        "fleetward.programs.server.backup_commands:restore",
        "Make the platform of a backup in an empty place.",
    ),
    "today": ("fleetward.programs.cli.overview:today", "What waits for a decision."),
    "login": ("fleetward.programs.cli.session:login", "Sign this command line in, through a browser."),
    "logout": ("fleetward.programs.cli.session:logout", "Revoke this command line's token."),
    "whoami": ("fleetward.programs.cli.session:whoami", "As whom this command line acts."),
    "operator": ("fleetward.programs.cli.operator:operator", "People: invite, list, disable, recover."),
    "token": ("fleetward.programs.cli.token:token", "Tokens of programs: scoped, at most 90 days."),
    "authority": (
        "fleetward.programs.server.authority:authority",
        "The issuing CAs: give one a new key, by the offline root.",
    ),
    "cluster": ("fleetward.programs.server.cluster:cluster", "The message cluster that outgrows one server."),
    "model": ("fleetward.programs.cli.model:model", "Products and what their devices must fulfil."),
    "device": ("fleetward.programs.cli.device:device", "Devices: add, watch, command, quarantine, revoke."),
    "attestation": (
        "fleetward.programs.cli.attestation:attestation",
        "Whose chips are trusted, and what devices may measure.",
    ),
    "factory": ("fleetward.programs.cli.factory:factory", "What happens at manufacturing."),
    "release": ("fleetward.programs.cli.release:release", "Signed firmware releases."),
    "review": ("fleetward.programs.cli.review:review", "Access reviews: is every right still needed?"),
    "break-glass": ("fleetward.programs.cli.breakglass:break_glass", "Emergency rights, lent by two people."),
    "events": ("fleetward.programs.cli.events:events", "What happened, to which device."),
    "deadletter": (
        "fleetward.programs.cli.deadletter:deadletter",
        "Messages that could not be handled: look at them, play them again.",
    ),
    "audit": ("fleetward.programs.cli.audit:audit", "The tamper-evident log of every change."),
    "checklist": ("fleetward.programs.cli.overview:checklist", "How this platform is run, and what to mend."),
    "agent": ("fleetward.programs.agent.commands:agent", "The device's side: run, boot, status."),
    "demo": ("fleetward.programs.simulator.commands:demo", "The smart camera and the attacks on it."),
}
_MAX_CAUSE_CHARS = 300
_MEND = {
    errno.ENOSPC: "Free disk space, then run this again; what was complete before is untouched.",
    errno.EDQUOT: "Free disk space, then run this again; what was complete before is untouched.",
    errno.EACCES: "Run this as the user who owns it.",
    errno.EPERM: "Run this as the user who owns it.",
}


class _LazyGroup(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        del ctx
        if cmd_name not in _COMMANDS:
            return None
        module, _, attribute = _COMMANDS[cmd_name][0].partition(":")
        try:
            found: click.Command = getattr(importlib.import_module(module), attribute)
        except ModuleNotFoundError as error:
            if (error.name or "").startswith("fleetward"):
                raise
            raise click.ClickException(
                f"{cmd_name}: expected the library {error.name}, found it missing. "
                "Install it: pip install 'fleetward[server]'"
            ) from error
        _say_whole(found)
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in _COMMANDS.items()])


def _say_whole(command: click.Command) -> None:
    """Have a list of commands say the whole first sentence of each: click cuts what it makes up itself."""
    if command.short_help is None and command.help:
        first = " ".join(command.help.partition("\n\n")[0].split())
        command.short_help = f"{first.partition('. ')[0].rstrip('.')}."
    if isinstance(command, click.Group):
        for one in command.commands.values():
            _say_whole(one)


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="fleetward")
@click.option("--data", type=click.Path(path_type=Path), envvar="FLEETWARD_DATA",
              help="The platform's data folder: gives address and token.")  # fmt: skip
@click.option("--server", envvar="FLEETWARD_SERVER", help="A platform elsewhere: https://host:port.")
@click.option("--token", envvar="FLEETWARD_TOKEN",
              help="The token for --server; better in FLEETWARD_TOKEN than on the command line.")  # fmt: skip
@click.option("--ca-file", type=click.Path(path_type=Path, exists=True, dir_okay=False),
              envvar="FLEETWARD_CA_FILE", help="The root that --server is verified by.")  # fmt: skip
@click.pass_context
def cli(ctx: click.Context, /, **settings: Any) -> None:
    """Fleetward secures fleets of connected devices over their whole life."""
    ctx.obj = settings


def main() -> None:
    """Run the command line; our errors become one clear line and exit code 1, never a traceback."""
    try:
        # What a command says by `ctx.exit` comes back as a value: click leaves it to us.
        code = cli.main(prog_name="fleetward", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except click.Abort:
        sys.exit(130)
    except (FleetwardError, OSError) as error:
        end_with(error)
    else:
        sys.exit(code if isinstance(code, int) else 0)


def end_with(error: Exception) -> NoReturn:
    """Show an error of ours, or of a disk, and exit with 1. Any other is raised."""
    if isinstance(error, OSError) and (error.filename is not None or error.errno == errno.ENOSPC):
        error = _storage_error(error)
    if not isinstance(error, FleetwardError):
        raise error
    _show(error)
    sys.exit(1)


def _storage_error(error: OSError) -> FleetwardError:
    failed = UnavailableError(
        f"{error.filename or 'disk'}: expected to read and write it, found: {error.strerror}",
        hint=_MEND.get(error.errno or 0, "Look at the path, its owner and its file system."),
    )
    failed.__cause__ = error
    return failed


def _show(error: FleetwardError) -> None:
    cause = _cause_of(error)
    if "--json" in sys.argv:
        body = {"code": error.code, "message": error.message, "hint": error.hint, "cause": cause}
        click.echo(json.dumps({"error": body}), err=True)
        return
    say(f"{click.style('error', fg='red', bold=True)}: {error.message}", err=True)
    if cause:
        say(f"  {click.style('cause', fg='cyan')}: {cause}", err=True)
    if error.hint:
        say(f"  {click.style('next', fg='cyan')}: {error.hint}", err=True)


def _cause_of(error: FleetwardError) -> str:
    """Return the first line of what led to an error, "" when there is none or its message says it already."""
    text = next(iter(str(error.__cause__ or "").splitlines()), "")
    said = getattr(error.__cause__, "strerror", None) or text
    return "" if said in error.message else text[:_MAX_CAUSE_CHARS]
