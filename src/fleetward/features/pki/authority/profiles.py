"""What each kind of certificate holds (RFC 5280 section 4). Pure: signing keys and `now` come in."""

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID, NameOID

from fleetward.base.errors import UnavailableError
from fleetward.features.pki.model import render_spiffe_id
from fleetward.features.pki.ports import CaSigner

ROOT_LIFETIME = timedelta(days=20 * 365)
ISSUING_LIFETIME = timedelta(days=5 * 365)
SERVER_LIFETIME = timedelta(days=30)
TIME_LIFETIME = timedelta(days=365)
# Clocks differ: a certificate must be valid on a device that is a little behind us.
BACKDATE = timedelta(minutes=5)
_MAX_NAME_CHARS = 64  # ub-common-name and ub-organization-name

_CA_USAGE = x509.KeyUsage(
    digital_signature=True, key_cert_sign=True, crl_sign=True, content_commitment=False,
    key_encipherment=False, data_encipherment=False, key_agreement=False,
    encipher_only=False, decipher_only=False,
)  # fmt: skip
_LEAF_USAGE = x509.KeyUsage(
    digital_signature=True, key_cert_sign=False, crl_sign=False, content_commitment=False,
    key_encipherment=False, data_encipherment=False, key_agreement=False,
    encipher_only=False, decipher_only=False,
)  # fmt: skip


class AuthorityExpiredError(UnavailableError):
    """A CA whose own time is over, or not come, signs nothing."""

    code = "authority_expired"


@dataclass(frozen=True)
class RevocationUrls:
    """Where third parties ask about our certificates.

    Attributes:
        plain: the same without TLS, named first, for those who follow no `https` (RFC 5280 section 8).
    """

    crl: str
    ocsp: str
    issuer: str
    plain: "RevocationUrls | None" = None


def sign_root(key: ec.EllipticCurvePrivateKey, trust_domain: str, now: datetime) -> x509.Certificate:
    """Return the self-signed root: signs issuing CAs and nothing else."""
    name = _ca_name(trust_domain, "root CA")
    builder = _builder(name, name, key.public_key(), now - BACKDATE, now + ROOT_LIFETIME)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=1), critical=True)
    builder = builder.add_extension(_CA_USAGE, critical=True)
    return builder.sign(key, hashes.SHA256())


def sign_issuing_ca(
    root: x509.Certificate,
    root_key: ec.EllipticCurvePrivateKey,
    public_key: ec.EllipticCurvePublicKey,
    *,
    trust_domain: str,
    name: str,
    usages: Sequence[x509.ObjectIdentifier],
    now: datetime,
) -> x509.Certificate:
    """Return an issuing CA that may sign leaves for `usages` only, never beyond its root's end.

    No name constraints: they must be critical (RFC 5280 section 4.2.1.10), and small TLS stacks such as
    Mbed TLS refuse critical extensions they do not know. The extended key usages narrow the CA instead.
    """
    until = _end(root, ISSUING_LIFETIME, now)
    builder = _builder(_ca_name(trust_domain, name), root.subject, public_key, now - BACKDATE, until)
    builder = (
        builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_CA_USAGE, critical=True)
        .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        .add_extension(_authority(root), critical=False)
    )
    return builder.sign(root_key, hashes.SHA256())


def sign_cluster_ca(key: ec.EllipticCurvePrivateKey, trust_domain: str, now: datetime) -> x509.Certificate:
    """Return the self-signed CA of the message cluster's routes.

    It stands apart from the root: route certificates are for both ends at once, which our issuing CAs' usages
    forbid, and nothing but the cluster's own servers ever trusts it.
    """
    name = _ca_name(trust_domain, "cluster CA")
    builder = _builder(name, name, key.public_key(), now - BACKDATE, now + ISSUING_LIFETIME)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    return builder.add_extension(_CA_USAGE, critical=True).sign(key, hashes.SHA256())


def sign_cluster_node(
    ca: CaSigner, public_key: ec.EllipticCurvePublicKey, *, host: str, lifetime: timedelta, now: datetime
) -> x509.Certificate:
    """Return the certificate by which one server of the cluster knows another, as client and as server."""
    until = _end(ca.certificate, lifetime, now)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host[:_MAX_NAME_CHARS])])
    usages = (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH)
    builder = _leaf(ca, subject, public_key, now - BACKDATE, until, *usages)
    san = x509.SubjectAlternativeName([general_name(host)])
    return builder.add_extension(san, critical=False).sign(ca.private_key, hashes.SHA256())


