"""`fleetward init`, `up` and `serve`."""

import json
import sys
from pathlib import Path

import click

from fleetward.base.clock import SystemClock
from fleetward.base.config import Ports, ServerConfig, ports_from
from fleetward.base.layout import DataFolder
from fleetward.base.logging import configure_logging
from fleetward.programs.server.folder import existing_folder, named_folder
from fleetward.programs.server.guard import hold_folder, hold_place
from fleetward.programs.server.initialise import Initialised, check_secrecy, forget_passphrase, initialise

_DEFAULT_TRUST_DOMAIN = "fleet.local"

_data_option = click.option(
    "--data", type=click.Path(path_type=Path, file_okay=False), help="The data folder."
)
_passphrase_option = click.option(
    "--root-passphrase-file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Encrypts the root key; without it one is generated and shown once.",
)
_port_option = click.option("--port-base", type=int, help="Console at N, devices N+1, MQTT N+2, DTLS N+4.")


@click.command()
@_data_option
@click.option("--trust-domain", help=f"Stands in every certificate.  [default: {_DEFAULT_TRUST_DOMAIN}]")
@click.option("--listen", default="127.0.0.1", show_default=True, help="Address the listeners bind to.")
@click.option("--host-name", "host_names", multiple=True,
              help="A name or address devices and people reach this platform by; repeatable.")  # fmt: skip
@_passphrase_option
@_port_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def init(
    ctx: click.Context,
    data: Path | None,
    trust_domain: str | None,
    listen: str,
    host_names: tuple[str, ...],
    root_passphrase_file: Path | None,
    port_base: int | None,
    as_json: bool,
) -> None:
    """Create a platform: offline root, issuing CAs, database, update repository. Never overwrites a key."""
    folder = named_folder(ctx, data)
    wanted = _wanted(folder, trust_domain, port_base, listen, host_names)
    check_secrecy(folder, root_passphrase_file)
    folder.path.mkdir(mode=0o700, parents=True, exist_ok=True)
    with hold_folder(folder):
        done = initialise(
            folder,
            wanted,
            passphrase_file=root_passphrase_file,
            clock=SystemClock(),
            tell=lambda text: None if as_json else click.echo(f"  {text}"),
        )
        _show_made(folder, done, as_json=as_json)


def _show_made(folder: DataFolder, done: Initialised, *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps({
            "data": str(folder.path), "trust_domain": done.config.trust_domain, "created": done.was_new,
            "ca_file": str(folder.ca_file), "root_passphrase": done.passphrase,
        }))  # fmt: skip
    else:
        _show_initialised(folder, done)
    forget_passphrase(folder)


@click.command()
@_data_option
@click.option("--trust-domain", help="For the first start; see init.")
@_passphrase_option
@_port_option
@click.option("--no-demo", is_flag=True, help="Run the platform alone, without the demo camera.")
@click.pass_context
def up(
    ctx: click.Context,
    data: Path | None,
    trust_domain: str | None,
    root_passphrase_file: Path | None,
    port_base: int | None,
    no_demo: bool,
) -> None:
    """Run a platform in this process, created at the first start; ready when DATA/ready.json exists."""
    from fleetward.programs.server.run import run_platform  # noqa: PLC0415 - init need not load it

    folder = named_folder(ctx, data)
    wanted = _wanted(folder, trust_domain, port_base, "127.0.0.1", ())
    check_secrecy(folder, root_passphrase_file)
    config = _found_or(folder, wanted)
    ports = config.ports if port_base is None else ports_from(port_base)
    with hold_place(folder, config, ports):
        done = initialise(
            folder, wanted, passphrase_file=root_passphrase_file, clock=SystemClock(),
            tell=lambda text: click.echo(f"  {text}", err=True),
        )  # fmt: skip
        if done.passphrase is not None:
            _show_initialised(folder, done)
        forget_passphrase(folder)
        configure_logging(level=done.config.log_level)
        sys.exit(run_platform(folder, done.config, ports, with_demo=not no_demo))


@click.command()
@_data_option
@click.option(
    "--role", "roles", type=click.Choice(["api", "callout", "worker"]), multiple=True, required=True,
    help="What this process does; repeatable. Run as many processes of each as you need.",
)  # fmt: skip
@_port_option
@click.pass_context
def serve(ctx: click.Context, data: Path | None, roles: tuple[str, ...], port_base: int | None) -> None:
    """Run one process of a platform whose state is in PostgreSQL, a NATS cluster and an object store."""
    from fleetward.base.config import load_config  # noqa: PLC0415 - as above
    from fleetward.programs.server.doors import SETTINGS  # noqa: PLC0415
    from fleetward.programs.server.run import run_roles  # noqa: PLC0415

    folder = existing_folder(ctx, data)
    config = load_config(folder, SETTINGS)
    ports: Ports = config.ports if port_base is None else ports_from(port_base)
    configure_logging(level=config.log_level)
    sys.exit(run_roles(folder, config, ports, frozenset(roles)))


def _found_or(folder: DataFolder, wanted: ServerConfig) -> ServerConfig:
    """Return the settings that an existing platform has, or those that a new one will get."""
    from fleetward.base.config import load_config  # noqa: PLC0415 - as above
    from fleetward.programs.server.doors import SETTINGS  # noqa: PLC0415

    if folder.restoring.exists() or folder.version.exists():
        folder.check()
    return load_config(folder, SETTINGS) if folder.config.exists() else wanted


def _wanted(
    folder: DataFolder, trust_domain: str | None, port_base: int | None, listen: str, names: tuple[str, ...]
) -> ServerConfig:
    """Return the settings a new folder gets; an old one keeps its own."""
    if trust_domain is None:
        trust_domain = "" if folder.config.exists() else _DEFAULT_TRUST_DOMAIN
    ports = Ports() if port_base is None else ports_from(port_base)
    host_names = names or ("localhost", "127.0.0.1")
    return ServerConfig(trust_domain=trust_domain, listen=listen, host_names=host_names, ports=ports)


def _show_initialised(folder: DataFolder, done: Initialised) -> None:
    if done.passphrase is None:
        state = "created" if done.was_new else "complete; nothing was changed"
        click.echo(f"Platform {done.config.trust_domain} in {folder.path}: {state}.")
        return
    click.echo(f"Platform {done.config.trust_domain} created in {folder.path}.")
    click.echo("")
    click.echo(click.style("  Root passphrase, shown this once: ", bold=True) + done.passphrase)
    click.echo("  It opens the root keys in offline/, which nothing that runs needs.")
    click.echo("  Write it down, then move offline/ to a medium that stays in a safe.")
    click.echo("")
