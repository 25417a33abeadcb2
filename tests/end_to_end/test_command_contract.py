"""Each line of the command contract, typed as operators type it, against a running platform."""

import asyncio
import json
import os
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nats
import nats.errors
import nkeys
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID

from fleetward.wire import est
from support import tpm_vendor
from support.authority import Authority, make_certificate
from support.enrollment import Keypair
from support.platform import Platform, running_platform
from support.updates import SBOM

PASSPHRASE = b"correct horse battery staple"
BAD_IDS = [
    "a.b", "a/b", "a+b", "a#b", "a*b", "a>b", "a b", "", "../models", "a?x=1", "a" * 65,
]  # fmt: skip


def fleetward_cli(*arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "fleetward", *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=90, env={**os.environ, **environment}
    )


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    with running_platform(tmp_path_factory.mktemp("contract")) as started:
        started.run_json("model", "add", "meter", "--attestation", "none")
        yield started


def test_init_takes_the_operators_passphrase_and_never_overwrites_a_key(tmp_path: Path) -> None:
    data, phrase = tmp_path / "data", tmp_path / "phrase"
    phrase.write_bytes(PASSPHRASE + b"\n")
    arguments = (
        "init", "--data", str(data), "--trust-domain", "fleet.test", "--root-passphrase-file", str(phrase),
        "--json",
    )  # fmt: skip
    first = json.loads(fleetward_cli(*arguments).stdout)
    assert (first["created"], first["root_passphrase"], first["trust_domain"]) == (True, None, "fleet.test")
    root = (data / "offline" / "root.key.pem").read_bytes()
    load_pem_private_key(root, PASSPHRASE)
    with pytest.raises(ValueError, match="password"):
        load_pem_private_key(root, b"another passphrase here")
    before = {
        path: path.read_bytes() for room in ("keys", "offline", "ca") for path in (data / room).iterdir()
    }
    assert json.loads(fleetward_cli(*arguments).stdout)["created"] is False
    assert {path: path.read_bytes() for path in before} == before
    other = fleetward_cli("init", "--data", str(data), "--trust-domain", "another.test")
    assert other.returncode == 1
    assert "another.test" in other.stderr


def test_a_generated_passphrase_is_shown_once_and_opens_the_root(tmp_path: Path) -> None:
    data = tmp_path / "data"
    shown = json.loads(fleetward_cli("init", "--data", str(data), "--json").stdout)["root_passphrase"]
    load_pem_private_key((data / "offline" / "root.key.pem").read_bytes(), shown.encode())
    assert json.loads(fleetward_cli("init", "--data", str(data), "--json").stdout)["root_passphrase"] is None
    kept = [path for path in data.rglob("*") if path.is_file() and shown.encode() in path.read_bytes()]
    assert kept == []


def test_ready_has_the_keys_of_the_contract(platform: Platform) -> None:
    assert set(platform.ready) == {"console", "devices", "mqtt", "dtls", "ca_file"}


def test_model_add_takes_every_option(platform: Platform) -> None:
    added = platform.run_json(
        "model", "add", "vault", "--attestation", "required", "--min-tier", "tpm", "--cert-lifetime", "15m"
    )
    assert added == {
        "id": "vault", "attestation": "required", "min_tier": "tpm", "cert_lifetime": "15m",
        "appraisal_lifetime": "6h",
    }  # fmt: skip
    listed = platform.run_json("model", "list")
    assert added in listed


def test_device_add_says_all_that_enrollment_needs(platform: Platform) -> None:
    added = platform.run_json("device", "add", "contract-1", "--model", "meter")
    assert set(added) == {"id", "claim", "expires_at", "est_url", "ca_file"}
    assert added["est_url"] == f"{platform.ready['devices']}/.well-known/est"
    assert Path(added["ca_file"]) == platform.ca_file


@pytest.mark.parametrize(
    ("verb", "device"),
    [*(("add", bad) for bad in BAD_IDS), *(("revoke", bad) for bad in ("meter-1#x", "meter-1?x", "x/../y"))],
)
def test_a_bad_device_id_is_one_clear_error(platform: Platform, verb: str, device: str) -> None:
    options = {"add": ("--model", "meter"), "revoke": ("--reason", "x")}[verb]
    failed = platform.run("device", verb, *options, "--json", "--", device, check=False)
    assert failed.returncode == 1, failed
    error = json.loads(failed.stderr)["error"]
    assert error["code"] == "invalid_input"
    assert "device id" in error["message"]


