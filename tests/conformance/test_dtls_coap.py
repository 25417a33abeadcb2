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
from aiocoap import CON, EMPTY, POST, Message
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, pkcs7
from cryptography.x509.oid import ExtendedKeyUsageOID
from OpenSSL import SSL

from fleetward.base.clock import SystemClock
from fleetward.programs.simulator.attacks.target import Victim, enroll_victim, find_target
from support.authority import LIFETIME, Authority
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


def test_what_is_not_est_is_said_by_its_code(platform: Platform, device: Victim, tmp_path: Path) -> None:
    csr = tmp_path / "csr.der"
    csr.write_bytes(make_csr(device.device_id).public_bytes(Encoding.DER))
    for path, options, code in (
        ("sren", ("-m", "post", "-t", "50", "-f", str(csr)), b"4.15"),
        ("sen", ("-m", "post", "-t", "50", "-f", str(csr)), b"4.15"),
        ("sren", ("-m", "get"), b"4.05"),
        ("crts", ("-m", "put", "-e", "x"), b"4.05"),
        ("serverkeygen", ("-m", "post", "-t", "286", "-f", str(csr)), b"4.04"),
        ("sen", ("-m", "post", "-t", "286", "-f", str(csr)), b"4.03"),  # no IDevID
    ):
        assert found_code(ask(platform, device, f"/.well-known/est/{path}", *options)) == code, path


def test_an_idevid_of_a_factory_trusted_while_we_run_enrolls(platform: Platform, tmp_path: Path) -> None:
    maker = Authority("maker")
    (tmp_path / "idevids").mkdir()
    certificate, secret = maker.issue_files(
        tmp_path / "idevids",
        "meter-1",
        ExtendedKeyUsageOID.CLIENT_AUTH,
        at=SystemClock().now(),
        lifetime=LIFETIME,
    )
    ca = tmp_path / "maker.pem"
    ca.write_bytes(maker.certificate.public_bytes(Encoding.PEM))
    chain, own_key = tmp_path / "meter.pem", tmp_path / "meter.key"
    chain.write_bytes(certificate.read_bytes())
    own_key.write_bytes(secret.read_bytes())
    idevid = Victim("meter-1", "", ec.generate_private_key(ec.SECP256R1()), chain, own_key)
    for other in (tmp_path / "idevids").iterdir():
        if other.suffix == ".key":
            other.unlink()
    platform.run("model", "add", "meter", "--attestation", "none", "--min-tier", "software")
    report = platform.run_json(
        "factory", "provision", "--model", "meter", "--idevid", str(tmp_path / "idevids"), "--idevid-ca",
        str(ca), "--out", str(tmp_path / "shipment"), "--key", str(tmp_path / "plant.pem"), "--name", "plant",
    )  # fmt: skip
    platform.run("device", "import", report["manifest"], "--trust-factory", report["public_key"])
    (found,) = [one["id"] for one in platform.api.get("/devices", model="meter")["devices"]]
    csr, out = tmp_path / "csr.der", tmp_path / "answer"
    csr.write_bytes(make_csr(found).public_bytes(Encoding.DER))
    done = ask(platform, idevid, "/.well-known/est/sen", "-m", "post", "-t", "286", "-f", str(csr), out=out)
    assert out.exists(), done.stderr.decode()
    assert pkcs7.load_der_pkcs7_certificates(out.read_bytes())


