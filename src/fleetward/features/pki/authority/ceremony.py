"""The key ceremony: an offline root signs the issuing CAs. Safe to interrupt and to run again.

Order matters: a key is on disk before anything is signed for it, a certificate is written last. A second run
finds what exists and makes only what is missing; it never overwrites a key.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.exceptions import InvalidSignature
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
from fleetward.features.pki.authority.profiles import (
    SERVER_LIFETIME,
    general_name,
    sign_cluster_ca,
    sign_cluster_node,
    sign_issuing_ca,
    sign_root,
    sign_server,
    sign_time_signer,
)
from fleetward.features.pki.ports import CaSigner


class Issuing(NamedTuple):
    file: str
    name: str
    usages: tuple[x509.ObjectIdentifier, ...]


ISSUING = (
    Issuing("device-ca", "device CA", (ExtendedKeyUsageOID.CLIENT_AUTH,)),
    Issuing("server-ca", "server CA", (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.TIME_STAMPING)),
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

    The root key is asked for only while an issuing CA is missing: it may be kept elsewhere.

    Raises:
        WrongPassphraseError: the root key exists and does not open.
        KeyUnavailableError: a certificate is there and its key is not, or is another's.
    """
    certificates = folder / "ca"
    root_key_path = folder / "offline" / "root.key.pem"
    root_path = certificates / "root.crt"
    missing = [issuing for issuing in ISSUING if not (certificates / f"{issuing.file}.crt").exists()]
    if missing or not root_path.exists() or root_key_path.exists():
        encryption = BestAvailableEncryption(passphrase)
        root_key = _ensure_key(root_key_path, root_path, encryption, passphrase)
        if not root_path.exists():
            write_atomically(root_path, sign_root(root_key, trust_domain, now).public_bytes(Encoding.PEM))
        root = load_root(folder)
        for issuing in missing:
            path = certificates / f"{issuing.file}.crt"
            key = _ensure_key(folder / "keys" / f"{issuing.file}.pem", path, NoEncryption(), None)
            signed = sign_issuing_ca(
                root, root_key, key.public_key(),
                trust_domain=trust_domain, name=issuing.name, usages=issuing.usages, now=now,
            )  # fmt: skip
            write_atomically(path, signed.public_bytes(Encoding.PEM))
    write_atomically(certificates / "ca-bundle.pem", load_root(folder).public_bytes(Encoding.PEM))
    write_chains(folder, ())
    ensure_time_signer(folder, load_ca(folder, "server-ca"), trust_domain, now)


def write_chains(folder: Path, earlier: Sequence[x509.Certificate]) -> None:
    """Write what devices are verified by: `device-cas.pem` for listeners, with the root for others."""
    device_cas = (load_ca(folder, "device-ca").certificate, *earlier)
    for name, found in (("device-cas", device_cas), ("device-chain", (*device_cas, load_root(folder)))):
        content = b"".join(one.public_bytes(Encoding.PEM) for one in found)
        write_atomically(folder / "ca" / f"{name}.pem", content)


def open_root_key(folder: Path, passphrase: bytes) -> ec.EllipticCurvePrivateKey:
    """Return the offline root's key.

    Raises:
        WrongPassphraseError: it does not open.
        KeyUnavailableError: it is not in the folder, or not that of the root's certificate.
    """
    path, root = folder / "offline" / "root.key.pem", folder / "ca" / "root.crt"
    return _ensure_key(path, root, BestAvailableEncryption(passphrase), passphrase)


def ensure_time_signer(folder: Path, server_ca: CaSigner, trust_domain: str, now: datetime) -> bool:
    """Make or renew the certificate of the key that states the time; return whether it changed."""
    path = folder / "tls" / "time.crt"
    key = _ensure_key(folder / "keys" / "time.pem", None, NoEncryption(), None)
    present = _find_leaf(path, server_ca)
    if present is not None and present.public_key() == key.public_key() and not is_renewal_due(present, now):
        return False
    certificate = sign_time_signer(server_ca, key.public_key(), trust_domain=trust_domain, now=now)
    write_atomically(path, certificate.public_bytes(Encoding.PEM))
    return True


