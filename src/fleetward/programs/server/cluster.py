"""`fleetward cluster`: what the servers of a NATS cluster are given."""

import json
from datetime import timedelta
from pathlib import Path

import click

from fleetward.base.clock import SystemClock
from fleetward.base.config import load_config
from fleetward.base.errors import InvalidInputError
from fleetward.base.files import write_atomically, write_secret
from fleetward.base.ids import parse_id
from fleetward.features.pki.authority.ceremony import issue_cluster_node, issue_listener, load_ca
from fleetward.outside.nats.config import BrokerSettings, ClusterSettings, render_config
from fleetward.outside.nats.credentials import ensure_nats_keys
from fleetward.programs.server.doors import SETTINGS
from fleetward.programs.server.folder import existing_folder

_LIFETIME = timedelta(days=90)
_ROUTE = "tls://"


@click.group()
def cluster() -> None:
    """The message cluster that outgrows one server."""


@cluster.command()
@click.argument("name")
@click.option("--data", type=click.Path(path_type=Path, file_okay=False), help="The data folder.")
@click.option("--host", required=True, help="The name or address by which the others reach this node.")
@click.option("--route", "routes", multiple=True, metavar="tls://HOST:PORT",
              help="Where the others listen for routes; repeatable.")  # fmt: skip
@click.option("--replicas", default=3, show_default=True, help="Copies of every stream; nats.replicas too.")
@click.option("--nats-listen", default="0.0.0.0:4222", show_default=True)
@click.option("--mqtt-listen", default="0.0.0.0:8883", show_default=True)
@click.option("--route-listen", default="0.0.0.0:6222", show_default=True)
@click.option("--folder", type=click.Path(path_type=Path), default=Path("/etc/fleetward-nats"),
              show_default=True, help="Where the files will lie on the node.")  # fmt: skip
@click.option("--store", type=click.Path(path_type=Path), default=Path("/var/lib/fleetward-nats"),
              show_default=True, help="Where the node keeps its streams.")  # fmt: skip
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), required=True,
              help="Write the files here, to be copied to the node.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def node(
    ctx: click.Context,
    name: str,
    data: Path | None,
    host: str,
    routes: tuple[str, ...],
    replicas: int,
    nats_listen: str,
    mqtt_listen: str,
    route_listen: str,
    folder: Path,
    store: Path,
    out: Path,
    as_json: bool,
) -> None:
    """Write configuration and certificates of the cluster's node NAME; again within 90 days to renew them.

    Then start it there: nats-server -c FOLDER/nats.conf; after a renewal: nats-server --signal reload.
    """
    home = existing_folder(ctx, data)
    config, now = load_config(home, SETTINGS), SystemClock().now()
    for route in routes:
        if not route.startswith(_ROUTE):
            raise InvalidInputError(f"--route: expected tls://HOST:PORT, found {route!r}")
    settings = BrokerSettings(
        folder=store,
        mqtt_listen=_parse_listen(mqtt_listen),
        nats_listen=_parse_listen(nats_listen),
        certificate=folder / "server.pem",
        private_key=folder / "server.pem",
        device_ca=folder / "device-cas.pem",
        log_file=store / "nats.log",
        server_name=parse_id(name, what="node"),
        cluster=ClusterSettings(
            _parse_listen(route_listen), routes, folder / "route.pem", folder / "cluster-ca.crt", replicas
        ),
    )
    ca, route_pem = issue_cluster_node(home.path, config.trust_domain, host, _LIFETIME, now)
    names = dict.fromkeys((*config.host_names, host))
    listener = issue_listener(load_ca(home.path, "server-ca"), tuple(names), _LIFETIME, now)
    out.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_secret(out / "route.pem", route_pem)
    write_secret(out / "server.pem", listener)
    write_atomically(out / "cluster-ca.crt", ca)
    write_atomically(out / "device-cas.pem", (home.path / "ca" / "device-cas.pem").read_bytes())
    write_atomically(out / "nats.conf", render_config(settings, ensure_nats_keys(home.keys)).encode())
    until = (now + _LIFETIME).date().isoformat()
    if as_json:
        click.echo(json.dumps({"node": name, "out": str(out), "folder": str(folder), "until": until}))
        return
    click.echo(f"Node {name}: files in {out}, certificates until {until}.")
    click.echo(f"  Copy them to {host}:{folder}, then there: nats-server -c {folder}/nats.conf")


def _parse_listen(text: str) -> tuple[str, int]:
    host, mark, port = text.rpartition(":")
    if not mark or not port.isdigit() or not 1 <= int(port) <= 65_535:  # noqa: PLR2004 - the last port
        raise InvalidInputError(f"listen address: expected HOST:PORT, found {text!r}")
    return host.strip("[]"), int(port)
