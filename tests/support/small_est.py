"""An EST server with signed time in a few lines, for the device's side; its own small CA."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from fleetward.features.enrollment import device as d
from fleetward.wire import est, signed_time
from support.enrolling import Disk

T0 = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)
LIFETIME = 24 * HOUR


def make_certificate(
    name: str,
    key: ec.EllipticCurvePublicKey,
    issuer: tuple[x509.Name, ec.EllipticCurvePrivateKey] | None,
    *,
    usage: x509.ObjectIdentifier | None,
    at: datetime = T0,
    lifetime: timedelta = LIFETIME,
    own_key: ec.EllipticCurvePrivateKey | None = None,
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


@dataclass
class SmallServer:
    """EST and signed time in a few lines. `claims` maps a token to the key that used it."""

    now: datetime = T0
    is_absent: bool = False
    refuse_status: int = 0
    lifetime: timedelta = LIFETIME
    claims: dict[str, bytes | None] = field(default_factory=lambda: {"good-claim": None})
    requests: list[d.SendRequest] = field(default_factory=list)
    root: Authority = field(default_factory=lambda: Authority("root"))

    def __post_init__(self) -> None:
        self.ca = Authority("device ca", self.root)
        self.clock_key = ec.generate_private_key(ec.SECP256R1())
        self.clock_certificate = make_certificate(
            "time",
            self.clock_key.public_key(),
            self.root.as_issuer(),
            usage=ExtendedKeyUsageOID.TIME_STAMPING,
            lifetime=999 * LIFETIME,
        )

    def answer(
        self, request: d.SendRequest, disk: Disk, now: datetime
    ) -> d.ResponseReceived | d.RequestFailed:
        self.requests.append(request)
        if not request.is_time_unchecked:
            self.now = max(self.now, now)
        if self.is_absent:
            return d.RequestFailed("connection refused")
        if request.path.startswith(signed_time.PATH):
            nonce = request.path.partition("nonce=")[2]
            body = signed_time.render_signed_time(self.now, nonce, self.clock_key, [self.clock_certificate])
            return d.ResponseReceived(200, {}, body)
        if request.path.endswith("cacerts"):
            body = est.render_certificates([self.root.certificate, self.ca.certificate])
            return d.ResponseReceived(200, {}, body)
        if self.refuse_status:
            return d.ResponseReceived(self.refuse_status, {"retry-after": "120"}, b'{"detail": "no"}')
        return self._enroll(request, disk)

    def _enroll(self, request: d.SendRequest, disk: Disk) -> d.ResponseReceived:
        csr = est.parse_csr(request.body)
        spki = csr.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        if request.path.endswith("simplereenroll"):
            assert request.client_key in disk.certificates
            assert request.client_key in disk.keys
            found = x509.load_pem_x509_certificate(disk.certificates[request.client_key])
            if self.now >= found.not_valid_after_utc:
                return d.ResponseReceived(401, {}, b"")
        else:
            claim = disk.claim or ""
            if self.claims.get(claim, b"unknown") not in (None, spki):
                return d.ResponseReceived(401, {}, b'{"detail": "claim: expected an unused one, found used"}')
            self.claims[claim] = spki
        key = csr.public_key()
        assert isinstance(key, ec.EllipticCurvePublicKey)
        leaf = make_certificate(
            "cam-1",
            key,
            self.ca.as_issuer(),
            usage=ExtendedKeyUsageOID.CLIENT_AUTH,
            at=self.now,
            lifetime=self.lifetime,
        )
        return d.ResponseReceived(200, {}, est.render_certificates([leaf]))
