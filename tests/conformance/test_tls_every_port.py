"""One TLS policy on every port of a platform, asked by OpenSSL's own client as a scanner asks.

sslyze cannot be among our development tools: it wants a cryptography older than the one we need.
"""

import re
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import urllib3
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp

from fleetward.base.tls_policy import DTLS_CIPHERS, OPENSSL_CIPHERS
from fleetward.programs.simulator.attacks.target import Victim, enroll_victim, find_target
from support.platform import Platform, running_platform
from support.ports import free_ports

TCP = {"console": 0, "devices": 1, "mqtt": 2, "nats": 3}
DTLS = {"dtls": 4}
ECDSA = [one for one in OPENSSL_CIPHERS.split(":") if "ECDSA" in one]
LISTENING = "0A"


class Scanner:
    """Asks one port after another."""

    def __init__(self, platform: Platform, device: Victim) -> None:
        self._device = device
        self.platform, self.port_base, self.pid = platform, platform.port_base, platform.process.pid

    def ask(self, port: str, *options: str, typed: str = "") -> str:
        """Return what `openssl s_client` says of a handshake with these options."""
        number = self.port_base + (TCP | DTLS)[port]
        done = subprocess.run(
            ["openssl", "s_client", "-connect", f"127.0.0.1:{number}", "-cert", str(self._device.chain_file),
             "-key", str(self._device.key_file), *(["-dtls1_2"] if port in DTLS else []), *options],
            input=typed.encode(), capture_output=True, timeout=60, check=False,
        )  # fmt: skip
        return (done.stdout + done.stderr).decode(errors="replace")

    def agrees_to(self, port: str, *options: str) -> str | None:
        """Return the cipher that was agreed on, None where there was no handshake."""
        found = re.search(r"Cipher is (\S+)", self.ask(port, *options))
        assert found is not None
        return None if found[1] == "(NONE)" else found[1]


@pytest.fixture(scope="module")
def scanner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scanner]:
    with running_platform(tmp_path_factory.mktemp("scanned")) as platform:
        yield Scanner(platform, enroll_victim(find_target(platform.data)))


def test_every_port_the_platform_opens_is_scanned(scanner: Scanner) -> None:
    inodes = sockets_of(scanner.pid)
    tcp = {port for port, state in open_ports("tcp", inodes) if state == LISTENING}
    udp = {port for port, _ in open_ports("udp", inodes)}
    assert tcp == {scanner.port_base + one for one in TCP.values()}
    assert udp == {scanner.port_base + one for one in DTLS.values()}


def sockets_of(pid: int) -> set[str]:
    """Return the inodes of the sockets of a process and of those it started."""
    found = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):
            found.add(descriptor.readlink().name.removeprefix("socket:").strip("[]"))
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            found |= sockets_of(int(child))
    return found


def open_ports(kind: str, inodes: set[str]) -> set[tuple[int, str]]:
    """Return port and state of these sockets, as the kernel lists them."""
    lists = [Path(f"/proc/net/{kind}"), Path(f"/proc/net/{kind}6")]
    rows = [line.split() for one in lists if one.exists() for line in one.read_text().splitlines()[1:]]
    return {(int(row[1].rpartition(":")[2], 16), row[3]) for row in rows if row[9] in inodes}


@pytest.mark.parametrize("port", TCP)
@pytest.mark.parametrize("version", ["-tls1", "-tls1_1"])
def test_versions_before_1_2_are_refused(scanner: Scanner, port: str, version: str) -> None:
    assert scanner.agrees_to(port, version, "-cipher", "ALL:@SECLEVEL=0") is None


@pytest.mark.parametrize("port", TCP)
def test_1_3_is_taken(scanner: Scanner, port: str) -> None:
    assert str(scanner.agrees_to(port, "-tls1_3")).startswith("TLS_")


@pytest.mark.parametrize("port", [*TCP, *DTLS])
def test_no_cipher_outside_the_policy_is_taken(scanner: Scanner, port: str) -> None:
    ours = "".join(f":!{one}" for one in (DTLS_CIPHERS if port in DTLS else OPENSSL_CIPHERS).split(":"))
    offered = ["-cipher", f"ALL:COMPLEMENTOFALL{ours}:@SECLEVEL=0"]
    assert scanner.agrees_to(port, *offered, *([] if port in DTLS else ["-tls1_2"])) is None


