"""A TPM vendor of the tests' own: certifies endorsement keys as the TCG says, or wrongly on purpose."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

T0 = datetime(2026, 1, 1, tzinfo=UTC)
EK_USAGE = x509.ObjectIdentifier("2.23.133.8.1")
MAKER = {"2.23.133.2.1": "id:54455354", "2.23.133.2.2": "TestChip", "2.23.133.2.3": "id:00020000"}
EkKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey
Extension = tuple[x509.ExtensionType, bool]


def describe(maker: dict[str, str]) -> x509.SubjectAlternativeName:
    """Return the SAN that names a chip's maker, model and version (EK Credential Profile, 3.2.9)."""
    attributes = [x509.NameAttribute(x509.ObjectIdentifier(oid), text) for oid, text in maker.items()]
    return x509.SubjectAlternativeName(
        [x509.DirectoryName(x509.Name([x509.RelativeDistinguishedName([one]) for one in attributes]))]
    )


def usage(
    *, signs_certificates: bool = False, agrees: bool = False, enciphers: bool = False
) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=False, content_commitment=False, key_encipherment=enciphers,
        data_encipherment=False, key_agreement=agrees, key_cert_sign=signs_certificates,
        crl_sign=signs_certificates, encipher_only=False, decipher_only=False,
    )  # fmt: skip


def ca_extensions(*, path_length: int | None = None) -> list[Extension]:
    return [
        (x509.BasicConstraints(ca=True, path_length=path_length), True),
        (usage(signs_certificates=True), True),
    ]


def ek_extensions(key: EkKey) -> list[Extension]:
    """Return what a correct endorsement key certificate says."""
    is_rsa = isinstance(key, rsa.RSAPublicKey)
    return [
        (x509.BasicConstraints(ca=False, path_length=None), True),
        (usage(agrees=not is_rsa, enciphers=is_rsa), True),
        (x509.ExtendedKeyUsage([EK_USAGE]), False),
        (describe(MAKER), True),
    ]


@dataclass
class Authority:
    """One of the vendor's CAs; self-signed without `parent`."""

    name: str
    parent: "Authority | None" = None
    extensions: Sequence[Extension] = field(default_factory=ca_extensions)
    key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))

    def __post_init__(self) -> None:
        issuer = self.parent or self
        self.certificate = issuer.sign(self.key.public_key(), self.extensions, subject=self.name)

    def sign(
        self,
        key: EkKey,
        extensions: Sequence[Extension],
        *,
        subject: str = "",
        at: datetime = T0,
        lifetime: timedelta = timedelta(days=3650),
    ) -> x509.Certificate:
        """Return a certificate with these extensions; an endorsement key's has no subject."""
        names = [x509.NameAttribute(NameOID.COMMON_NAME, subject)] if subject else []
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name(names))
            .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, self.name)]))
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(at)
            .not_valid_after(at + lifetime)
        )
        for value, is_critical in extensions:
            builder = builder.add_extension(value, critical=is_critical)
        return builder.sign(self.key, hashes.SHA256())

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(Encoding.DER)


def der_of(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.DER)


WEB_USAGE = (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), False)