def sign_device(
    ca: CaSigner,
    public_key: ec.EllipticCurvePublicKey,
    *,
    trust_domain: str,
    device_id: str,
    lifetime: timedelta,
    urls: RevocationUrls,
    now: datetime,
) -> x509.Certificate:
    """Return a device's certificate: clientAuth alone, SAN `spiffe://<trust domain>/device/<id>`."""
    until = _end(ca.certificate, lifetime, now)
    start = max(now - min(BACKDATE, lifetime / 2), ca.certificate.not_valid_before_utc)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, device_id)])
    san = x509.SubjectAlternativeName(
        [x509.UniformResourceIdentifier(render_spiffe_id(trust_domain, device_id))]
    )
    builder = _leaf(ca, subject, public_key, start, until, ExtendedKeyUsageOID.CLIENT_AUTH)
    builder = (
        builder.add_extension(san, critical=False)
        .add_extension(_crl_points(urls), critical=False)
        .add_extension(_information(urls), critical=False)
    )
    return builder.sign(ca.private_key, hashes.SHA256())


def sign_server(
    ca: CaSigner,
    public_key: ec.EllipticCurvePublicKey,
    *,
    names: Sequence[str],
    lifetime: timedelta,
    now: datetime,
) -> x509.Certificate:
    """Return a listener's certificate for DNS names and IP addresses.

    The first that fits stands in the subject too. If none does, the subject is empty, and RFC 5280 section
    4.1.2.6 has the SAN critical.
    """
    until = _end(ca.certificate, lifetime, now)
    common = [x509.NameAttribute(NameOID.COMMON_NAME, name) for name in names if len(name) <= _MAX_NAME_CHARS]
    builder = _leaf(
        ca, x509.Name(common[:1]), public_key, now - BACKDATE, until, ExtendedKeyUsageOID.SERVER_AUTH
    )
    san = x509.SubjectAlternativeName([general_name(name) for name in names])
    return builder.add_extension(san, critical=not common).sign(ca.private_key, hashes.SHA256())


def sign_time_signer(
    ca: CaSigner, public_key: ec.EllipticCurvePublicKey, *, trust_domain: str, now: datetime
) -> x509.Certificate:
    """Return the certificate of the key that states the time; its EKU is timeStamping, alone and critical."""
    until = _end(ca.certificate, TIME_LIFETIME, now)
    subject = _ca_name(trust_domain, "time")
    builder = _leaf(
        ca, subject, public_key, now - BACKDATE, until, ExtendedKeyUsageOID.TIME_STAMPING, is_critical=True
    )
    return builder.sign(ca.private_key, hashes.SHA256())


def subject_key_id(certificate: x509.Certificate) -> bytes:
    """Return the SKI of a certificate of ours."""
    return certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest


def general_name(name: str) -> x509.GeneralName:
    """Return an address as IP address, anything else as DNS name."""
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _end(issuer: x509.Certificate, lifetime: timedelta, now: datetime) -> datetime:
    """Return when a new certificate ends: never after its issuer.

    Raises:
        AuthorityExpiredError: `now` is outside the issuer's own time.
    """
    start, end = issuer.not_valid_before_utc, issuer.not_valid_after_utc
    if not start <= now < end:
        raise AuthorityExpiredError(
            f"{issuer.subject.rfc4514_string()}: expected it in its time, found {start:%F} to {end:%F}",
            hint="Check this machine's clock. An authority past its end needs a successor by the root.",
        )
    return min(now + lifetime, end)


def _leaf(
    ca: CaSigner,
    subject: x509.Name,
    public_key: ec.EllipticCurvePublicKey,
    start: datetime,
    until: datetime,
    *usages: x509.ObjectIdentifier,
    is_critical: bool = False,
) -> x509.CertificateBuilder:
    return (
        _builder(subject, ca.certificate.subject, public_key, start, until)
        .add_extension(_authority(ca.certificate), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_LEAF_USAGE, critical=True)
        .add_extension(x509.ExtendedKeyUsage(usages), critical=is_critical)
    )


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, start: datetime, until: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())  # 159 random bits
        .not_valid_before(start)
        .not_valid_after(until)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _ca_name(trust_domain: str, role: str) -> x509.Name:
    return x509.Name([
        x509.NameAttribute(NameOID.ORGANIZATION_NAME, trust_domain[:_MAX_NAME_CHARS]),
        x509.NameAttribute(NameOID.COMMON_NAME, f"Fleetward {role}"),
    ])  # fmt: skip


def _authority(issuer: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    ski = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(ski)


def _crl_points(urls: RevocationUrls) -> x509.CRLDistributionPoints:
    full_name = [x509.UniformResourceIdentifier(one.crl) for one in _each(urls)]
    return x509.CRLDistributionPoints([x509.DistributionPoint(full_name, None, None, None)])


def _information(urls: RevocationUrls) -> x509.AuthorityInformationAccess:
    methods = AuthorityInformationAccessOID
    return x509.AuthorityInformationAccess(
        [
            x509.AccessDescription(methods.OCSP, x509.UniformResourceIdentifier(one.ocsp))
            for one in _each(urls)
        ]
        + [
            x509.AccessDescription(methods.CA_ISSUERS, x509.UniformResourceIdentifier(one.issuer))
            for one in _each(urls)
        ]
    )


def _each(urls: RevocationUrls) -> list[RevocationUrls]:
    return [urls] if urls.plain is None else [urls.plain, urls]
