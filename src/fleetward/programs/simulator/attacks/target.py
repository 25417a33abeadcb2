"""What is attacked, what an attack reports, and the victim that attackers impersonate."""

import base64
import json
import secrets
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import urllib3
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from fleetward.base.clock import SystemClock, render_time
from fleetward.base.files import write_secret
from fleetward.outside.http.platform import Api, find_platform
from fleetward.wire.est import parse_certificates

TARGET_MODEL = "attack-target"
_EVENT_WAIT_S = 20.0
# Repeats of one refusal within this time are one row with a count, see base.limiting.repeats.
_THROTTLE = timedelta(seconds=11)


@dataclass(frozen=True)
class Target:
    """A running platform as an attacker sees it, and its operator's view to check the traces."""

    api: Api
    devices_url: str
    mqtt_host: str
    mqtt_port: int
    ca_file: Path
    folder: Path


@dataclass(frozen=True)
class Trace:
    """The event an attack must leave.

    Attributes:
        kinds: one of these.
        device: about this device, or None for attackers nobody can name.
        details: these details, each equal.
    """

    kinds: frozenset[str]
    device: str | None = None
    details: dict[str, Any] = field(default_factory=dict)

    def matches(self, event: dict[str, Any]) -> bool:
        return (
            event["kind"] in self.kinds
            and (self.device is None or event["device"] == self.device)
            and all(event["details"].get(name) == value for name, value in self.details.items())
        )


@dataclass(frozen=True)
class Outcome:
    """What the attacker got.

    Attributes:
        is_refused: whether the platform or the device held.
        seen: what the attacker saw, in a line.
        trace: the event to look for.
    """

    is_refused: bool
    seen: str
    trace: Trace


Attack = Callable[[Target], Outcome]


@dataclass(frozen=True)
class Report:
    """One attack's line: refused, and the event that tells of it, or None when none was left."""

    attack: str
    refused: bool
    seen: str
    event: dict[str, Any] | None


def find_target(data: Path) -> Target:
    """Return the platform that runs from `data`. Raises UnavailableError when none does."""
    api = find_platform(data)
    ready = json.loads((data / "ready.json").read_text())
    host, _, port = ready["mqtt"].rpartition(":")
    folder = data / "demo" / "attacks"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return Target(api, ready["devices"], host, int(port), Path(ready["ca_file"]), folder)


def run_attack(name: str, attack: Attack, target: Target) -> Report:
    """Do the attack and return its report, once its trace is found or 20 s have passed without."""
    since = render_time(SystemClock().now() - _THROTTLE)
    outcome = attack(target)
    deadline = time.monotonic() + _EVENT_WAIT_S
    while True:
        events = target.api.get("/events", since=since, limit=5000)["events"]
        found = next((event for event in reversed(events) if outcome.trace.matches(event)), None)
        if found is not None or time.monotonic() > deadline:
            return Report(name, outcome.is_refused, outcome.seen, found)
        time.sleep(0.2)


@dataclass(frozen=True)
class Victim:
    """A device enrolled the plain way, whose credentials an attacker has got hold of."""

    device_id: str
    claim: str
    key: ec.EllipticCurvePrivateKey
    chain_file: Path
    key_file: Path


def enroll_victim(target: Target) -> Victim:
    """Return a fresh device of a model that asks for no attestation, enrolled over EST by its claim."""
    target.api.post("/models", {"id": TARGET_MODEL, "attestation": "none", "min_tier": "software"})
    device_id = f"victim-{secrets.token_hex(4)}"
    added = target.api.post("/devices", {"id": device_id, "model": TARGET_MODEL})
    key = ec.generate_private_key(ec.SECP256R1())
    status, body = request_certificate(target, device_id, added["claim"], key)
    if status != 200:  # noqa: PLR2004 - HTTP OK
        raise RuntimeError(f"the victim could not enroll: status {status}: {body[:200]!r}")
    chain_file = target.folder / f"{device_id}.pem"
    key_file = target.folder / f"{device_id}.key"
    pem = b"".join(one.public_bytes(Encoding.PEM) for one in parse_certificates(body))
    write_secret(chain_file, pem)
    write_secret(key_file, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return Victim(device_id, added["claim"], key, chain_file, key_file)


def request_certificate(
    target: Target, device_id: str, claim: str, key: ec.EllipticCurvePrivateKey
) -> tuple[int, bytes]:
    """Return status and body of an EST simpleenroll by claim."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, device_id)])
    request = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hashes.SHA256())
    context = ssl.create_default_context(cafile=str(target.ca_file))
    with urllib3.PoolManager(ssl_context=context, retries=False, timeout=10) as pool:
        response = pool.request(
            "POST",
            f"{target.devices_url}/.well-known/est/simpleenroll",
            body=base64.b64encode(request.public_bytes(Encoding.DER)),
            headers={
                "Content-Type": "application/pkcs10",
                **urllib3.make_headers(basic_auth=f"{device_id}:{claim}"),
            },
        )
        return response.status, response.data
