"""Devices of a real platform: enrolled by their claims over EST, connected by mosquitto's own clients."""

import base64
import json
import sqlite3
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from ssl import create_default_context

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import pkcs7

from fleetward.base.layout import DataFolder
from support.broker import Subscriber, wait_for
from support.enrolling import sign_csr
from support.mosquitto import mosquitto_command
from support.platform import Platform

_PEM = serialization.Encoding.PEM


@dataclass(frozen=True)
class FleetDevice:
    """A device with a certificate of the platform's."""

    platform: Platform
    id: str
    certificate: Path
    key: Path

    def command(self, program: str, *options: str) -> list[str]:
        """Return the command line of mosquitto_pub or mosquitto_sub as this device."""
        ready, ca_file = self.platform.ready, self.platform.ca_file
        return mosquitto_command(
            program, ready["mqtt"], ca_file, self.id, self.certificate, self.key, *options
        )

    def publish(self, topic: str, *payloads: object) -> None:
        """Publish JSON payloads, one message each, under `d/ID/`; nobody else may hold its session."""
        lines = "\n".join(json.dumps(payload) for payload in payloads)
        command = self.command("mosquitto_pub", "-q", "1", "-t", f"d/{self.id}/{topic}", "-l")
        subprocess.run(command, input=lines, text=True, check=True, timeout=30, capture_output=True)

    @contextmanager
    def connected(self) -> Iterator[Subscriber]:
        """Yield its session, held by mosquitto_sub."""
        command = self.command("mosquitto_sub", "-q", "1", "-d", "-t", f"d/{self.id}/cmd/+")
        with subprocess.Popen(
            ["stdbuf", "-oL", *command],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            bufsize=1,
        ) as process:
            found = Subscriber(process)
            try:
                wait_for(lambda: found.connections)
                yield found
            finally:
                process.kill()


def enroll(
    platform: Platform, device_id: str, model: str, folder: Path, *, group: str = "default"
) -> FleetDevice:
    """Register a device, spend its claim at EST's simpleenroll, and return it with its certificate."""
    body = {"id": device_id, "model": model, "group": group}
    added = platform.api.post("/devices", body)
    key = ec.generate_private_key(ec.SECP256R1())
    basic = base64.b64encode(f"{device_id}:{added['claim']}".encode()).decode()
    request = urllib.request.Request(  # noqa: S310 - our own address
        f"{added['est_url']}/simpleenroll",
        data=base64.encodebytes(sign_csr(key, device_id)),
        headers={"Authorization": f"Basic {basic}", "Content-Type": "application/pkcs10"},
    )
    context = create_default_context(cafile=str(platform.ca_file))
    with urllib.request.urlopen(request, context=context, timeout=30) as answer:  # noqa: S310 - as above
        certificates = pkcs7.load_der_pkcs7_certificates(base64.b64decode(answer.read()))
    own = next(one for one in certificates if one.public_key() == key.public_key())
    issuers: list[x509.Certificate] = [one for one in certificates if one != own]
    issuer = platform.data / "ca" / "device-chain.pem"
    chain = b"".join(one.public_bytes(_PEM) for one in issuers) or issuer.read_bytes()
    found = FleetDevice(platform, device_id, folder / f"{device_id}.pem", folder / f"{device_id}.key")
    found.certificate.write_bytes(own.public_bytes(_PEM) + chain)
    found.key.write_bytes(
        key.private_bytes(_PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return found


def fill_registry(platform: Platform, count: int, *, model: str = "buoy") -> None:
    """Put `count` devices of a model into the registry at once, as an import of that size leaves it."""
    states = ["active"] * 17 + ["registered", "quarantined", "enrolled"]
    firmware = ["2.3.1"] * 6 + ["2.3.0", "2.2.4", None]
    groups = ["harbour-east", "harbour-west", "offshore", "depot"]
    with closing(sqlite3.connect(DataFolder(platform.data).database, timeout=30)) as db, db:
        db.row_factory = sqlite3.Row
        template = dict(db.execute("SELECT * FROM devices LIMIT 1").fetchone())
        rows = (
            template
            | {
                "id": f"{model}-{n:06d}", "model": model, "group": groups[n % 4], "state": states[n % 20],
                "firmware_version": firmware[n % 9], "state_reason": "imported", "tier": None,
                "hardware_kind": None, "hardware_fingerprint": None,
            }
            for n in range(count)
        )  # fmt: skip
        names = ", ".join(f'"{name}"' for name in template)
        marks = ", ".join(f":{name}" for name in template)
        db.executemany(f"INSERT INTO devices ({names}) VALUES ({marks})", rows)  # noqa: S608 - names of our own table
