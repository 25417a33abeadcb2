"""Which chips are believed, and which keys live in them."""

import hashlib
import hmac
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.verification import (
    ClientVerifier,
    Criticality,
    ExtensionPolicy,
    Policy,
    PolicyBuilder,
    Store,
    VerificationError,
)

from fleetward.base.errors import ForbiddenError
from fleetward.wire import tpm
from fleetward.wire.der import MALFORMED, ends_whole

SECRET_BYTES = 32
CHALLENGE_LIFETIME = timedelta(minutes=5)
# TCG EK Credential Profile for TPM 2.0, section 3.2: the usage, and what the SAN says of the chip's maker.
_EK_USAGE = x509.ObjectIdentifier("2.23.133.8.1")
_ANY_USAGE = x509.ObjectIdentifier("2.5.29.37.0")
_MAKER = {
    x509.ObjectIdentifier("2.23.133.2.1"): "manufacturer",
    x509.ObjectIdentifier("2.23.133.2.2"): "model",
    x509.ObjectIdentifier("2.23.133.2.3"): "version",
}
_MAX_EK_BYTES = 8 * 1024


class ChipRefusedError(ForbiddenError):
    """A chip, or a key said to live in one, that proves nothing; `reason` in details says why."""

    code = "chip_refused"


@dataclass(frozen=True)
class EndorsementKey:
    """A chip as its vendor certified it. `fingerprint` is SHA-256 of the SPKI DER, hexadecimal."""

    key: tpm.EndorsementKey
    fingerprint: str


@dataclass(frozen=True)
class AttestationKey:
    """A device's activated attestation key."""

    device_id: str
    ek_fingerprint: str
    public: bytes
    activated_at: datetime

    @property
    def parsed(self) -> tpm.Public:
        return tpm.parse_public(self.public)


def verify_ek_chain(
    chain: Sequence[bytes], anchors: Iterable[x509.Certificate], now: datetime
) -> EndorsementKey:
    """Return the endorsement key that a vendor we trust certified.

    1. Leaf and issuers are X.509. 2. They lead to one of `anchors` by signatures valid at `now` (RFC 5280
    section 6.1; what the leaf may say is the TCG's to rule, not the web's). 3. The leaf is an endorsement
    key's, and no authority's. 4. It names the chip's maker, model and version. 5. We can challenge its key.

    Args:
        chain: DER, leaf first.
        anchors: vendors' roots, and intermediates known besides.

    Raises:
        ChipRefusedError: one of these fails.
        InvalidInputError: a kind of key we cannot challenge.
    """
    if not chain:
        raise _refused("ek_malformed", "it, found none")
    leaf, *issuers = [_load_certificate(der) for der in chain]
    known = list(anchors)
    roots = [one for one in known if one.subject == one.issuer]
    if not roots:
        raise _refused("ek_vendor_unknown", "a trusted vendor, found none yet")
    between = issuers + [one for one in known if one.subject != one.issuer]
    try:
        _make_verifier(roots, now).verify(leaf, between)
    except (VerificationError, *MALFORMED) as error:
        raise _refused("ek_vendor_unknown", "a chain to a trusted vendor, found none") from error
    return _check_ek_leaf(leaf)


def is_authority(certificate: x509.Certificate) -> bool:
    """Whether a certificate may sign others. Raises what `MALFORMED` lists."""
    return any(
        isinstance(one.value, x509.BasicConstraints) and one.value.ca for one in certificate.extensions
    )


def check_attestation_key(ak_public: bytes) -> tpm.Public:
    """Return an attestation key that can only sign what its chip says.

    Raises:
        ChipRefusedError: it is not restricted, not bound to one chip, or can decrypt.
        InvalidInputError: not a TPM2B_PUBLIC of a P-256 or RSA 2048 key.
    """
    public = tpm.parse_public(ak_public)
    demanded = tpm.AK_ATTRIBUTES
    algorithm = tpm.ALG_ECDSA if isinstance(public.key, ec.EllipticCurvePublicKey) else tpm.ALG_RSASSA
    is_bound = public.attributes & demanded == demanded and not public.attributes & tpm.DECRYPT
    if not is_bound or public.scheme != (algorithm, tpm.ALG_SHA256):
        raise ChipRefusedError(
            "attestation key: expected a restricted signing key of one chip, found another",
            hint="It must be fixed to chip and parent, made in it, restricted, and sign with SHA-256.",
            reason="ak_unrestricted",
        )
    return public