class Line:
    """A DTLS client on a socket that stays when its session is lost."""

    def __init__(self, platform: Platform, device: Victim) -> None:
        host, _, port = platform.ready["dtls"].rpartition(":")
        self._device = device
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.connect((host, int(port)))
        self.socket.settimeout(20)
        self.sent: list[bytes] = []
        self._mid = 100

    def begin(self) -> SSL.Connection:
        context = SSL.Context(SSL.DTLS_CLIENT_METHOD)
        context.use_certificate_chain_file(str(self._device.chain_file))
        context.use_privatekey_file(str(self._device.key_file))
        session = SSL.Connection(context, None)
        session.set_connect_state()
        session.set_ciphertext_mtu(1200)
        while True:
            try:
                session.do_handshake()
            except SSL.WantReadError:
                self._send(session)
                session.bio_write(self.socket.recv(65_536))
            else:
                self._send(session)
                return session

    def ping(self, session: SSL.Connection) -> Message:
        """Return what answers a CoAP ping."""
        return self._exchange(session, Message(code=EMPTY, _mtype=CON, _mid=7))

    def ask(self, session: SSL.Connection, message: Message) -> Message:
        self._mid += 1
        message.mtype, message.mid = CON, self._mid
        return self._exchange(session, message)

    def _exchange(self, session: SSL.Connection, message: Message) -> Message:
        session.send(message.encode())
        self._send(session)
        while True:
            session.bio_write(self.socket.recv(65_536))
            try:
                return Message.decode(session.recv(2048))
            except SSL.WantReadError:
                continue

    def _send(self, session: SSL.Connection) -> None:
        try:
            flight = session.bio_read(65_536)
        except SSL.WantReadError:
            return
        while flight:
            size = 13 + int.from_bytes(flight[11:13], "big")
            self.socket.send(flight[:size])
            self.sent.append(flight[:size])
            flight = flight[size:]


def test_a_recorded_hello_ends_no_session(platform: Platform, device: Victim) -> None:
    line = Line(platform, device)
    with line.socket:
        line.begin()
        recorded = [one for one in line.sent if one[:1] == b"\x16" and one[13:14] == b"\x01"]
        session = line.begin()
        for hello in [*recorded, *line.sent]:
            line.socket.send(hello)
            assert line.ping(session).mid == 7


def test_a_payload_over_the_limit_and_a_block_out_of_order_have_codes_of_their_own(
    platform: Platform, device: Victim
) -> None:
    line = Line(platform, device)
    with line.socket:
        session = line.begin()
        answers = [
            line.ask(
                session, Message(code=POST, uri_path=("d", "x", "t", "y"), block1=block, payload=bytes(1024))
            )
            for block in [(0, True, 6), (2, True, 6), (1, True, 6), *((n, True, 6) for n in range(2, 17))]
        ]
    codes = [str(one.code) for one in answers]
    assert codes[0] == codes[2] == codes[16] == "2.31 Continue"
    assert codes[1] == "4.08 Request Entity Incomplete"
    assert codes[17] == "4.13 Request Entity Too Large"
    assert answers[17].opt.size1 == 16 * 1024


def test_a_device_back_from_a_power_cut_gets_in_from_the_same_port(
    platform: Platform, device: Victim
) -> None:
    line = Line(platform, device)
    with line.socket:
        before = line.begin()
        assert line.ping(before).mid == 7
        line.socket.send(b"")  # an empty datagram ends nothing
        assert line.ping(before).mid == 7
        after = line.begin()
        assert line.ping(after).mid == 7


@pytest.mark.parametrize("cipher", ["ECDHE-ECDSA-AES128-CCM", "ECDHE-ECDSA-AES128-GCM-SHA256"])
def test_ciphers_of_constrained_devices_are_taken(platform: Platform, device: Victim, cipher: str) -> None:
    assert f"Cipher is {cipher}" in offer(platform, device, cipher)


@pytest.mark.parametrize(
    "cipher", ["ECDHE-ECDSA-AES128-SHA", "ECDHE-ECDSA-AES256-SHA384", "ECDHE-ECDSA-AES128-CCM8:@SECLEVEL=0"]
)
def test_ciphers_without_aead_or_with_a_short_tag_are_refused_over_dtls(
    platform: Platform, device: Victim, cipher: str
) -> None:
    assert "Cipher is (NONE)" in offer(platform, device, cipher)


def offer(platform: Platform, device: Victim, cipher: str) -> str:
    done = subprocess.run(
        ["openssl", "s_client", "-dtls1_2", "-connect", platform.ready["dtls"], "-cipher", cipher,
         "-cert", str(device.chain_file), "-key", str(device.key_file)],
        input=b"Q\n", capture_output=True, timeout=60, check=False,
    )  # fmt: skip
    return done.stdout.decode()
