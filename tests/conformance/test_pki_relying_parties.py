"""Verifiers nobody here wrote accept what we sign, and refuse what they must: OpenSSL, strongSwan, GnuTLS."""

import shutil
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from fleetward.base.clock import SystemClock
from fleetward.base.db import Database
from fleetward.features.pki import service
from fleetward.features.pki.authority.ceremony import ensure_server_certificate
from fleetward.features.pki.authority.profiles import RevocationUrls
from fleetward.features.pki.model import RevocationReason
from fleetward.features.pki.service import PkiContext
from fleetward.migrations.runner import migrate
from fleetward.programs.server.tls import server_context
from support.database import open_database
from support.hierarchy import make_csr, make_pki
from support.https import serving
from support.pki_app import make_pki_app

DAY = timedelta(days=1)


def needs(program: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(not shutil.which(program), reason=f"{program} is not installed")


needs_openssl, needs_curl = needs("openssl"), needs("curl")


class House(NamedTuple):
    folder: Path
    db: Database
    pki: PkiContext
    base: str

    @property
    def root(self) -> Path:
        return self.folder / "ca" / "root.crt"

    @property
    def device_ca(self) -> Path:
        return self.folder / "ca" / "device-ca.crt"

    def issue(self, device: str) -> Path:
        """Issue a certificate and return the file it is in."""
        with self.db.write(f"device:{device}") as tx:
            issued = service.issue_device_certificate(tx, self.pki, device, make_csr(device), DAY)
        path = self.folder / f"{device}.pem"
        path.write_bytes(issued.certificate.public_bytes(Encoding.PEM))
        return path

    def revoke(self, device: str) -> None:
        with self.db.write("operator:a") as tx:
            service.revoke_device(tx, device, "stolen", why=RevocationReason.KEY_COMPROMISE)

    def fetch_crl(self) -> Path:
        path = self.folder / "device-ca.crl"
        url = f"{self.base}/pki/crl/device-ca.crl"
        run("curl", "-sSf", "--cacert", str(self.root), "-o", str(path), url)
        return path


def run(*command: str, must_pass: bool = True) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    output = done.stdout + done.stderr
    assert (done.returncode == 0) is must_pass, output
    return output


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    now = datetime.now(UTC)  # noqa: TID251 - these programs read the system's clock
    db = open_database(f"sqlite:///{tmp_path / 'db.sqlite3'}", SystemClock())
    migrate(db)
    made = make_pki(tmp_path, now)
    ensure_server_certificate(tmp_path, made.server_ca, ["localhost", "127.0.0.1", "::1"], now)
    context = server_context(tmp_path / "tls" / "server.pem")
    app = make_pki_app(db, made)
    with serving(app, context, lambda _: None) as port:
        base = f"https://localhost:{port}"
        urls = RevocationUrls(
            crl=f"{base}/pki/crl/device-ca.crl",
            ocsp=f"{base}/pki/ocsp",
            issuer=f"{base}/pki/ca/device-ca.crt",
        )
        pki = PkiContext(made.trust_domain, made.root, made.device_ca, made.server_ca, urls)
        yield House(tmp_path, db, pki, base)
    db.close()


def verify(house: House, leaf: Path, *more: str, ca: str = "device-ca", must_pass: bool = True) -> str:
    untrusted = house.folder / "ca" / f"{ca}.crt"
    return run(
        "openssl", "verify", "-x509_strict", "-CAfile", str(house.root), "-untrusted", str(untrusted), *more,
        str(leaf), must_pass=must_pass,
    )  # fmt: skip


@needs_openssl
def test_openssl_takes_devices_for_clients_and_for_nothing_else(house: House) -> None:
    leaf = house.issue("cam-1")
    verify(house, leaf, "-purpose", "sslclient")
    for purpose in ("sslserver", "smimesign", "timestampsign", "crlsign"):
        assert "purpose" in verify(house, leaf, "-purpose", purpose, must_pass=False)


@needs_openssl
def test_openssl_takes_servers_for_servers_under_their_names(house: House) -> None:
    leaf = house.folder / "tls" / "server.pem"
    for check in (("-verify_hostname", "localhost"), ("-verify_ip", "127.0.0.1"), ("-verify_ip", "::1")):
        verify(house, leaf, "-purpose", "sslserver", *check, ca="server-ca")
    verify(house, leaf, "-purpose", "sslserver", "-verify_hostname", "x", ca="server-ca", must_pass=False)
    verify(house, leaf, "-purpose", "sslclient", ca="server-ca", must_pass=False)
    verify(house, house.folder / "tls" / "time.crt", "-purpose", "timestampsign", ca="server-ca")


@needs_openssl
def test_a_stolen_device_authority_can_play_no_server(house: House) -> None:
    """The authority's own extended key usage forbids it, whatever the leaf says."""
    now = datetime.now(UTC)  # noqa: TID251 - as above
    forged = house.folder / "forged"
    (forged / "tls").mkdir(parents=True)
    ensure_server_certificate(forged, house.pki.device_ca, ["localhost"], now)
    leaf = forged / "tls" / "server.pem"
    assert "purpose" in verify(house, leaf, "-purpose", "sslserver", must_pass=False)


@needs_openssl
@needs_curl
def test_openssl_finds_the_revoked_one_in_the_crl(house: House) -> None:
    good, bad = house.issue("cam-1"), house.issue("cam-2")
    house.revoke("cam-2")
    crl = ("-crl_check", "-CRLfile", str(house.fetch_crl()))
    verify(house, good, *crl)
    assert "certificate revoked" in verify(house, bad, *crl, must_pass=False)
    shown = run("openssl", "crl", "-in", str(house.folder / "device-ca.crl"), "-noout", "-text")
    assert "Key Compromise" in shown


def ask_ocsp(house: House, *question: str) -> str:
    return run(
        "openssl", "ocsp", "-issuer", str(house.device_ca), *question, "-url", f"{house.base}/pki/ocsp",
        "-CAfile", str(house.root), "-verify_other", str(house.device_ca),
    )  # fmt: skip


@needs_openssl
@pytest.mark.parametrize("digest", ["-sha1", "-sha256", "-sha384"])
def test_openssl_asks_about_each_kind_of_status(house: House, digest: str) -> None:
    good, bad = house.issue("cam-1"), house.issue("cam-2")
    house.revoke("cam-2")
    answer = ask_ocsp(house, digest, "-cert", str(good))
    assert "Response verify OK" in answer
    assert "WARNING: no nonce" not in answer
    assert ": good" in answer
    answer = ask_ocsp(house, digest, "-cert", str(bad))
    assert "Response verify OK" in answer
    assert ": revoked" in answer
    assert "Reason: keyCompromise" in answer
    assert ": unknown" in ask_ocsp(house, digest, "-serial", "0x1234")


@needs_openssl
def test_openssl_asks_about_several_at_once(house: House) -> None:
    good, bad = house.issue("cam-1"), house.issue("cam-2")
    house.revoke("cam-2")
    answer = ask_ocsp(house, "-sha256", "-cert", str(good), "-cert", str(bad), "-serial", "0x1234")
    assert "Response verify OK" in answer
    for said in (f"{good}: good", f"{bad}: revoked", "0x1234: unknown"):
        assert said in answer


@needs("pki")
@needs_curl
def test_strongswan_verifies_the_chain_and_reads_the_crl(house: House) -> None:
    good, bad = house.issue("cam-1"), house.issue("cam-2")
    house.revoke("cam-2")
    trust = ("--cacert", str(house.root), "--cacert", str(house.device_ca))
    run("pki", "--verify", "--in", str(good), *trust)
    revoked = run("pki", "--print", "--type", "crl", "--in", str(house.fetch_crl()))
    serial = run("openssl", "x509", "-noout", "-serial", "-in", str(bad)).strip().removeprefix("serial=")
    assert serial.lower() in revoked.replace(":", "").lower()


@needs("certtool")
def test_gnutls_verifies_the_chain(house: House) -> None:
    chain = house.folder / "chain.pem"
    chain.write_bytes(house.issue("cam-1").read_bytes() + house.device_ca.read_bytes())
    said = run("certtool", "--verify", "--infile", str(chain), "--load-ca-certificate", str(house.root))
    assert "Chain verification output: Verified" in said


@needs_openssl
@needs_curl
def test_a_client_that_pins_the_root_reads_our_authorities(house: House) -> None:
    for name in ("root", "device-ca", "server-ca"):
        path = house.folder / f"fetched-{name}.crt"
        run("curl", "-sSf", "--cacert", str(house.root), "-o", str(path), f"{house.base}/pki/ca/{name}.crt")
        theirs = run("openssl", "x509", "-in", str(path), "-noout", "-fingerprint", "-sha256")
        ours = house.folder / "ca" / f"{name}.crt"
        assert theirs == run("openssl", "x509", "-in", str(ours), "-noout", "-fingerprint", "-sha256")


@needs_openssl
def test_the_root_key_is_encrypted_and_opens_with_its_passphrase_alone(house: House) -> None:
    key = str(house.folder / "offline" / "root.key.pem")
    run("openssl", "pkey", "-in", key, "-noout", "-passin", "pass:correct horse battery staple")
    run("openssl", "pkey", "-in", key, "-noout", "-passin", "pass:another", must_pass=False)
