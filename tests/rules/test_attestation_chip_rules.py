"""Which chips and keys are believed: certificates of a vendor of our own, right and wrong."""

from collections.abc import Sequence
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from hypothesis import given, settings
from hypothesis import strategies as st

from fleetward.base.errors import InvalidInputError
from fleetward.features.attestation.model import (
    ChipRefusedError,
    check_attestation_key,
    verify_ek_chain,
    verify_key_certification,
)
from fleetward.wire import tpm
from support.paper_tpm import ST_CERTIFY, PaperTpm, render_public, sized
from support.tpm_vendor import (
    EK_USAGE,
    MAKER,
    T0,
    WEB_USAGE,
    Authority,
    Extension,
    ca_extensions,
    der_of,
    describe,
    ek_extensions,
    usage,
)

NOW = T0 + timedelta(days=100)
ROOT = Authority("Vendor Root")
ISSUER = Authority("Vendor Issuer", ROOT)
STRANGER = Authority("Vendor Root")
EK = ec.generate_private_key(ec.SECP256R1()).public_key()
CRITICAL_UNKNOWN = (x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\5\0"), True)
PARTLY = {oid: text for oid, text in MAKER.items() if not oid.endswith(".3")}


def reason_of(error: pytest.ExceptionInfo[ChipRefusedError]) -> object:
    return error.value.details["reason"]


def named(*names: x509.GeneralName) -> Extension:
    return x509.SubjectAlternativeName(names), True


def chain(extensions: Sequence[Extension], issuer: Authority = ISSUER) -> list[bytes]:
    return [der_of(issuer.sign(EK, extensions)), issuer.der]


def without(kind: type[x509.ExtensionType]) -> list[Extension]:
    return [one for one in ek_extensions(EK) if not isinstance(one[0], kind)]


@pytest.mark.parametrize(
    "key",
    [
        EK,
        ec.generate_private_key(ec.SECP384R1()).public_key(),
        rsa.generate_private_key(65537, 2048).public_key(),
    ],
)
def test_a_chip_of_a_trusted_vendor_is_known_by_its_key(key: ec.EllipticCurvePublicKey) -> None:
    leaf = ISSUER.sign(key, ek_extensions(key))
    found = verify_ek_chain([der_of(leaf), ISSUER.der], [ROOT.certificate], NOW)
    assert found.key == key
    assert len(found.fingerprint) == 64


def test_the_platform_may_know_the_intermediate_itself() -> None:
    leaf = der_of(ISSUER.sign(EK, ek_extensions(EK)))
    assert verify_ek_chain([leaf], [ISSUER.certificate, ROOT.certificate], NOW).key == EK


def test_an_intermediate_alone_is_no_root_of_trust() -> None:
    with pytest.raises(ChipRefusedError) as refused:
        verify_ek_chain(chain(ek_extensions(EK)), [ISSUER.certificate], NOW)
    assert reason_of(refused) == "ek_vendor_unknown"


def test_a_vendor_may_restrict_its_authority_to_endorsement_keys() -> None:
    issuer = Authority("CA", ROOT, [*ca_extensions(), (x509.ExtendedKeyUsage([EK_USAGE]), False)])
    assert verify_ek_chain(chain(ek_extensions(EK), issuer), [ROOT.certificate], NOW).key == EK


def test_a_vendor_may_mark_its_policies_as_critical() -> None:
    """As STMicroelectronics and Intel do."""
    identifier = x509.ObjectIdentifier("1.3.6.1.4.1.4146.1.40")
    policies = (x509.CertificatePolicies([x509.PolicyInformation(identifier, None)]), True)
    issuer = Authority("CA", ROOT, [*ca_extensions(), policies])
    assert verify_ek_chain(chain([*ek_extensions(EK), policies], issuer), [ROOT.certificate], NOW).key == EK


@pytest.mark.parametrize("anchors", [[], [STRANGER.certificate]])
def test_a_chip_of_an_unknown_vendor_is_refused(anchors: list[x509.Certificate]) -> None:
    with pytest.raises(ChipRefusedError) as refused:
        verify_ek_chain(chain(ek_extensions(EK)), anchors, NOW)
    assert reason_of(refused) == "ek_vendor_unknown"


@pytest.mark.parametrize("days", [-101, 3700])
def test_a_certificate_counts_in_its_time_only(days: int) -> None:
    with pytest.raises(ChipRefusedError) as refused:
        verify_ek_chain(chain(ek_extensions(EK)), [ROOT.certificate], NOW + timedelta(days=days))
    assert reason_of(refused) == "ek_vendor_unknown"


@pytest.mark.parametrize(
    "issuer",
    [
        Authority("CA", ROOT, [(x509.BasicConstraints(ca=False, path_length=None), True)]),
        Authority("CA", ROOT, []),
        Authority("CA", ROOT, [(x509.BasicConstraints(ca=True, path_length=None), True), (usage(), True)]),
        Authority("CA", ROOT, [*ca_extensions(), WEB_USAGE]),
        Authority("CA", ROOT, [*ca_extensions(), CRITICAL_UNKNOWN]),
        Authority("CA", Authority("Vendor Root", None, ca_extensions(path_length=0), ROOT.key)),
    ],
    ids=["leaf", "unsaid", "no-signing", "web", "unknown-critical", "too-deep"],
)
def test_who_is_no_authority_for_chips_certifies_none(issuer: Authority) -> None:
    root = issuer.parent
    assert root
    with pytest.raises(ChipRefusedError) as refused:
        verify_ek_chain(chain(ek_extensions(EK), issuer), [root.certificate], NOW)
    assert reason_of(refused) == "ek_vendor_unknown"


@pytest.mark.parametrize(
    ("extensions", "reason"),
    [
        (without(x509.ExtendedKeyUsage), "ek_malformed"),
        ([*without(x509.ExtendedKeyUsage), WEB_USAGE], "ek_other_usage"),
        ([*without(x509.BasicConstraints), *ca_extensions()[:1]], "ek_other_usage"),
        (without(x509.SubjectAlternativeName), "ek_malformed"),
        ([*without(x509.SubjectAlternativeName), (describe(PARTLY), True)], "ek_malformed"),
        ([*without(x509.SubjectAlternativeName), named(x509.DNSName("a"))], "ek_malformed"),
        ([*ek_extensions(EK), CRITICAL_UNKNOWN], "ek_vendor_unknown"),
    ],
    ids=["no-usage", "web-usage", "authority", "no-maker", "no-version", "other-name", "unknown-critical"],
)  # fmt: skip
def test_a_certificate_that_is_no_endorsement_keys_is_refused(
    extensions: list[Extension], reason: str
) -> None:
    with pytest.raises(ChipRefusedError) as refused:
        verify_ek_chain(chain(extensions), [ROOT.certificate], NOW)
    assert reason_of(refused) == reason


def test_a_key_we_cannot_challenge_is_refused() -> None:
    key = ed25519.Ed25519PrivateKey.generate().public_key()
    leaf = ISSUER.sign(key, ek_extensions(EK))  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError, match="RSA or ECC"):
        verify_ek_chain([der_of(leaf), ISSUER.der], [ROOT.certificate], NOW)


