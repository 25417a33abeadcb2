"""A platform's authorities in a folder of the test's own, made by the real ceremony."""

from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from fleetward.features.pki.authority.ceremony import create_hierarchy, load_ca, load_root
from fleetward.features.pki.authority.profiles import RevocationUrls
from fleetward.features.pki.service import PkiContext

TRUST_DOMAIN = "fleet.test"
PASSPHRASE = b"correct horse battery staple"
URLS = RevocationUrls(
    crl="https://localhost:9443/pki/crl/device-ca.crl",
    ocsp="https://localhost:9443/pki/ocsp",
    issuer="https://localhost:9443/pki/ca/device-ca.crt",
)


def make_pki(folder: Path, now: datetime) -> PkiContext:
    """Run the ceremony in `folder` and return its authorities."""
    for room in ("ca", "keys", "offline", "tls"):
        (folder / room).mkdir(parents=True, exist_ok=True)
    create_hierarchy(folder, TRUST_DOMAIN, PASSPHRASE, now)
    return PkiContext(
        TRUST_DOMAIN, load_root(folder), load_ca(folder, "device-ca"), load_ca(folder, "server-ca"), URLS
    )


def make_csr(
    device_id: str | None = None, *, key: ec.EllipticCurvePrivateKey | None = None
) -> x509.CertificateSigningRequest:
    """Return a request for a fresh P-256 key, with or without a common name."""
    names = [] if device_id is None else [x509.NameAttribute(NameOID.COMMON_NAME, device_id)]
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name(names))
    return builder.sign(key or ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
