"""The certificate authorities we are measured beside, configured as their own documentation says."""

import json
import socket
import sqlite3
import ssl
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from bench.rig import Device, free_port_base, wait_for, wait_for_port

_NOW = datetime(2026, 1, 1, tzinfo=UTC)
_YEARS = timedelta(days=3650)
# cfssl's own certdb/sqlite/migrations/001_CreateCertificates.sql.
_CFSSL_TABLES = """
CREATE TABLE certificates (
  serial_number blob NOT NULL, authority_key_identifier blob NOT NULL, ca_label blob, status blob NOT NULL,
  reason int, expiry timestamp, revoked_at timestamp, pem blob NOT NULL,
  PRIMARY KEY(serial_number, authority_key_identifier));
CREATE TABLE ocsp_responses (
  serial_number blob NOT NULL, authority_key_identifier blob NOT NULL, body blob NOT NULL, expiry timestamp,
  PRIMARY KEY(serial_number, authority_key_identifier),
  FOREIGN KEY(serial_number, authority_key_identifier)
    REFERENCES certificates(serial_number, authority_key_identifier));
"""


@dataclass(frozen=True)
class PeerCa:
    """A running certificate authority; `client` is what a client of it authenticates with."""

    pid: int
    url: str
    ca_file: Path
    client: Device | None = None


@contextmanager
def cfssl(folder: Path) -> Iterator[PeerCa]:
    """Yield a `cfssl serve` that demands client certificates and keeps what it issues in SQLite."""
    folder.mkdir()
    key, root = _make_root(folder)
    server = _issue(folder, "localhost", key, root)
    client = _issue(folder, "client", key, root)
    database, port = folder / "certs.db", free_port_base()
    with sqlite3.connect(database) as db:
        db.executescript(_CFSSL_TABLES)
    (folder / "db.json").write_text(json.dumps({"driver": "sqlite3", "data_source": str(database)}))
    profile = {"usages": ["digital signature", "client auth"], "expiry": "24h"}
    (folder / "config.json").write_text(json.dumps({"signing": {"default": profile}}))
    command = [
        "cfssl", "serve", "-address=127.0.0.1", f"-port={port}", f"-ca={folder}/root.pem",
        f"-ca-key={folder}/root.key", f"-config={folder}/config.json", f"-db-config={folder}/db.json",
        f"-tls-cert={server.chain}", f"-tls-key={server.key}", f"-mutual-tls-ca={folder}/root.pem",
        "-loglevel=3",
    ]  # fmt: skip
    with _running(command, folder / "cfssl.log", port) as pid:
        url = f"https://localhost:{port}/api/v1/cfssl/sign"
        yield PeerCa(pid, url, folder / "root.pem", client)


@contextmanager
def caddy(folder: Path) -> Iterator[PeerCa]:
    """Yield Caddy as an ACME server with its own internal authority, kept on disk."""
    folder.mkdir()
    port, root = free_port_base(), folder / "storage" / "pki" / "authorities" / "local" / "root.crt"
    (folder / "Caddyfile").write_text(
        f"{{\n admin off\n skip_install_trust\n auto_https disable_redirects\n"
        f" storage file_system {folder}/storage\n}}\n"
        f"https://localhost:{port} {{\n bind 127.0.0.1\n tls internal\n acme_server\n}}\n"
    )
    command = ["caddy", "run", "--adapter", "caddyfile", "--config", str(folder / "Caddyfile")]
    with _running(command, folder / "caddy.log", port, cwd=folder) as pid:
        wait_for(lambda: root.exists() and _has_certificate(port, root), 20)
        yield PeerCa(pid, f"https://localhost:{port}/acme/local/directory", root)


def _has_certificate(port: int, root: Path) -> bool:
    """Whether Caddy has issued its own listener a certificate: it listens before."""
    context = ssl.create_default_context(cafile=str(root))
    try:
        with socket.create_connection(("127.0.0.1", port)) as plain:
            context.wrap_socket(plain, server_hostname="localhost").close()
    except ssl.SSLError:
        return False
    return True


def _make_root(folder: Path) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "cfssl root")])
    builder = _builder(name, name, key.public_key())
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    root = builder.add_extension(_usage(is_ca=True), critical=True).sign(key, hashes.SHA256())
    (folder / "root.pem").write_bytes(root.public_bytes(Encoding.PEM))
    (folder / "root.key").write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    )
    return key, root


def _issue(
    folder: Path, name: str, issuer_key: ec.EllipticCurvePrivateKey, issuer: x509.Certificate
) -> Device:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = _builder(subject, issuer.subject, key.public_key())
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
    certificate = builder.add_extension(_usage(is_ca=False), critical=True).sign(issuer_key, hashes.SHA256())
    device = Device(name, folder / f"{name}.pem", folder / f"{name}.key")
    device.chain.write_bytes(certificate.public_bytes(Encoding.PEM))
    device.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()))
    return device


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey
) -> x509.CertificateBuilder:
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key)
    serial = x509.random_serial_number()
    return builder.serial_number(serial).not_valid_before(_NOW).not_valid_after(_NOW + _YEARS)


def _usage(*, is_ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not is_ca, key_cert_sign=is_ca, crl_sign=is_ca, content_commitment=False,
        key_encipherment=False, data_encipherment=False, key_agreement=False, encipher_only=False,
        decipher_only=False,
    )  # fmt: skip


@contextmanager
def _running(command: Sequence[str], log: Path, port: int, *, cwd: Path | None = None) -> Iterator[int]:
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=cwd)
    try:
        wait_for_port(port)
        yield process.pid
    finally:
        process.terminate()
        process.wait(20)