def test_a_device_lives_through_every_verb(platform: Platform) -> None:
    platform.run_json("device", "add", "life-1", "--model", "meter")
    enroll(platform, "life-1", platform.run_json("device", "claim", "life-1")["claim"], Keypair())
    states = []
    for verb in (("quarantine",), ("release",), ("revoke", "--reason", "stolen"), ("retire",)):
        changed = platform.run_json("device", verb[0], "life-1", *verb[1:])
        states.append((changed["state"], changed["state_reason"]))
    assert states == [
        ("quarantined", "by an operator"), ("active", "by an operator"), ("revoked", "stolen"),
        ("retired", "by an operator"),
    ]  # fmt: skip
    shown = platform.run_json("device", "show", "life-1")
    assert [one["revocation_reason"] is not None for one in shown["certificates"]] == [True]
    assert {"state", "model", "appraisals", "presence"} <= set(shown)
    assert "life-1" in [one["id"] for one in platform.run_json("device", "list", "--state", "retired")]


def test_revoking_needs_a_reason(platform: Platform) -> None:
    failed = platform.run("device", "revoke", "contract-1", check=False)
    assert failed.returncode == 2
    assert "Missing option '--reason'" in failed.stderr


def test_a_shipment_is_imported_and_a_bad_one_refused(platform: Platform, tmp_path: Path) -> None:
    (tmp_path / "idevids").mkdir()
    maker, usage = Authority("maker"), ExtendedKeyUsageOID.CLIENT_AUTH
    for number in (1, 2):
        key = ec.generate_private_key(ec.SECP256R1()).public_key()
        made = make_certificate(f"ship-{number}", key, maker.as_issuer(), usage=usage)
        (tmp_path / "idevids" / f"ship-{number}.crt").write_bytes(made.public_bytes(Encoding.PEM))
    out, key_file = str(tmp_path / "manifest"), str(tmp_path / "plant.key.pem")
    made_at = fleetward_cli(
        "factory", "provision", "--model", "meter", "--idevid", str(tmp_path / "idevids"), "--out", out,
        "--key", key_file, "--name", "plant", "--json",
    )  # fmt: skip
    report = json.loads(made_at.stdout)
    unknown = platform.run("device", "import", report["manifest"], check=False)
    assert unknown.returncode == 1
    imported = platform.run_json(
        "device", "import", report["manifest"], "--trust-factory", report["public_key"]
    )
    assert imported["devices"] == 2
    changed = tmp_path / "changed"
    changed.write_bytes(Path(report["manifest"]).read_bytes().replace(b"ship-1", b"ship/1"))
    for content in (changed.read_bytes(), b"", b"[" * 100_000, b"\xff" * 1000):
        changed.write_bytes(content)
        failed = platform.run("device", "import", str(changed), "--json", check=False)
        assert failed.returncode == 1
        assert json.loads(failed.stderr)["error"]["code"] in {"shipment_refused", "invalid_input"}


def test_events_are_followed_from_a_time_on(platform: Platform) -> None:
    platform.run_json("device", "add", "follow-1", "--model", "meter")
    command = [
        sys.executable, "-m", "fleetward", "--data", str(platform.data), "events", "--device", "follow-1",
        "--since", "15m", "--follow", "--json",
    ]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as following:
        ending = threading.Timer(60, following.kill)
        ending.start()
        assert following.stdout is not None
        first = json.loads(following.stdout.readline())
        platform.run_json("device", "retire", "follow-1")
        later = first
        while later["kind"] != "device.state_changed":
            later = json.loads(following.stdout.readline())
        ending.cancel()
        following.terminate()
    assert set(first) >= {"time", "kind", "device", "severity", "message", "details"}
    assert first["kind"] == "device.registered"
    assert later["details"]["to"] == "retired"