def verify_key_certification(
    ak: tpm.Public, key: ec.EllipticCurvePublicKey, certify_info: bytes, signature: bytes, nonce: bytes
) -> None:
    """Pass when the chip of `ak` says that `key` was born in it and never leaves it.

    1. Signed by the attestation key. 2. Over our nonce. 3. The name certified is that of `key` made by our
    template, which fixes its attributes.

    Raises:
        ChipRefusedError: one of these fails.
        InvalidInputError: malformed.
    """
    statement = tpm.parse_certify(certify_info)
    if not tpm.verify_signature(ak.key, signature, certify_info):
        raise _not_certified("certify_signature", "the attestation key's signature")
    if not hmac.compare_digest(statement.nonce, nonce):
        raise _not_certified("certify_stale", "our nonce")
    if not hmac.compare_digest(statement.name, tpm.device_key_name(key)):
        raise _not_certified("certify_other_key", "the key of the request, made by our template")


def hash_secret(secret: bytes) -> bytes:
    return hashlib.sha256(secret).digest()


def _load_certificate(der: bytes) -> x509.Certificate:
    if len(der) > _MAX_EK_BYTES:
        raise _refused("ek_malformed", f"at most {_MAX_EK_BYTES} bytes, found {len(der)}")
    try:
        certificate = x509.load_der_x509_certificate(der)
        is_der = ends_whole(der, certificate.signature)
    except MALFORMED as error:
        raise _refused("ek_malformed", "X.509, found something else") from error
    if not is_der:
        raise _refused("ek_malformed", "X.509 in DER, found another encoding")
    return certificate


def _make_verifier(roots: list[x509.Certificate], now: datetime) -> ClientVerifier:
    """Return what follows chains as TPM vendors make them.

    STMicroelectronics and Intel mark their policies as critical. Any policy is fine with us, so to know the
    extension is to honour it (RFC 5280 section 4.2.1.4); unknown critical ones still refuse.
    """
    authorities, leaves = ExtensionPolicy.webpki_defaults_ca(), ExtensionPolicy.permit_all()
    return (
        PolicyBuilder()
        .store(Store(roots))
        .time(now)
        .extension_policies(
            ca_policy=authorities.may_be_present(
                x509.ExtendedKeyUsage, Criticality.AGNOSTIC, _check_authority_usage
            ).may_be_present(x509.CertificatePolicies, Criticality.AGNOSTIC, None),
            ee_policy=leaves.may_be_present(x509.CertificatePolicies, Criticality.AGNOSTIC, None),
        )
        .build_client_verifier()
    )


def _check_authority_usage(
    _policy: Policy, _certificate: x509.Certificate, usage: x509.ExtendedKeyUsage | None
) -> None:
    """Vendors restrict their CAs to endorsement keys, where the web's rules want clientAuth."""
    if usage is not None and not {_EK_USAGE, _ANY_USAGE} & set(usage):
        raise ValueError("authority for other certificates than endorsement keys")


def _check_ek_leaf(leaf: x509.Certificate) -> EndorsementKey:
    try:
        extensions, key = leaf.extensions, leaf.public_key()
        usage = extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        names = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        spki = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    except (x509.ExtensionNotFound, *MALFORMED) as error:
        raise _refused("ek_malformed", "its usage and its chip named, found one missing") from error
    if is_authority(leaf) or _EK_USAGE not in usage:
        raise _refused("ek_other_usage", "one of an endorsement key, found another")
    said = {attribute.oid for name in names.get_values_for_type(x509.DirectoryName) for attribute in name}
    missing = [what for oid, what in _MAKER.items() if oid not in said]
    if missing:
        raise _refused("ek_malformed", f"the chip's maker named, found no {' and no '.join(missing)}")
    return EndorsementKey(tpm.check_endorsement_key(key), hashlib.sha256(spki).hexdigest())


def _refused(reason: str, expected: str) -> ChipRefusedError:
    return ChipRefusedError(f"endorsement key certificate: expected {expected}", reason=reason)


def _not_certified(reason: str, expected: str) -> ChipRefusedError:
    return ChipRefusedError(f"key certification: expected {expected}, found another", reason=reason)
