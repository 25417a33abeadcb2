"""A renewal from one end to the other: the agent renews, and its old certificate opens no door any more."""

import shutil
import ssl
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import urllib3

from support.agent_platform import AgentHost, Where, wait_for
from support.mosquitto import mosquitto_command
from support.platform import Platform, running_platform


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    with running_platform(tmp_path_factory.mktemp("platform")) as started:
        yield started


@dataclass(frozen=True)
class Copy:
    """A device's certificate and key, copied by somebody."""

    chain: Path
    key: Path


def copy_of(host: AgentHost, folder: Path) -> Copy:
    label = wait_for(lambda: host.status.get("enrollment", {}).get("certificate"), "a certificate")
    folder.mkdir()
    chain, key = folder / "chain.pem", folder / "key.pem"
    shutil.copy(host.config.state_dir / "certificates" / f"{label}.pem", chain)
    shutil.copy(host.folder / "keys" / f"{label}.key.pem", key)
    return Copy(chain, key)


def https_status(platform: Platform, held: Copy) -> int:
    context = ssl.create_default_context(cafile=str(platform.ca_file))
    context.load_cert_chain(held.chain, held.key)
    with urllib3.PoolManager(ssl_context=context, retries=False) as pool:
        # Refused for its body, once the certificate has been let in.
        return pool.request("POST", f"{platform.ready['devices']}/v1/attestation/evidence", body=b"").status


def mqtt_code(platform: Platform, device: str, held: Copy) -> int:
    command = mosquitto_command(
        "mosquitto_pub", platform.ready["mqtt"], platform.ca_file, device, held.chain, held.key,
        "-q", "1", "-t", f"d/{device}/t/x", "-m", "1",
    )  # fmt: skip
    return subprocess.run(command, capture_output=True, timeout=30, check=False).returncode


def coap_output(platform: Platform, device: str, held: Copy) -> bytes:
    if shutil.which("coap-client-openssl") is None:
        pytest.skip("libcoap's clients are not installed (libcoap3-bin)")
    host, _, port = platform.ready["dtls"].rpartition(":")
    command = [
        "coap-client-openssl", "-v", "4", "-B", "8", "-R", str(platform.ca_file), "-C", str(platform.ca_file),
        "-c", str(held.chain), "-j", str(held.key), "-m", "post", "-e", "1",
        f"coaps://{host}:{port}/d/{device}/t/x",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, timeout=30, check=False)
    return done.stdout + done.stderr


def certificates(platform: Platform, device: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = platform.api.get(f"/devices/{device}/certificates")
    return found


def test_the_old_certificate_of_an_agent_that_renewed_opens_no_door(
    platform: Platform, tmp_path: Path
) -> None:
    platform.api.post("/models", {"id": "plain", "attestation": "none", "min_tier": "software"})
    claim = platform.api.post("/devices", {"id": "dev-1", "model": "plain"})["claim"]
    ready = platform.ready
    host = AgentHost(Where(ready["devices"], ready["mqtt"], platform.ca_file), "dev-1", tmp_path / "host")
    try:
        host.give_claim(claim)
        host.start()
        platform.wait_for_event("session.opened", device="dev-1", timeout_s=60)
        old = copy_of(host, tmp_path / "old")
        assert https_status(platform, old) != 401
        (first,) = certificates(platform, "dev-1")

        platform.run("device", "command", "dev-1", "renew-now")
        revoked = platform.wait_for_event("certificate.revoked", device="dev-1", timeout_s=60)
        assert revoked["details"]["serials"] == [first["serial"]]
        assert revoked["details"]["why"] == "superseded"
        assert revoked["severity"] == "info"

        assert https_status(platform, old) == 401
        wait_for(lambda: mqtt_code(platform, "dev-1", old) != 0, "the broker's refusal")
        platform.wait_for_event("session.refused", device="dev-1", reason="certificate_revoked")
        assert b"4.01" in coap_output(platform, "dev-1", old)
        assert [one["revocation_reason"] for one in certificates(platform, "dev-1")] == [None, "superseded"]

        host.say({"stream": "count", "value": 1})
        wait_for(lambda: host.count_queued() == 0, "the agent's own readings")
        held = copy_of(host, tmp_path / "new")
        assert https_status(platform, held) != 401
        assert coap_output(platform, "dev-1", held) == b""
    finally:
        host.kill()