def test_events_take_a_time_in_each_form(platform: Platform) -> None:
    assert platform.run("events", "--since", "2099-01-01T00:00:00Z", "--json").stdout == ""
    assert platform.run("events", "--since", str(int(time.time()) - 900), "--json").stdout  # noqa: TID251
    failed = platform.run("events", "--since", "yesterday", check=False)
    assert failed.returncode == 1
    assert "--since" in failed.stderr


def test_an_exported_audit_log_verifies_without_the_platform(platform: Platform, tmp_path: Path) -> None:
    assert platform.run("audit", "verify").stdout.startswith("verified")
    platform.run("audit", "export", str(tmp_path / "log"))
    assert json.loads(fleetward_cli("audit", "verify", "--file", str(tmp_path / "log"), "--json").stdout)[
        "verified"
    ]
    (tmp_path / "log").write_text((tmp_path / "log").read_text().replace("operator:admin", "operator:nobody"))
    failed = fleetward_cli("audit", "verify", "--file", str(tmp_path / "log"), "--json")
    assert json.loads(failed.stderr)["error"]["code"] == "audit_tampered"


def test_a_release_is_published_and_bad_ones_are_refused(platform: Platform, tmp_path: Path) -> None:
    image, sbom = tmp_path / "image.bin", tmp_path / "sbom.json"
    image.write_bytes(os.urandom(3 * 1024 * 1024))
    sbom.write_bytes(SBOM)
    arguments = ("release", "publish", str(image), "--model", "meter", "--sbom", str(sbom))
    published = platform.run_json(*arguments, "--version", "1.0.0")
    assert (published["version"], published["length"]) == ("1.0.0", image.stat().st_size)
    image.write_bytes(b"other")
    for version in ("1.0.0", "a/b", "../x", ""):
        failed = platform.run(*arguments, "--version", version, "--json", check=False)
        assert failed.returncode == 1, version
        assert json.loads(failed.stderr)["error"]["code"]
    for content in (b"", b"{}", b"[" * 100_000, b"\xff", b'{"bomFormat": "CycloneDX"' * 2):
        sbom.write_bytes(content)
        failed = platform.run(*arguments, "--version", "2.0.0", "--json", check=False)
        assert failed.returncode == 1
        assert "Traceback" not in failed.stderr
    assert [one["version"] for one in platform.run_json("release", "list", "--model", "meter")] == ["1.0.0"]


def test_the_platform_is_reached_from_afar(platform: Platform) -> None:
    token = (platform.data / "admin.token").read_text().strip()
    server, root = platform.ready["console"], str(platform.ca_file)
    by_option = fleetward_cli(
        "--server", server, "--token", token, "--ca-file", root, "model", "list", "--json"
    )
    assert "meter" in [one["id"] for one in json.loads(by_option.stdout)]
    environment = {"FLEETWARD_SERVER": server, "FLEETWARD_TOKEN": token, "FLEETWARD_CA_FILE": root}
    assert json.loads(fleetward_cli("device", "list", "--json", **environment).stdout)
    for missing in ("FLEETWARD_TOKEN", "FLEETWARD_CA_FILE"):
        less = {name: value for name, value in environment.items() if name != missing}
        failed = fleetward_cli("device", "list", "--json", **less)
        assert failed.returncode == 1
        assert json.loads(failed.stderr)["error"]["hint"]


def test_a_third_partys_client_publishes_with_nothing_but_its_certificate(
    platform: Platform, tmp_path: Path
) -> None:
    """Curl enrolls by the claim, mosquitto_pub publishes, the operator reads: nothing of ours on it."""
    added = platform.run_json("device", "add", "third-1", "--model", "meter")
    key = Keypair()
    private = key.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (tmp_path / "key.pem").write_bytes(private)
    issued = enroll(platform, "third-1", added["claim"], key)
    (tmp_path / "chain.pem").write_bytes(b"".join(one.public_bytes(Encoding.PEM) for one in issued))
    host, port = platform.ready["mqtt"].split(":")
    publish = [
        "mosquitto_pub", "-h", host, "-p", port, "--cafile", added["ca_file"], "-q", "1", "-m", "21.5",
        "--cert", tmp_path / "chain.pem", "--key", tmp_path / "key.pem", "-t",
    ]  # fmt: skip
    subprocess.run([*publish, "d/third-1/t/temp", "-i", "third-1"], check=True, timeout=30)
    assert wait_for_telemetry(platform, "third-1")["value"] == 21.5
    for client_id in ("contract-1", "third/1", "third-1#", "x" * 300):
        refused = subprocess.run(
            [*publish, "d/third-1/t/temp", "-i", client_id], check=False, timeout=30, capture_output=True
        )
        assert refused.returncode != 0, client_id
    platform.wait_for_event("session.refused", device="third-1")


