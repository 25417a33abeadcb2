"""EST clients nobody here wrote: strongSwan's `pki` and `curl`, against our listener on a random port."""

import base64
import shutil
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from cryptography import x509

from fleetward.base.clock import SystemClock
from fleetward.base.db import Database
from fleetward.features.enrollment import service
from fleetward.features.pki.authority.ceremony import ensure_server_certificate
from fleetward.features.pki.service import PkiContext
from fleetward.programs.server.tls import TlsRefusal, add_authorities, devices_context
from fleetward.wire import est
from support.authority import Authority
from support.enrollment import add_model, events_of, make_app, make_pki, sqlite_in
from support.https import serving

needs_strongswan = pytest.mark.skipif(not shutil.which("pki"), reason="strongswan-pki is not installed")
needs_curl = pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")
needs_openssl = pytest.mark.skipif(not shutil.which("openssl"), reason="openssl is not installed")


class Server(NamedTuple):
    url: str
    ca_file: Path
    folder: Path
    db: Database
    pki: PkiContext
    context: ssl.SSLContext
    refused: list[TlsRefusal]

    def claim(self, device_id: str = "cam-1") -> str:
        with self.db.write("operator:test") as tx:
            return service.add_device(tx, device_id, "cam")[1].token


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with sqlite_in(tmp_path, SystemClock()) as db:
        yield from _serve(tmp_path, db)


def _serve(tmp_path: Path, db: Database) -> Iterator[Server]:
    add_model(db)
    pki = make_pki(tmp_path, db)
    ensure_server_certificate(tmp_path, pki.server_ca, ["localhost", "127.0.0.1"], db.clock.now())
    context = devices_context(tmp_path / "tls" / "server.pem", None, [pki.root, pki.device_ca.certificate])
    refused: list[TlsRefusal] = []
    app = make_app(tmp_path, db, pki)
    with serving(app, context, refused.append) as port:
        ca_file = tmp_path / "ca" / "ca-bundle.pem"
        yield Server(f"https://localhost:{port}", ca_file, tmp_path, db, pki, context, refused)


