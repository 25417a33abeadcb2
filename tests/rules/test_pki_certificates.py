"""What certificates hold, what requests must prove, and what junk does: nothing."""

from datetime import UTC, datetime, timedelta

import pytest
from asn1crypto import core
from asn1crypto import csr as asn1_csr
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import given, settings
from hypothesis import strategies as st

from fleetward.base.errors import InvalidInputError
from fleetward.features.pki.authority import profiles
from fleetward.features.pki.authority.ceremony import FileCa, is_renewal_due
from fleetward.features.pki.model import (
    CertificateRefusedError,
    CsrRefusedError,
    DeviceCertificate,
    check_csr,
    identify_device,
    parse_certificate,
    verify_issuer,
    verify_use,
)
from fleetward.wire.est import parse_csr_der
from support.authority import Authority, make_certificate
from support.hierarchy import TRUST_DOMAIN, URLS, make_csr

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)
CLIENT = ExtendedKeyUsageOID.CLIENT_AUTH


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def make_ca(usage: x509.ObjectIdentifier = CLIENT, *, at: datetime = NOW) -> FileCa:
    root_key, key = new_key(), new_key()
    root = profiles.sign_root(root_key, TRUST_DOMAIN, at)
    certificate = profiles.sign_issuing_ca(
        root, root_key, key.public_key(), trust_domain=TRUST_DOMAIN, name="CA", usages=[usage], now=at
    )
    return FileCa(certificate, (), key)


CA = make_ca()
ISSUERS = {profiles.subject_key_id(CA.certificate): CA.certificate}


def sign(ca: FileCa = CA, *, lifetime: timedelta = DAY, now: datetime = NOW) -> x509.Certificate:
    return profiles.sign_device(
        ca, new_key().public_key(), trust_domain=TRUST_DOMAIN, device_id="cam-1", lifetime=lifetime,
        urls=URLS, now=now,
    )  # fmt: skip


GOOD = sign().public_bytes(Encoding.DER)


def verify(certificate: x509.Certificate, now: datetime = NOW) -> DeviceCertificate:
    verify_issuer(certificate, ISSUERS)
    return verify_use(certificate, TRUST_DOMAIN, now)


def reason(certificate: x509.Certificate, now: datetime = NOW) -> object:
    with pytest.raises(CertificateRefusedError) as caught:
        verify(certificate, now)
    return caught.value.details["reason"]


def foreign(*names: x509.GeneralName, usage: x509.ObjectIdentifier | None = CLIENT) -> x509.Certificate:
    """Return a certificate of our CA that its profile would never give."""
    issuer = CA.certificate.subject, CA.private_key
    return make_certificate("x", new_key().public_key(), issuer, usage=usage, at=NOW, names=names)