def test_a_back_end_of_anybodys_reads_what_devices_sent(platform: Platform, tmp_path: Path) -> None:
    """nats-py, another's library, with the platform's nkey and root: streams of telemetry and of events."""
    platform.run_json("device", "add", "read-1", "--model", "meter")
    context = ssl.create_default_context(cafile=platform.ca_file)

    async def read() -> list[bytes]:
        client = await nats.connect(
            f"tls://localhost:{platform.port_base + 3}", tls=context, tls_hostname="localhost",
            tls_handshake_first=True, nkeys_seed=str(seed), allow_reconnect=False,
        )  # fmt: skip
        waiting = await client.jetstream().subscribe("events.>", ordered_consumer=True)
        found = [await waiting.next_msg(timeout=10)]
        while b"read-1" not in found[-1].data:
            found.append(await waiting.next_msg(timeout=10))
        await client.close()
        return [message.data for message in found]

    seed = platform.data / "keys" / "nats-platform.seed"
    last = json.loads(asyncio.run(read())[-1])
    assert (last["kind"], last["device"]) == ("device.registered", "read-1")
    seed = tmp_path / "stranger.seed"
    seed.write_bytes(nkeys.encode_seed(os.urandom(32), nkeys.PREFIX_BYTE_USER))
    with pytest.raises(nats.errors.Error):
        asyncio.run(read())


def wait_for_telemetry(platform: Platform, device: str) -> dict[str, Any]:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        found = platform.api.get(f"/devices/{device}/telemetry", stream="temp")["records"]
        if found:
            last: dict[str, Any] = found[-1]
            return last
        time.sleep(0.1)
    raise AssertionError(f"no telemetry of {device}")


def enroll(platform: Platform, device: str, claim: str, key: Keypair) -> list[x509.Certificate]:
    """Enroll as any EST client does: with curl."""
    body = est.render_csr(key.csr_for(device).public_bytes(Encoding.DER))
    answer = subprocess.run(
        ["curl", "--fail", "--silent", "--cacert", platform.ca_file, "--user", f"{device}:{claim}",
         "--data-binary", "@-", f"{platform.ready['devices']}/.well-known/est/simpleenroll"],
        check=True, input=body, capture_output=True, timeout=30,
    )  # fmt: skip
    return est.parse_certificates(answer.stdout)


def test_vendors_and_references_are_managed_by_command(platform: Platform, tmp_path: Path) -> None:
    vendor = tpm_vendor.Authority("A vendor of chips")
    pem = tmp_path / "vendor.pem"
    pem.write_bytes(vendor.pem)
    assert platform.run_json("attestation", "vendor", "trust", str(pem)) == {"added": 1}
    (listed,) = platform.run_json("attestation", "vendor", "list")
    assert "A vendor of chips" in listed["subject"]
    assert platform.run_json("attestation", "vendor", "withdraw", listed["fingerprint"]) == []
    digest = "d" * 64
    platform.run("attestation", "reference", "add", "meter", digest, "--version", "2", "--json")
    references = platform.run_json("attestation", "reference", "list", "meter")
    assert ("boot_stage", digest, "2") in {(one["kind"], one["digest"], one["version"]) for one in references}
    platform.run("attestation", "reference", "withdraw", "meter", digest)
    refused = platform.run("attestation", "vendor", "withdraw", "x/../y", check=False)
    assert refused.returncode == 1
    assert "64 digits" in refused.stderr


def test_the_audit_log_is_exported_to_a_pipe(platform: Platform, tmp_path: Path) -> None:
    exported = platform.run("audit", "export", "--json").stdout
    kept = tmp_path / "log.jsonl"
    kept.write_text(exported)
    verified = json.loads(fleetward_cli("audit", "verify", "--file", str(kept), "--json").stdout)
    assert verified["entries"] == len(exported.splitlines()) - 1