@pytest.mark.parametrize("port", ["console", "devices", "mqtt", "dtls"])
@pytest.mark.parametrize("cipher", ECDSA)
def test_each_cipher_of_the_policy_is_taken(scanner: Scanner, port: str, cipher: str) -> None:
    assert scanner.agrees_to(port, "-cipher", cipher, *([] if port in DTLS else ["-tls1_2"])) == cipher


def test_the_back_ends_port_has_1_3_alone(scanner: Scanner) -> None:
    assert scanner.agrees_to("nats", "-tls1_2") is None


@pytest.mark.parametrize("port", ["console", "devices", "mqtt", "dtls"])
def test_no_handshake_is_signed_with_sha1(scanner: Scanner, port: str) -> None:
    weak = ["-cipher", "ALL:@SECLEVEL=0", "-sigalgs", "ECDSA+SHA1"]
    assert scanner.agrees_to(port, *weak, *([] if port in DTLS else ["-tls1_2"])) is None


@pytest.mark.parametrize("port", ["console", "devices", "mqtt", "dtls"])
def test_a_client_may_not_renegotiate(scanner: Scanner, port: str) -> None:
    said = scanner.ask(port, *([] if port in DTLS else ["-tls1_2"]), typed="R\n")
    assert "RENEGOTIATING" in said
    assert re.search(r"no.renegotiation|unexpected eof|handshake failure|alert", said), said


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
@pytest.mark.parametrize("port", ["console", "devices"])
def test_no_https_port_gives_a_ticket(scanner: Scanner, port: str, version: str) -> None:
    assert "session ticket" not in scanner.ask(port, version, typed="x\n").lower()


def test_a_device_resumes_no_session_over_dtls(scanner: Scanner, tmp_path: Path) -> None:
    kept = str(tmp_path / "session")
    assert "New, " in scanner.ask("dtls", "-sess_out", kept)
    again = scanner.ask("dtls", "-sess_in", kept)
    assert "New, " in again
    assert "Reused, " not in again


def test_a_device_resumes_no_session_over_https(scanner: Scanner, tmp_path: Path) -> None:
    kept = str(tmp_path / "session")
    assert "New, " in scanner.ask("devices", "-tls1_2", "-sess_out", kept)
    first = scanner.ask("devices", "-tls1_2", "-sess_in", kept, typed="GET / HTTP/1.0\n\n")
    assert "HTTP/1.1" not in first


def test_a_plain_port_serves_what_cas_signed_and_nothing_else_where_one_is_set(scanner: Scanner) -> None:
    """The last test here, for it starts the platform anew. By default no such port is open, as seen above."""
    platform, port = scanner.platform, free_ports(1)
    platform.stop()
    settings = platform.data / "fleetward.toml"
    settings.write_text(f"{settings.read_text()}\n[pki]\nplain_port = {port}\n")
    platform.start()
    base, pool = f"http://127.0.0.1:{port}", urllib3.PoolManager(timeout=20)
    ca = x509.load_der_x509_certificate(pool.request("GET", f"{base}/pki/ca/device-ca.crt").data)
    crl = x509.load_der_x509_crl(pool.request("GET", f"{base}/pki/crl/device-ca.crl").data)
    assert crl.issuer == ca.subject
    leaf = x509.load_pem_x509_certificate(enroll_victim(find_target(platform.data)).chain_file.read_bytes())
    points = leaf.extensions.get_extension_for_class(x509.CRLDistributionPoints).value
    assert [name.value.partition(":")[0] for name in points[0].full_name or ()] == ["http", "https"]
    asked = ocsp.OCSPRequestBuilder().add_certificate(leaf, ca, hashes.SHA256()).build()
    answer = pool.request("POST", f"{base}/pki/ocsp", body=asked.public_bytes(Encoding.DER))
    found = ocsp.load_der_ocsp_response(answer.data)
    assert found.certificate_status is ocsp.OCSPCertStatus.GOOD
    for path in ("/", "/api/v1/health", "/api/v1/devices", "/.well-known/est/cacerts", "/signin"):
        assert pool.request("GET", base + path).status == 404, path