def run(*command: str | Path, stdin: bytes | None = None) -> bytes:
    done = subprocess.run(
        [str(part) for part in command], input=stdin, capture_output=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def strongswan_key(folder: Path, name: str, device_id: str) -> tuple[Path, Path]:
    """Make a key and a request with strongSwan's own tools; return their paths."""
    key, request = folder / f"{name}.key", folder / f"{name}.csr"
    key.write_bytes(run("pki", "--gen", "--type", "ecdsa", "--size", "256", "--outform", "pem"))
    request.write_bytes(run("pki", "--req", "--type", "ecdsa", "--in", key, "--dn", f"CN={device_id}"))
    return key, request


@needs_strongswan
def test_strongswan_fetches_our_authorities(server: Server) -> None:
    out = server.folder / "est-ca.pem"
    run("pki", "--estca", "--url", server.url, "--cacert", server.ca_file, "--caout", out, "--outform", "pem")
    found = [x509.load_pem_x509_certificate(path.read_bytes()) for path in server.folder.glob("est-ca*.pem")]
    assert server.pki.root in found
    assert server.pki.device_ca.certificate in found


@needs_curl
@needs_openssl
def test_libest_would_read_our_authorities(server: Server) -> None:
    """It decodes by OpenSSL's reader of lines, finds a header by its name as written, and says who it is."""
    head, out = server.folder / "head", server.folder / "cacerts"
    url = f"{server.url}/.well-known/est/cacerts"
    run("curl", "-s", "-A", "Cisco EST client 1.0", "--cacert", server.ca_file, "-D", head, "-o", out, url)
    names = {line.partition(":")[0] for line in head.read_text().splitlines()}
    assert {"Content-Type", "Content-Length", "Content-Transfer-Encoding"} <= names
    assert max(map(len, out.read_bytes().splitlines())) <= 76
    der = run("openssl", "base64", "-d", "-in", out)
    said = run("openssl", "pkcs7", "-inform", "DER", "-print_certs", stdin=der).decode()
    assert said.count("BEGIN CERTIFICATE") == 2


@needs_strongswan
def test_strongswan_enrolls_by_claim_and_reenrolls_by_certificate(server: Server) -> None:
    key, request = strongswan_key(server.folder, "first", "cam-1")
    common = ("pki", "--est", "--url", server.url, "--cacert", server.ca_file, "--outform", "pem")
    first = run(*common, "--userpass", f"cam-1:{server.claim()}", "--in", request)
    certificate = x509.load_pem_x509_certificate(first)
    assert certificate.issuer == server.pki.device_ca.certificate.subject

    (server.folder / "first.crt").write_bytes(first)
    _, new_request = strongswan_key(server.folder, "second", "cam-1")
    second = run(*common, "--cert", server.folder / "first.crt", "--key", key, "--in", new_request)
    renewed = x509.load_pem_x509_certificate(second)
    assert renewed.subject == certificate.subject
    assert renewed.public_key() != certificate.public_key()
    assert server.refused == []


@needs_strongswan
def test_strongswan_is_refused_with_a_used_claim(server: Server) -> None:
    claim = server.claim()
    _, request = strongswan_key(server.folder, "first", "cam-1")
    command = (
        "pki",
        "--est",
        "--url",
        server.url,
        "--cacert",
        server.ca_file,
        "--userpass",
        f"cam-1:{claim}",
    )
    run(*command, "--in", request)
    _, other = strongswan_key(server.folder, "thief", "cam-1")
    done = subprocess.run(
        [*map(str, command), "--in", str(other)], capture_output=True, timeout=60, check=False
    )
    assert done.returncode != 0
    assert [event.details["reason"] for event in events_of(server.db, "enrollment.refused")] == ["used"]


def openssl_key(folder: Path, name: str, device_id: str) -> tuple[Path, bytes]:
    """Make a key and a request with OpenSSL; return the key's path and the request's EST body."""
    key = folder / f"{name}.key"
    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256")
    der = run(
        "openssl",
        "req",
        "-new",
        *curve,
        "-nodes",
        "-keyout",
        key,
        "-subj",
        f"/CN={device_id}",
        "-outform",
        "DER",
    )
    return key, base64.b64encode(der)


def curl(server: Server, path: str, body: bytes, *more: str | Path) -> tuple[int, bytes]:
    out = server.folder / "answer"
    status = run(
        "curl", "-s", "-o", out, "-w", "%{http_code}", "--cacert", server.ca_file, "--data-binary", "@-",
        "-H", "Content-Type: application/pkcs10", *more, f"{server.url}/.well-known/est/{path}", stdin=body,
    )  # fmt: skip
    return int(status), out.read_bytes()


def leaf_with_chain(server: Server, answer: bytes, path: Path) -> Path:
    """Let OpenSSL unpack the answer, and write leaf and issuing CA as a client sends them."""
    pem = run("openssl", "pkcs7", "-inform", "DER", "-print_certs", stdin=base64.b64decode(answer))
    device_ca = (server.folder / "ca" / "device-ca.crt").read_bytes()
    path.write_bytes(pem + device_ca)
    return path


@needs_curl
@needs_openssl
def test_curl_enrolls_and_reenrolls_over_mutual_tls(server: Server) -> None:
    key, body = openssl_key(server.folder, "first", "cam-1")
    status, answer = curl(server, "simpleenroll", body, "-u", f"cam-1:{server.claim()}")
    assert status == 200
    chain = leaf_with_chain(server, answer, server.folder / "first.crt")
    run("openssl", "verify", "-purpose", "sslclient", "-x509_strict", "-CAfile", server.ca_file,
        "-untrusted", server.folder / "ca" / "device-ca.crt", chain)  # fmt: skip

    _, second = openssl_key(server.folder, "second", "cam-1")
    status, answer = curl(server, "simplereenroll", second, "--cert", chain, "--key", key)
    assert status == 200
    assert est.parse_certificates(answer)[0].subject.rfc4514_string() == "CN=cam-1"


@needs_curl
@needs_openssl
def test_curl_with_a_leaf_alone_reenrolls_too(server: Server) -> None:
    key, body = openssl_key(server.folder, "first", "cam-1")
    _, answer = curl(server, "simpleenroll", body, "-u", f"cam-1:{server.claim()}")
    leaf = server.folder / "leaf.crt"
    leaf.write_bytes(
        run("openssl", "pkcs7", "-inform", "DER", "-print_certs", stdin=base64.b64decode(answer))
    )
    status, _ = curl(server, "simplereenroll", body, "--cert", leaf, "--key", key)
    assert status == 200


@needs_curl
@needs_openssl
def test_curl_with_an_idevid_enrolls_once_its_factory_is_trusted(server: Server) -> None:
    maker = Authority("maker")
    certificate, key = maker.issue_files(
        server.folder, "SN-1", x509.ObjectIdentifier("1.3.6.1.5.5.7.3.2"), at=server.db.clock.now()
    )
    _, body = openssl_key(server.folder, "ldevid", "cam-9")
    more = ("--cert", certificate, "--key", key)
    cacerts = f"{server.url}/.well-known/est/cacerts"
    command = ["curl", "-s", "--cacert", str(server.ca_file), *map(str, more), cacerts]
    done = subprocess.run(command, capture_output=True, timeout=60, check=False)
    assert done.returncode != 0
    assert server.refused == [TlsRefusal("certificate_unknown_ca", "127.0.0.1")]
    add_authorities(server.context, [maker.certificate])
    status, answer = curl(server, "simpleenroll", body, *more)
    assert status == 403
    assert b"idevid_unknown" in answer