@pytest.mark.parametrize("found", [[], [b""], [bytes(9000)], [ROOT.der + b"\0"]])
def test_what_is_no_certificate_is_refused(found: list[bytes]) -> None:
    with pytest.raises(ChipRefusedError) as refused:
        verify_ek_chain(found, [ROOT.certificate], NOW)
    assert reason_of(refused) == "ek_malformed"


GOOD = chain(ek_extensions(EK))


def test_a_signature_with_unused_bits_is_refused() -> None:
    """Half of all signatures end in a bit that may be called unused, and still verify."""
    for _ in range(8):
        leaf, authority = chain(ek_extensions(EK))
        at = len(leaf) - len(x509.load_der_x509_certificate(leaf).signature) - 1
        with pytest.raises(ChipRefusedError):
            verify_ek_chain([leaf[:at] + b"\x01" + leaf[at + 1 :], authority], [ROOT.certificate], NOW)


@pytest.mark.filterwarnings("ignore:Parsed a serial number")
@settings(max_examples=300, deadline=None)
@given(st.integers(0, len(GOOD[0]) - 1), st.integers(1, 255))
def test_no_changed_certificate_passes(at: int, change: int) -> None:
    leaf = GOOD[0][:at] + bytes([GOOD[0][at] ^ change]) + GOOD[0][at + 1 :]
    with pytest.raises((ChipRefusedError, InvalidInputError)):
        verify_ek_chain([leaf, GOOD[1]], [ROOT.certificate], NOW)