def test_the_device_profile() -> None:
    certificate = sign()
    found = {extension.oid: extension for extension in certificate.extensions}
    oid = x509.oid.ExtensionOID
    assert set(found) == {
        oid.SUBJECT_KEY_IDENTIFIER, oid.AUTHORITY_KEY_IDENTIFIER, oid.BASIC_CONSTRAINTS, oid.KEY_USAGE,
        oid.EXTENDED_KEY_USAGE, oid.SUBJECT_ALTERNATIVE_NAME, oid.CRL_DISTRIBUTION_POINTS,
        oid.AUTHORITY_INFORMATION_ACCESS,
    }  # fmt: skip
    assert {name for name, extension in found.items() if extension.critical} == {
        oid.BASIC_CONSTRAINTS, oid.KEY_USAGE
    }  # fmt: skip
    usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    rights = ("digital_signature", "key_cert_sign", "crl_sign", "key_agreement", "key_encipherment")
    assert [right for right in rights if getattr(usage, right)] == ["digital_signature"]
    assert list(certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == [CLIENT]
    assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert certificate.subject.rfc4514_string() == "CN=cam-1"
    assert certificate.signature_hash_algorithm is not None
    assert certificate.signature_hash_algorithm.name == "sha256"


def test_serials_are_random_and_never_twice() -> None:
    serials = {sign().serial_number for _ in range(50)}
    assert len(serials) == 50
    assert max(serial.bit_length() for serial in serials) > 150
    assert all(0 < serial < 1 << 159 for serial in serials)


def test_a_clock_a_little_behind_accepts_a_fresh_certificate() -> None:
    assert verify(sign(), NOW - timedelta(minutes=4)).device_id == "cam-1"
    brief = sign(lifetime=timedelta(minutes=2))
    assert brief.not_valid_before_utc == NOW - timedelta(minutes=1)
    assert brief.not_valid_after_utc == NOW + timedelta(minutes=2)


def test_nothing_is_signed_outside_the_authority_s_own_time() -> None:
    end = CA.certificate.not_valid_after_utc
    assert sign(now=end - timedelta(hours=1)).not_valid_after_utc == end
    for now in (end, CA.certificate.not_valid_before_utc - timedelta(seconds=1)):
        with pytest.raises(profiles.AuthorityExpiredError):
            sign(now=now)


def test_issuing_authorities_are_narrow_and_sign_no_further_ones() -> None:
    constraints = CA.certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    assert constraints.critical
    assert constraints.value.path_length == 0
    assert list(CA.certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == [CLIENT]


def test_a_successor_of_an_issuing_authority_lives_beside_it() -> None:
    root_key = new_key()
    root = profiles.sign_root(root_key, TRUST_DOMAIN, NOW)

    def issuing(now: datetime) -> FileCa:
        key = new_key()
        certificate = profiles.sign_issuing_ca(
            root, root_key, key.public_key(), trust_domain=TRUST_DOMAIN, name="CA", usages=[CLIENT], now=now
        )
        return FileCa(certificate, (), key)

    old, new = issuing(NOW), issuing(NOW + 1000 * DAY)
    both = {profiles.subject_key_id(one.certificate): one.certificate for one in (old, new)}
    now = NOW + 1001 * DAY
    for ca in (old, new):
        certificate = sign(ca, now=now)
        verify_issuer(certificate, both)
        found = verify_use(certificate, TRUST_DOMAIN, now)
        assert (found.device_id, found.serial) == ("cam-1", certificate.serial_number)


def test_time_of_a_certificate_is_checked_on_both_ends() -> None:
    certificate = sign()
    assert verify(certificate, NOW + DAY).serial == certificate.serial_number
    assert reason(certificate, NOW + DAY + timedelta(seconds=1)) == "certificate_expired"
    assert reason(certificate, NOW - timedelta(minutes=6)) == "certificate_not_yet_valid"


def test_strangers_and_impostors_of_our_authority_prove_nothing() -> None:
    assert reason(sign(make_ca())) == "certificate_unknown_ca"
    impostor = FileCa(CA.certificate, (), new_key())  # our CA's name and key id, another's key
    assert reason(sign(impostor)) == "certificate_unknown_ca"
    nameless = Authority("someone")
    leaf = make_certificate("x", new_key().public_key(), nameless.as_issuer(), usage=CLIENT, at=NOW)
    assert reason(leaf) == "certificate_unknown_ca"


def uri(text: str) -> x509.UniformResourceIdentifier:
    return x509.UniformResourceIdentifier(text)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ((), "certificate_malformed"),
        ((x509.DNSName("cam-1"),), "certificate_malformed"),
        ((uri("spiffe://fleet.test/device/a"), uri("spiffe://fleet.test/device/b")), "certificate_malformed"),
        ((uri("spiffe://fleet.test/device/a"), x509.DNSName("a")), "certificate_malformed"),
        ((uri("spiffe://fleet.test/device/a/b"),), "certificate_malformed"),
        ((uri("spiffe://fleet.test/device/"),), "certificate_malformed"),
        ((uri("spiffe://fleet.test/device/a.b"),), "certificate_malformed"),
        ((uri("spiffe://fleet.test/device/..%2fadmin"),), "certificate_malformed"),
        ((uri("spiffe://fleet.test/server/a"),), "certificate_other_domain"),
        ((uri("spiffe://fleet.test.evil/device/a"),), "certificate_other_domain"),
        ((uri("https://fleet.test/device/a"),), "certificate_other_domain"),
    ],
)
def test_only_one_name_of_our_domain_names_a_device(
    names: tuple[x509.GeneralName, ...], expected: str
) -> None:
    certificate = foreign(*names)
    assert reason(certificate) == expected
    with pytest.raises(CertificateRefusedError):
        identify_device(TRUST_DOMAIN, certificate)


