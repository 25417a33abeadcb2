"""A small CA of the tests' own, for certificates that ours would never issue."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

T0 = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
LIFETIME = timedelta(hours=24)


def make_certificate(
    name: str,
    key: ec.EllipticCurvePublicKey,
    issuer: tuple[x509.Name, ec.EllipticCurvePrivateKey] | None,
    *,
    usage: x509.ObjectIdentifier | None,
    at: datetime = T0,
    lifetime: timedelta = LIFETIME,
    own_key: ec.EllipticCurvePrivateKey | None = None,
    names: Sequence[x509.GeneralName] = (),
) -> x509.Certificate:
    """Return a certificate; without `usage` that of a CA, without `issuer` a self-signed one by `own_key`."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    if issuer is None:
        assert own_key
        issuer = (subject, own_key)
    is_ca = usage is None
    key_usage = x509.KeyUsage(
        digital_signature=not is_ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=is_ca,
        crl_sign=is_ca,
        encipher_only=False,
        decipher_only=False,
    )
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer[0])
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(at - timedelta(minutes=5))
        .not_valid_after(at + lifetime)
        .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer[1].public_key()), critical=False
        )
        .add_extension(key_usage, critical=True)
    )
    if usage is not None:
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(issuer[1], hashes.SHA256())


class Authority:
    """A CA: a root without `parent`, else one below it."""

    def __init__(self, name: str, parent: "Authority | None" = None) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.certificate = make_certificate(
            name,
            self.key.public_key(),
            parent.as_issuer() if parent else None,
            usage=None,
            at=T0 - 365 * LIFETIME,
            lifetime=9999 * LIFETIME,
            own_key=self.key,
        )

    def as_issuer(self) -> tuple[x509.Name, ec.EllipticCurvePrivateKey]:
        return self.certificate.subject, self.key

    def issue_files(
        self,
        folder: Path,
        name: str,
        usage: x509.ObjectIdentifier,
        *,
        at: datetime,
        lifetime: timedelta = LIFETIME,
        names: Sequence[x509.GeneralName] = (),
    ) -> tuple[Path, Path]:
        """Write a leaf certificate with its issuer, and its key; return their paths."""
        key = ec.generate_private_key(ec.SECP256R1())
        leaf = make_certificate(
            name, key.public_key(), self.as_issuer(), usage=usage, at=at, lifetime=lifetime, names=names
        )
        chain_file, key_file = folder / f"{name}.crt", folder / f"{name}.key"
        pem = leaf.public_bytes(Encoding.PEM) + self.certificate.public_bytes(Encoding.PEM)
        chain_file.write_bytes(pem)
        key_file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return chain_file, key_file
