"""The key ceremony: an offline root signs the issuing CAs. Safe to interrupt and to run again.

Order matters: a key is on disk before anything is signed for it, a certificate is written last. A second run
finds what exists and makes only what is missing; it never overwrites a key.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID

from fleetward.base.errors import ForbiddenError, KeyUnavailableError
from fleetward.base.files import write_atomically, write_secret
from fleetward.features.pki.ports import CaSigner
from fleetward.features.pki.profiles import (
    SERVER_LIFETIME,
    sign_issuing_ca,
    sign_root,
    sign_server,
    sign_time_signer,
)

_ISSUING = (
    ("device-ca", "device CA", (ExtendedKeyUsageOID.CLIENT_AUTH,)),
    ("server-ca", "server CA", (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.TIME_STAMPING)),
)


class WrongPassphraseError(ForbiddenError):
    """The root key does not open with this passphrase."""

    code = "wrong_passphrase"


@dataclass(frozen=True)
class FileCa:
    """A CA whose key was read from a file; implements `CaSigner`."""

    certificate: x509.Certificate
    chain: tuple[x509.Certificate, ...]
    private_key: ec.EllipticCurvePrivateKey


def create_hierarchy(folder: Path, trust_domain: str, passphrase: bytes, now: datetime) -> None:
    """Make what is missing of root, device CA, server CA and time signer in a data folder.

    Raises:
        WrongPassphraseError: the root key exists and does not open.
    """
    certificates, keys = folder / "ca", folder / "keys"
    root_key = _ensure_key(
        folder / "offline" / "root.key.pem", BestAvailableEncryption(passphrase), passphrase
    )
    root_path = certificates / "root.crt"
    if not root_path.exists():
        write_atomically(root_path, sign_root(root_key, trust_domain, now).public_bytes(Encoding.PEM))
    root = _read_certificate(root_path)
    for file_name, name, usages in _ISSUING:
        key = _ensure_key(keys / f"{file_name}.pem", NoEncryption(), None)
        path = certificates / f"{file_name}.crt"
        if not path.exists():
            signed = sign_issuing_ca(
                root, root_key, key.public_key(), trust_domain=trust_domain, name=name, usages=usages, now=now
            )
            write_atomically(path, signed.public_bytes(Encoding.PEM))
    write_atomically(certificates / "ca-bundle.pem", root.public_bytes(Encoding.PEM))
    issuing = _read_certificate(certificates / "device-ca.crt")
    chain = issuing.public_bytes(Encoding.PEM) + root.public_bytes(Encoding.PEM)
    write_atomically(certificates / "device-chain.pem", chain)
    ensure_time_signer(folder, load_ca(folder, "server-ca"), trust_domain, now)


def ensure_time_signer(folder: Path, server_ca: CaSigner, trust_domain: str, now: datetime) -> bool:
    """Make or renew the certificate of the key that states the time; return whether it changed."""
    key = _ensure_key(folder / "keys" / "time.pem", NoEncryption(), None)
    path = folder / "tls" / "time.crt"
    if path.exists() and not is_renewal_due(_read_certificate(path), now):
        return False
    certificate = sign_time_signer(server_ca, key.public_key(), trust_domain=trust_domain, now=now)
    write_atomically(path, certificate.public_bytes(Encoding.PEM))
    return True


def ensure_server_certificate(folder: Path, server_ca: CaSigner, names: Sequence[str], now: datetime) -> bool:
    """Make or renew our listeners' certificate with a new key; return whether it changed.

    Chain and key are one file, `tls/server.pem`, so that they are replaced together.
    """
    bundle = folder / "tls" / "server.pem"
    if bundle.exists():
        present = x509.load_pem_x509_certificates(bundle.read_bytes())[0]
        if not is_renewal_due(present, now) and _names_of(present) == set(names):
            return False
    key = ec.generate_private_key(ec.SECP256R1())
    leaf = sign_server(server_ca, key.public_key(), names=names, lifetime=SERVER_LIFETIME, now=now)
    pems = [one.public_bytes(Encoding.PEM) for one in (leaf, server_ca.certificate, *server_ca.chain)]
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    write_secret(bundle, b"".join([*pems, secret]))
    return True


def is_renewal_due(certificate: x509.Certificate, now: datetime) -> bool:
    """Whether half of a certificate's lifetime has passed."""
    start, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    return now >= start + (end - start) / 2


def load_ca(folder: Path, name: str) -> FileCa:
    """Return an issuing CA of a data folder: `device-ca` or `server-ca`.

    Raises:
        KeyUnavailableError: its key or certificate is missing or not readable.
    """
    try:
        certificate = _read_certificate(folder / "ca" / f"{name}.crt")
        key = load_pem_private_key((folder / "keys" / f"{name}.pem").read_bytes(), None)
    except (OSError, ValueError, TypeError) as error:
        raise KeyUnavailableError(
            f"{name}: expected its key and certificate in {folder}, found them missing or unreadable",
            hint=f"Finish the ceremony: fleetward init --data {folder}; or restore the folder from a backup.",
        ) from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
        raise KeyUnavailableError(f"{name}: expected the key of its certificate in {folder}, found another")
    return FileCa(certificate, (), key)


def load_time_signer(folder: Path) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    """Return the key that states the time and its certificate. Raises KeyUnavailableError."""
    try:
        key = load_pem_private_key((folder / "keys" / "time.pem").read_bytes(), None)
        certificate = _read_certificate(folder / "tls" / "time.crt")
    except (OSError, ValueError, TypeError) as error:
        raise KeyUnavailableError(
            f"time signer: expected its key in {folder}, found it unreadable"
        ) from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise KeyUnavailableError(f"time signer: expected a P-256 key in {folder}, found another kind")
    return key, certificate


def load_root(folder: Path) -> x509.Certificate:
    """Return the root certificate of a data folder. Raises KeyUnavailableError."""
    try:
        return _read_certificate(folder / "ca" / "root.crt")
    except (OSError, ValueError) as error:
        raise KeyUnavailableError(f"root: expected its certificate in {folder}/ca, found none") from error


def _ensure_key(
    path: Path, encryption: KeySerializationEncryption, passphrase: bytes | None
) -> ec.EllipticCurvePrivateKey:
    if not path.exists():
        fresh = ec.generate_private_key(ec.SECP256R1())
        write_secret(path, fresh.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption))
    try:
        key = load_pem_private_key(path.read_bytes(), passphrase)
    except (ValueError, TypeError) as error:
        if passphrase is None:
            raise KeyUnavailableError(f"{path}: expected a private key, found something else") from error
        raise WrongPassphraseError(
            f"{path}: expected the passphrase it was made with, found another",
            hint="Give the root passphrase with --root-passphrase-file.",
        ) from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise KeyUnavailableError(f"{path}: expected a P-256 key, found another kind")
    return key


def _read_certificate(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def _names_of(certificate: x509.Certificate) -> set[str]:
    san = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return {str(name.value) for name in san}