def test_only_a_client_s_leaf_is_a_device() -> None:
    name = uri("spiffe://fleet.test/device/cam-1")
    assert verify(foreign(name)).device_id == "cam-1"
    assert reason(foreign(name, usage=ExtendedKeyUsageOID.SERVER_AUTH)) == "certificate_wrong_purpose"
    assert reason(foreign(name, usage=None)) == "certificate_malformed"  # a CA, without extended usage
    both = make_ca(ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE)
    assert reason(both.certificate) == "certificate_unknown_ca"


def test_renewal_is_due_at_half_of_the_lifetime() -> None:
    certificate = sign(lifetime=timedelta(days=2))
    half = (
        certificate.not_valid_before_utc
        + (certificate.not_valid_after_utc - certificate.not_valid_before_utc) / 2
    )
    assert not is_renewal_due(certificate, half - timedelta(seconds=1))
    assert is_renewal_due(certificate, half)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_junk_is_no_certificate(junk: bytes) -> None:
    with pytest.raises(CertificateRefusedError):
        parse_certificate(junk)


@pytest.mark.filterwarnings("ignore:Parsed a serial number")
@settings(max_examples=600, deadline=None)
@given(st.integers(0, len(GOOD) - 1), st.integers(1, 255))
def test_a_changed_byte_is_refused_as_certificate(at: int, flip: int) -> None:
    der = bytearray(GOOD)
    der[at] ^= flip
    with pytest.raises(CertificateRefusedError):
        verify(parse_certificate(bytes(der)))


def test_a_certificate_has_a_size_limit() -> None:
    with pytest.raises(CertificateRefusedError, match="at most"):
        parse_certificate(GOOD + bytes(17_000))


REQUEST = make_csr("cam-1").public_bytes(Encoding.DER)


@settings(max_examples=600, deadline=None)
@given(st.integers(0, len(REQUEST) - 1), st.integers(1, 255))
def test_a_changed_byte_is_refused_as_request(at: int, flip: int) -> None:
    der = bytearray(REQUEST)
    der[at] ^= flip
    with pytest.raises(InvalidInputError):
        check_csr(parse_csr_der(bytes(der)))


def test_a_signature_is_a_whole_number_of_bytes() -> None:
    """A bit string may leave bits unused, DER's may not: one request is one sequence of bytes."""
    key = ec.generate_private_key(ec.SECP256R1())
    while (der := bytearray(make_csr("cam-1", key=key).public_bytes(Encoding.DER)))[-1] & 1:
        continue
    length = len(x509.load_der_x509_csr(bytes(der)).signature)
    der[-length - 1] = 1
    with pytest.raises(InvalidInputError, match="DER"):
        parse_csr_der(bytes(der))


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=400))
def test_junk_is_no_request(junk: bytes) -> None:
    with pytest.raises(InvalidInputError):
        check_csr(parse_csr_der(junk))


@pytest.mark.parametrize(
    "key",
    [
        ec.generate_private_key(ec.SECP384R1()),
        ec.generate_private_key(ec.SECP256K1()),
        rsa.generate_private_key(65537, 2048),
        ed25519.Ed25519PrivateKey.generate(),
    ],
    ids=["p384", "k256", "rsa", "ed25519"],
)
def test_only_p256_keys_are_certified(
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey,
) -> None:
    digest = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    csr = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, digest)
    with pytest.raises(CsrRefusedError) as caught:
        check_csr(x509.load_der_x509_csr(csr.public_bytes(Encoding.DER)))
    assert caught.value.details["reason"] == "key_type"


def test_another_s_key_cannot_be_certified() -> None:
    victim, thief = new_key(), new_key()
    request = asn1_csr.CertificationRequest.load(make_csr("cam-1", key=victim).public_bytes(Encoding.DER))
    tbs = request["certification_request_info"].dump()
    request["signature"] = thief.sign(tbs, ec.ECDSA(hashes.SHA256()))
    with pytest.raises(CsrRefusedError) as caught:
        check_csr(x509.load_der_x509_csr(request.dump(force=True)))
    assert caught.value.details["reason"] == "not_proven"


def test_an_ecdsa_signature_with_null_parameters_is_named_as_such() -> None:
    """tpm2-openssl writes requests so."""
    request = asn1_csr.CertificationRequest.load(REQUEST)
    request["signature_algorithm"]["parameters"] = core.Null()
    with pytest.raises(InvalidInputError, match="NULL") as caught:
        parse_csr_der(request.dump(force=True))
    assert "PKCS#11" in caught.value.hint
