"""An EST server with signed time in a few lines, for the device's side; its own small CA."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID

from fleetward.features.enrollment import device as d
from fleetward.wire import est, signed_time
from support.authority import LIFETIME, T0, Authority, make_certificate
from support.enrolling import Disk


@dataclass
class SmallServer:
    """EST and signed time in a few lines. `claims` maps a token to the key that used it."""

    now: datetime = T0
    is_absent: bool = False
    refuse_status: int = 0
    lifetime: timedelta = LIFETIME
    claims: dict[str, bytes | None] = field(default_factory=lambda: {"good-claim": None})
    requests: list[d.SendRequest] = field(default_factory=list)
    listed_keys: list[object] = field(default_factory=list)
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
        elif "authorization" not in request.headers:
            if csr.public_key() not in self.listed_keys:
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
