"""The peers we are measured beside, configured as their own documentation says."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.rig import Rig, free_port_base, wait_for_port
from fleetward.outside.nats.server import find_program


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
