"""The issuing CAs get new keys on a whole platform, and no device notices."""

import base64
import json
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import urllib3
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from fleetward.programs.simulator.attacks.target import Victim, enroll_victim, find_target
from fleetward.wire.est import parse_certificates
from support.agent_platform import wait_for
from support.hierarchy import make_csr
from support.mosquitto import mosquitto_command
from support.platform import Platform, running_platform


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    with running_platform(tmp_path_factory.mktemp("rotated")) as started:
        yield started


@pytest.fixture(scope="module")
def veteran(platform: Platform) -> Victim:
    """A device with a certificate of the first device CA, on a platform whose CAs are then all replaced."""
    device = enroll_victim(find_target(platform.data))
    assert publish(platform, device) == 0
    refused = rotate(platform, "device-ca", "not the passphrase", check=False)
    assert "expected it stopped" in refused.stderr or "--port-base" in refused.stderr
    platform.stop()
    before = {path: path.read_bytes() for path in (platform.data / "ca").iterdir()}
    refused = rotate(platform, "device-ca", "not the passphrase at all", check=False)
    assert refused.returncode == 1
    assert "passphrase" in refused.stderr
    assert {path: path.read_bytes() for path in (platform.data / "ca").iterdir()} == before
    for name in ("device-ca", "server-ca"):
        assert json.loads(rotate(platform, name, passphrase(platform)).stdout)["authority"] == name
    platform.start()
    return device


def passphrase(platform: Platform) -> str:
    """Return what the platform showed once."""
    return platform.log.read_text().partition("shown this once: ")[2].split()[0]


def rotate(
    platform: Platform, name: str, phrase: str, *, check: bool = True
) -> "subprocess.CompletedProcess[str]":
    path = platform.data.parent / "phrase"
    path.write_text(phrase)
    return platform.run(
        "authority", "rotate", name, "--root-passphrase-file", str(path), "--json", check=check
    )


def publish(platform: Platform, device: Victim) -> int:
    options = ("-q", "1", "-t", f"d/{device.device_id}/t/level", "-m", "1")
    command = mosquitto_command(
        "mosquitto_pub", platform.ready["mqtt"], platform.ca_file,
        device.device_id, device.chain_file, device.key_file, *options,
    )  # fmt: skip
    return subprocess.run(command, capture_output=True, timeout=30, check=False).returncode


def issuer_key_id(path: Path) -> bytes:
    leaf = x509.load_pem_x509_certificates(path.read_bytes())[0]
    return leaf.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier or b""


def test_a_certificate_of_the_old_authority_still_opens_a_session(
    platform: Platform, veteran: Victim
) -> None:
    assert publish(platform, veteran) == 0


def test_ocsp_still_answers_for_certificates_of_the_old_authority(
    platform: Platform, veteran: Victim, tmp_path: Path
) -> None:
    assert ": good" in ask_ocsp(platform, veteran, tmp_path)


def ask_ocsp(platform: Platform, veteran: Victim, tmp_path: Path) -> str:
    """Return what openssl reads in our answer about a device's certificate."""
    issuer = next((platform.data / "ca").glob("device-ca-*.crt"))
    asked = subprocess.run(
        ["openssl", "ocsp", "-issuer", issuer, "-cert", veteran.chain_file, "-reqout", tmp_path / "request",
         "-no_nonce"],
        capture_output=True, check=False,
    )  # fmt: skip
    assert asked.returncode == 0, asked.stderr
    context = ssl.create_default_context(cafile=str(platform.ca_file))
    with urllib3.PoolManager(ssl_context=context, retries=False) as pool:
        answer = pool.request(
            "POST", f"{platform.ready['devices']}/pki/ocsp", body=(tmp_path / "request").read_bytes()
        )
    (tmp_path / "answer").write_bytes(answer.data)
    read = subprocess.run(
        ["openssl", "ocsp", "-respin", tmp_path / "answer", "-issuer", issuer, "-cert", veteran.chain_file,
         "-CAfile", platform.ca_file, "-verify_other", issuer, "-no_nonce"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return read.stdout + read.stderr


def test_the_next_renewal_comes_from_the_new_authority(
    platform: Platform, veteran: Victim, tmp_path: Path
) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    context = ssl.create_default_context(cafile=str(platform.ca_file))
    context.load_cert_chain(veteran.chain_file, veteran.key_file)
    csr = make_csr(veteran.device_id, key=key).public_bytes(Encoding.DER)
    with urllib3.PoolManager(ssl_context=context, retries=False) as pool:
        answer = pool.request(
            "POST", f"{platform.ready['devices']}/.well-known/est/simplereenroll",
            body=base64.b64encode(csr), headers={"Content-Type": "application/pkcs10"},
        )  # fmt: skip
    assert answer.status == 200, answer.data
    chain, secret = tmp_path / "new.pem", tmp_path / "new.key"
    chain.write_bytes(b"".join(one.public_bytes(Encoding.PEM) for one in parse_certificates(answer.data)))
    secret.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    renewed = Victim(veteran.device_id, "", key, chain, secret)
    assert issuer_key_id(chain) != issuer_key_id(veteran.chain_file)
    assert publish(platform, renewed) == 0
    verified = subprocess.run(
        ["openssl", "verify", "-CAfile", platform.ca_file, "-untrusted", platform.data / "ca/device-ca.crt",
         chain],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert verified.returncode == 0, verified.stderr


def test_ocsp_says_of_the_old_certificate_that_it_is_superseded(
    platform: Platform, veteran: Victim, tmp_path: Path
) -> None:
    """The renewed one was used, so that the one before is revoked, whichever authority signed it.

    The broker tells of a session after it has let the device in, so that the answer follows soon.
    """

    def ask_until_revoked() -> str | None:
        said = ask_ocsp(platform, veteran, tmp_path)
        assert "Response verify OK" in said
        return None if ": good" in said else said

    assert "Reason: superseded" in wait_for(ask_until_revoked, "the old certificate to be revoked")


def test_it_is_on_record_and_the_record_holds(platform: Platform, veteran: Victim) -> None:
    del veteran
    rotated = platform.run("audit", "search", "--action", "authority.rotated", "--json").stdout.splitlines()
    assert [json.loads(line)["subject"] for line in rotated] == ["authority:device-ca", "authority:server-ca"]
    assert platform.run_json("audit", "verify")["verified"]
    assert platform.wait_for_event("authority.rotated", authority="device-ca")["severity"] == "warning"
