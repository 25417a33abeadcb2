"""The peers we are measured beside, configured as their own documentation says."""

import asyncio
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import nats
from nats.js.api import ConsumerConfig

from bench.rig import Rig, client_context, connect_packet, free_port_base, wait_for_port
from fleetward.outside.nats.server import find_program
from fleetward.outside.nats.streams import MQTT_MESSAGES, MQTT_SUBJECT_PREFIX


@contextmanager
def mosquitto(rig: Rig, folder: Path) -> Iterator[int]:
    """Yield the port of a mosquitto that demands client certificates of the same CA."""
    port = free_port_base()
    config = folder / "mosquitto.conf"
    config.write_text(
        f"listener {port} 127.0.0.1\nallow_anonymous true\nset_tcp_nodelay true\nmax_inflight_messages 0\n"
        f"max_queued_messages 0\nuser root\ncafile {_issuers(rig, folder)}\n"
        f"certfile {rig.data}/tls/server.pem\n"
        f"keyfile {rig.data}/tls/server.pem\nrequire_certificate true\nuse_identity_as_username true\n"
    )
    with _running(["mosquitto", "-c", str(config)], folder / "mosquitto.log", port):
        yield port


@contextmanager
def bare_nats(rig: Rig, folder: Path) -> Iterator[int]:
    """Yield the MQTT port of the same nats-server with the same TLS, and no callout."""
    base = free_port_base()
    config = folder / "bare-nats.conf"
    config.write_text(
        f'server_name: "bare"\nlisten: "127.0.0.1:{base}"\n'
        f'jetstream {{ store_dir: "{folder}/bare-js" }}\n'
        f'mqtt {{\n  listen: "127.0.0.1:{base + 1}"\n  tls {{\n    cert_file: "{rig.data}/tls/server.pem"\n'
        f'    key_file: "{rig.data}/tls/server.pem"\n    ca_file: "{_issuers(rig, folder)}"\n'
        "    verify: true\n"
        "  }\n}\n"
    )
    with _running([find_program(), "-c", str(config)], folder / "bare-nats.log", base + 1):
        yield base + 1


@contextmanager
def storing_nats(rig: Rig, folder: Path) -> Iterator[int]:
    """Yield the MQTT port of a bare nats-server that keeps each message before its PUBACK, as ours does.

    Without a consumer its MQTT stream has nobody to keep a message for.
    """

    async def store(port: int) -> None:
        client = await nats.connect(f"nats://127.0.0.1:{port}")
        config = ConsumerConfig(durable_name="store", filter_subject=f"{MQTT_SUBJECT_PREFIX}d.>")
        await client.jetstream().add_consumer(MQTT_MESSAGES, config)
        await client.close()

    folder.mkdir()
    with bare_nats(rig, folder) as port:
        [device] = rig.enroll(1, prefix="first")  # the stream is made at the first MQTT connection
        with client_context(rig.ca_file, device).wrap_socket(
            socket.create_connection(("127.0.0.1", port)), server_hostname="localhost"
        ) as stream:
            stream.sendall(connect_packet(device.id))
            stream.recv(4)
        asyncio.run(store(port - 1))
        yield port


def _issuers(rig: Rig, folder: Path) -> Path:
    path = folder / "issuers.pem"
    path.write_bytes(
        b"".join((rig.data / "ca" / name).read_bytes() for name in ("device-ca.crt", "root.crt"))
    )
    return path


@contextmanager
def _running(command: list[str], log: Path, port: int) -> Iterator[None]:
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        wait_for_port(port)
        yield
    finally:
        process.terminate()
        process.wait(20)