def ensure_server_certificate(folder: Path, server_ca: CaSigner, names: Sequence[str], now: datetime) -> bool:
    """Make or renew our listeners' certificate with a new key; return whether it changed.

    Chain and key are one file, `tls/server.pem`, so that they are replaced together. It is made anew when
    half of its time has passed, when `names` are others, when another CA signed it, and when it is damaged.
    """
    bundle = folder / "tls" / "server.pem"
    wanted = {general_name(name) for name in names}
    present = _find_leaf(bundle, server_ca)
    if present is not None and _names_of(present) == wanted and not is_renewal_due(present, now):
        return False
    write_secret(bundle, issue_listener(server_ca, names, SERVER_LIFETIME, now))
    return True


def issue_cluster_node(
    folder: Path, trust_domain: str, host: str, lifetime: timedelta, now: datetime
) -> tuple[bytes, bytes]:
    """Return (PEM of the cluster's own CA, PEM of a new certificate and key for the node `host`).

    The CA is made at the first call; see `sign_cluster_ca`.

    Raises:
        KeyUnavailableError: its key is lost or unreadable.
    """
    path = folder / "ca" / "cluster-ca.crt"
    ca_key = _ensure_key(folder / "keys" / "cluster-ca.pem", path, NoEncryption(), None)
    if not path.exists():
        write_atomically(path, sign_cluster_ca(ca_key, trust_domain, now).public_bytes(Encoding.PEM))
    ca = load_ca(folder, "cluster-ca")
    key = ec.generate_private_key(ec.SECP256R1())
    leaf = sign_cluster_node(ca, key.public_key(), host=host, lifetime=lifetime, now=now)
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return ca.certificate.public_bytes(Encoding.PEM), leaf.public_bytes(Encoding.PEM) + secret


def issue_listener(ca: CaSigner, names: Sequence[str], lifetime: timedelta, now: datetime) -> bytes:
    """Return PEM of a new listener certificate, its chain and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    leaf = sign_server(ca, key.public_key(), names=names, lifetime=lifetime, now=now)
    pems = [one.public_bytes(Encoding.PEM) for one in (leaf, ca.certificate, *ca.chain)]
    return b"".join([*pems, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())])


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
        raise KeyUnavailableError(
            f"root: expected its certificate in {folder}/ca, found none", hint="Restore it from a backup."
        ) from error


def _ensure_key(
    path: Path, certificate: Path | None, encryption: KeySerializationEncryption, passphrase: bytes | None
) -> ec.EllipticCurvePrivateKey:
    """Return the key in `path`, made now if neither it nor its `certificate` exists.

    Args:
        certificate: what a lost key cannot be replaced under; None where we sign a new one ourselves.

    Raises:
        WrongPassphraseError: it does not open.
        KeyUnavailableError: it is lost, or not that of its certificate.
    """
    certified = certificate if certificate is not None and certificate.exists() else None
    if not path.exists():
        if certified is not None:
            raise KeyUnavailableError(
                f"{path}: expected the key of {certified.name}, found none",
                hint="Bring the file back from where it was moved to, or from a backup.",
            )
        fresh = ec.generate_private_key(ec.SECP256R1())
        write_secret(path, fresh.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption))
    try:
        key = load_pem_private_key(path.read_bytes(), passphrase)
    except (ValueError, TypeError) as error:
        if passphrase is None:
            raise KeyUnavailableError(
                f"{path}: expected a private key, found something else", hint="Restore it from a backup."
            ) from error
        raise WrongPassphraseError(
            f"{path}: expected the passphrase it was made with, found another",
            hint="Give the root passphrase with --root-passphrase-file.",
        ) from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise KeyUnavailableError(f"{path}: expected a P-256 key, found another kind")
    if certified is not None and _read_certificate(certified).public_key() != key.public_key():
        raise KeyUnavailableError(f"{path}: expected the key of {certified.name}, found another")
    return key


def _find_leaf(path: Path, issuer: CaSigner) -> x509.Certificate | None:
    """Return the first certificate of a file; None unless it is there, whole, and signed by `issuer`."""
    try:
        leaf = x509.load_pem_x509_certificates(path.read_bytes())[0]
        leaf.verify_directly_issued_by(issuer.certificate)
    except (OSError, ValueError, TypeError, InvalidSignature):
        return None
    return leaf


def _read_certificate(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def _names_of(certificate: x509.Certificate) -> set[x509.GeneralName]:
    return set(certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
