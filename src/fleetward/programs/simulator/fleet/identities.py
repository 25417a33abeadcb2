"""Identities of a fleet, made in bulk: a signed shipment lists every key, each device enrolls over EST.

Private keys are derived from one random secret in the folder, so that a hundred thousand of them are one
small file; certificates lie beside it and are used again by the next run.
"""

import base64
import hashlib
import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import urllib3
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from cryptography.x509.oid import NameOID

from fleetward.base.errors import UnavailableError
from fleetward.base.files import write_secret
from fleetward.outside.http.platform import Api
from fleetward.outside.tls.client import client_context
from fleetward.wire.est import PATH as EST_PATH
from fleetward.wire.est import parse_certificates
from fleetward.wire.shipment import ShipmentRow, render_manifest

FACTORY = "simulated-factory"
# Order of the P-256 group minus one: a derived number below it is a private key once one is added.
_ORDER_LESS_ONE = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632550
_SECRET_BYTES = 32
_OK = 200
_THREADS = 4
_PAGE = 20_000


@dataclass(frozen=True, slots=True)
class Identity:
    """A device's certificate and the generation of its key; `chain` is DER, leaf alone."""

    device: str
    generation: int
    leaf: bytes


class Keys:
    """Derives every private key of a fleet from one secret."""

    def __init__(self, folder: Path) -> None:
        path = folder / "secret"
        if not path.exists():
            write_secret(path, os.urandom(_SECRET_BYTES))
        self._secret = path.read_bytes()

    def derive(self, device: str, generation: int) -> ec.EllipticCurvePrivateKey:
        """Return a device's P-256 key; the next generation is its key after the next renewal."""
        info = f"{device}/{generation}".encode()
        stretched = HKDF(algorithm=hashes.SHA256(), length=48, salt=None, info=info).derive(self._secret)
        return ec.derive_private_key(int.from_bytes(stretched) % _ORDER_LESS_ONE + 1, ec.SECP256R1())


class Wallet:
    """The certificates of a fleet, in one file."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "certificates.sqlite3"
        with closing(self._open()) as db, db:
            db.execute(
                "CREATE TABLE IF NOT EXISTS identities (device TEXT PRIMARY KEY, "
                "generation INTEGER NOT NULL, leaf BLOB NOT NULL, ends_at REAL NOT NULL)"
            )

    def put(self, identities: Iterable[Identity]) -> None:
        """Keep certificates, in the place of earlier ones of the same device."""
        rows = [(one.device, one.generation, one.leaf, ends_at(one.leaf).timestamp()) for one in identities]
        with closing(self._open()) as db, db:
            db.executemany("INSERT OR REPLACE INTO identities VALUES (?, ?, ?, ?)", rows)

    def find(self, devices: Iterable[str], *, good_at: datetime) -> dict[str, Identity]:
        """Return what is there and lasts beyond `good_at`, by device."""
        wanted = set(devices)
        with closing(self._open()) as db:
            query = "SELECT device, generation, leaf FROM identities WHERE ends_at > ?"
            rows = db.execute(query, (good_at.timestamp(),))
            return {row[0]: Identity(*row) for row in rows if row[0] in wanted}

    def _open(self) -> sqlite3.Connection:
        return sqlite3.connect(self._path, timeout=30)


def ends_at(leaf: bytes) -> datetime:
    return x509.load_der_x509_certificate(leaf).not_valid_after_utc


def ship(api: Api, keys: Keys, devices: list[str], model: str, group: str, now: datetime) -> None:
    """Have a factory of our own list the devices' keys, and the platform register them; known ones stay."""
    signing = keys.derive("factory", 0)
    public = signing.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    api.post("/factories", {"name": FACTORY, "public_key": public})
    for start in range(0, len(devices), _PAGE):
        page = devices[start : start + _PAGE]
        rows = [ShipmentRow(one, model, "csr-key", _fingerprint(keys, one), group) for one in page]
        batch = f"{model}-{start}-{len(page)}"
        manifest = render_manifest(rows, signing, factory=FACTORY, batch=batch, at=now)
        api.send("/devices/import", manifest, content_type="application/octet-stream")


def enroll(
    server: str, ca_file: Path, keys: Keys, devices: list[str], on_done: Callable[[int], None]
) -> Iterator[Identity]:
    """Yield a certificate for each device; `on_done` hears how many more there are.

    Raises:
        UnavailableError: the platform refused one, or does not answer.
    """
    context = client_context(ca_file)
    with (
        urllib3.PoolManager(ssl_context=context, retries=False, maxsize=_THREADS) as pool,
        ThreadPoolExecutor(_THREADS) as threads,
    ):

        def one(device: str) -> Identity:
            key = keys.derive(device, 0)
            body = base64.b64encode(make_csr(key, device))
            url = f"{server}{EST_PATH}/simpleenroll"
            try:
                answer = pool.request("POST", url, body=body, headers={"Content-Type": "application/pkcs10"})
            except urllib3.exceptions.HTTPError as error:
                raise UnavailableError(f"{device}: expected a certificate, found no answer") from error
            if answer.status != _OK:
                said = answer.data[:300].decode(errors="replace")
                raise UnavailableError(f"{device}: expected a certificate, found {answer.status}: {said}")
            return Identity(device, 0, leaf_of(answer.data))

        for found in threads.map(one, devices):
            on_done(1)
            yield found


def leaf_of(body: bytes) -> bytes:
    """Return the first certificate of an EST answer, DER."""
    return parse_certificates(body)[0].public_bytes(Encoding.DER)


def make_csr(key: ec.EllipticCurvePrivateKey, device: str) -> bytes:
    """Return a PKCS#10 request, DER."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, device)])
    request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    return request.public_bytes(Encoding.DER)


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _fingerprint(keys: Keys, device: str) -> str:
    public = keys.derive(device, 0).public_key()
    return hashlib.sha256(public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()
