"""libcoap's clients, which nobody here wrote, against the DTLS port of a whole platform."""

import json
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, pkcs7

from fleetward.programs.simulator.attacks.target import Victim, enroll_victim, find_target
from support.hierarchy import make_csr
from support.platform import Platform, running_platform

CLIENTS = ["coap-client-openssl", "coap-client-gnutls"]


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    if shutil.which(CLIENTS[0]) is None:
        pytest.skip("libcoap's clients are not installed (libcoap3-bin)")
    with running_platform(tmp_path_factory.mktemp("dtls")) as started:
        yield started


@pytest.fixture(scope="module")
def device(platform: Platform) -> Victim:
    return enroll_victim(find_target(platform.data))


def ask(
    platform: Platform,
    device: Victim | None,
    path: str,
    *options: str,
    client: str = CLIENTS[0],
    out: Path | None = None,
) -> subprocess.CompletedProcess[bytes]:
    """Run one request of libcoap; it verifies our certificate by the platform's root."""
    host, _, port = platform.ready["dtls"].rpartition(":")
    command = [client, "-v", "4", "-B", "8", "-R", str(platform.ca_file), "-C", str(platform.ca_file)]
    if device is not None:
        command += ["-c", str(device.chain_file), "-j", str(device.key_file)]
    if out is not None:
        command += ["-o", str(out)]
    return subprocess.run(
        [*command, *options, f"coaps://{host}:{port}{path}"], capture_output=True, timeout=30, check=False
    )


def found_code(done: subprocess.CompletedProcess[bytes]) -> bytes | None:
    """Return the error code (RFC 7252 section 5.9.2) libcoap printed; the seconds of its log are none."""
    match = re.search(rb"(?<!\d)4\.\d\d(?!\d)", done.stdout + done.stderr)
    return None if match is None else match[0]


@pytest.mark.parametrize("client", CLIENTS)
def test_ca_certificates_come_in_blocks(
    platform: Platform, device: Victim, tmp_path: Path, client: str
) -> None:
    out = tmp_path / "crts"
    done = ask(platform, device, "/.well-known/est/crts", client=client, out=out)
    certificates = pkcs7.load_der_pkcs7_certificates(out.read_bytes()) if out.exists() else []
    root = x509.load_pem_x509_certificate(platform.ca_file.read_bytes())
    assert root in certificates, done.stderr.decode()


def test_a_device_renews_its_certificate_for_a_new_key_and_the_old_one_is_refused(
    platform: Platform, tmp_path: Path
) -> None:
    device = enroll_victim(find_target(platform.data))
    key = ec.generate_private_key(ec.SECP256R1())
    csr, out = tmp_path / "csr.der", tmp_path / "answer"
    csr.write_bytes(make_csr(device.device_id, key=key).public_bytes(Encoding.DER))
    done = ask(platform, device, "/.well-known/est/sren", "-m", "post", "-t", "286", "-f", str(csr), out=out)
    assert out.exists(), done.stderr.decode()
    (certificate,) = pkcs7.load_der_pkcs7_certificates(out.read_bytes())
    assert certificate.public_key() == key.public_key()
    chain, secret = tmp_path / "new.pem", tmp_path / "new.key"
    chain.write_bytes(certificate.public_bytes(Encoding.PEM))  # the leaf alone, as small clients send it
    secret.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    renewed, level = Victim(device.device_id, "", key, chain, secret), f"/d/{device.device_id}/t/level"
    assert found_code(ask(platform, device, level, "-m", "post", "-e", "6")) is None
    assert found_code(ask(platform, renewed, level, "-m", "post", "-e", "7")) is None
    assert found_code(ask(platform, device, level, "-m", "post", "-e", "8")) == b"4.01"


@pytest.mark.parametrize("client", CLIENTS)
def test_telemetry_arrives_like_that_of_mqtt(platform: Platform, device: Victim, client: str) -> None:
    value = {"celsius": 21.5, "by": client}
    done = ask(
        platform,
        device,
        f"/d/{device.device_id}/t/temperature",
        "-m",
        "post",
        "-e",
        json.dumps(value),
        client=client,
    )
    assert done.returncode == 0, done.stderr.decode()
    deadline = time.monotonic() + 10
    while True:
        records = platform.api.get(f"/devices/{device.device_id}/telemetry", limit=50)["records"]
        if value in [record["value"] for record in records]:
            break
        assert time.monotonic() < deadline, records
        time.sleep(0.1)


def test_another_devices_topic_is_refused(platform: Platform, device: Victim) -> None:
    done = ask(platform, device, "/d/somebody-else/t/temperature", "-m", "post", "-e", "1")
    assert found_code(done) == b"4.03"
    assert platform.api.get("/devices", search="somebody-else")["devices"] == []


def test_a_request_for_another_name_is_refused(platform: Platform, device: Victim, tmp_path: Path) -> None:
    csr = tmp_path / "csr.der"
    csr.write_bytes(make_csr("somebody-else").public_bytes(Encoding.DER))
    done = ask(platform, device, "/.well-known/est/sren", "-m", "post", "-t", "286", "-f", str(csr))
    assert found_code(done) == b"4.00"


def test_without_a_certificate_there_is_no_session(platform: Platform) -> None:
    done = ask(platform, None, "/.well-known/est/crts")
    assert found_code(done) is None
    assert platform.wait_for_event("tls.refused", listener="dtls")


def test_a_revoked_device_is_refused(platform: Platform) -> None:
    victim = enroll_victim(find_target(platform.data))
    path = f"/d/{victim.device_id}/t/temperature"
    assert found_code(ask(platform, victim, path, "-m", "post", "-e", "1")) is None
    platform.run("device", "revoke", victim.device_id, "--reason", "stolen")
    done = ask(platform, victim, path, "-m", "post", "-e", "2")
    assert found_code(done) == b"4.01"


def test_junk_and_half_handshakes_leave_the_port_open(platform: Platform, device: Victim) -> None:
    _, _, port = platform.ready["dtls"].rpartition(":")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as line:
        for junk in (b"", b"x", b"\x16\xfe\xff" + bytes(200), bytes(1200), b"\x16\xfe\xfd" + b"\xff" * 30):
            line.sendto(junk, ("127.0.0.1", int(port)))
    assert ask(platform, device, "/.well-known/est/crts").returncode == 0