@pytest.mark.parametrize(
    "key", [ec.generate_private_key(ec.SECP256R1()), rsa.generate_private_key(65537, 2048)]
)
def test_an_attestation_key_signs_only_what_its_chip_says(
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey,
) -> None:
    assert check_attestation_key(render_public(key.public_key())).key == key.public_key()


@pytest.mark.parametrize(
    "attributes",
    [
        *(
            tpm.AK_ATTRIBUTES & ~bit
            for bit in (
                tpm.FIXED_TPM,
                tpm.FIXED_PARENT,
                tpm.SENSITIVE_DATA_ORIGIN,
                tpm.RESTRICTED,
                tpm.SIGN_ENCRYPT,
            )
        ),
        tpm.AK_ATTRIBUTES | tpm.DECRYPT,
        tpm.DEVICE_KEY_ATTRIBUTES,
        0,
    ],
)
def test_a_key_with_other_attributes_is_no_attestation_key(attributes: int) -> None:
    with pytest.raises(ChipRefusedError, match="restricted"):
        check_attestation_key(render_public(EK, attributes))


@pytest.mark.parametrize(
    "scheme", [(tpm.ALG_NULL, tpm.ALG_NULL), (tpm.ALG_ECDSA, 0x04), (0x1A, tpm.ALG_SHA256)]
)
def test_an_attestation_key_of_another_scheme_is_refused(scheme: tuple[int, int]) -> None:
    with pytest.raises(ChipRefusedError, match="restricted"):
        check_attestation_key(render_public(EK, scheme=scheme))


CHIP, OTHER, NONCE = PaperTpm(), PaperTpm(), b"n" * 32


def test_a_chip_certifies_its_keys() -> None:
    statement = CHIP.certify(EK, NONCE)
    verify_key_certification(CHIP.ak, EK, statement, CHIP.sign(statement), NONCE)


@pytest.mark.parametrize(
    ("statement", "signer", "reason"),
    [
        (CHIP.certify(EK, NONCE), OTHER, "certify_signature"),
        (CHIP.certify(EK, b"m" * 32), CHIP, "certify_stale"),
        (CHIP.certify(EK, b""), CHIP, "certify_stale"),
        (CHIP.certify(ISSUER.key.public_key(), NONCE), CHIP, "certify_other_key"),
        (
            CHIP.state(
                ST_CERTIFY, NONCE, sized(tpm.parse_public(render_public(EK, 0)).name) + sized(b"")
            ),
            CHIP,
            "certify_other_key",
        ),
    ],
    ids=["other-chip", "old", "no-nonce", "other-key", "other-attributes"],
)  # fmt: skip
def test_a_statement_that_does_not_fit_is_refused(statement: bytes, signer: PaperTpm, reason: str) -> None:
    with pytest.raises(ChipRefusedError) as refused:
        verify_key_certification(CHIP.ak, EK, statement, signer.sign(statement), NONCE)
    assert reason_of(refused) == reason


def test_a_statement_of_another_kind_is_refused() -> None:
    quote = CHIP.evidence(NONCE).quote
    with pytest.raises(InvalidInputError):
        verify_key_certification(CHIP.ak, EK, quote, CHIP.sign(quote), NONCE)
