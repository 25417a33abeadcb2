"""Endorsement keys of every kind in the TCG's registry that swtpm can make, from certificate to credential.

swtpm_setup makes L-1 and H-3 of its own; the others are certified here and put where their makers put them.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, load_der_public_key

from fleetward.base.errors import KeyUnavailableError
from fleetward.outside.keys.tpm import TpmKeyStore
from fleetward.outside.keys.tpm_ek import KINDS, EkKind
from fleetward.wire import tpm
from support.authority import Authority
from support.swtpm import Swtpm, running_swtpm

pytss = pytest.importorskip("tpm2_pytss", reason="tpm2-pytss is not installed (extra tpm, needs libtss2-dev)")
utils = pytest.importorskip("tpm2_pytss.utils")
# libtpms makes no RSA keys of 4096 bits.
MADE = [one for one in KINDS if one.template != "EK-HIGH-RSA4096"]
MAKER = Authority("maker")


@pytest.fixture(scope="module")
def chip(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Swtpm]:
    with running_swtpm(tmp_path_factory.mktemp("chip")) as started:
        yield started


@pytest.fixture
def bare(chip: Swtpm) -> Swtpm:
    """The chip without any certificate of an endorsement key."""
    with pytss.ESAPI(chip.tcti) as esys:
        _, found = esys.get_capability(pytss.TPM2_CAP.HANDLES, 0x01C00000, 64)
        for index in {int(one) for one in found.data.handles} & {one.certificate_index for one in KINDS}:
            esys.nv_undefine_space(esys.tr_from_tpmpublic(index), auth_handle=pytss.ESYS_TR.PLATFORM)
    return chip


def certify(chip: Swtpm, kind: EkKind, key: object = None) -> bytes:
    """Put a certificate of the key that the kind's template makes, or of `key`, into the chip."""
    with pytss.ESAPI(chip.tcti) as esys:
        if key is None:
            _, template = utils.create_ek_template(kind.template, lambda index: found(esys, kind, index))
            made, public, *_ = esys.create_primary(
                pytss.TPM2B_SENSITIVE_CREATE(), template, pytss.ESYS_TR.ENDORSEMENT
            )
            esys.flush_context(made)
            key = load_der_public_key(public.to_der())
        at = MAKER.certificate.not_valid_before_utc
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "chip")])
        builder = x509.CertificateBuilder(name, name, key, 7, at, MAKER.certificate.not_valid_after_utc)  # type: ignore[arg-type]  # any kind of public key
        content = builder.sign(MAKER.key, hashes.SHA256()).public_bytes(Encoding.DER)
        access = pytss.TPMA_NV.OWNERWRITE | pytss.TPMA_NV.AUTHWRITE | pytss.TPMA_NV.AUTHREAD
        space = pytss.TPMS_NV_PUBLIC(
            nvIndex=kind.certificate_index,
            nameAlg=pytss.TPM2_ALG.SHA256,
            attributes=access | pytss.TPMA_NV.NO_DA,
            dataSize=len(content),
        )
        handle = esys.nv_define_space(None, pytss.TPM2B_NV_PUBLIC(nvPublic=space))
        esys.nv_write(handle, content)
    return content


def found(esys: object, kind: EkKind, index: int) -> bytes:
    """Say that there is a certificate, which templates of the high range ask for, and nothing else."""
    del esys
    if int(index) == kind.certificate_index:
        return b""
    raise utils.NoSuchIndex(index)


def opens(store: TpmKeyStore) -> bool:
    """Whether the chip opens what the platform makes for the key of its certificate."""
    certificate = x509.load_der_x509_certificate(store.ek_certificate_chain()[0])
    key = tpm.check_endorsement_key(certificate.public_key())
    name = tpm.parse_public(store.ak_public()).name
    return store.activate_credential(*tpm.make_credential(key, name, b"s" * 32)) == b"s" * 32


def test_what_swtpms_own_maker_certified_opens(chip: Swtpm, tmp_path: Path) -> None:
    store = TpmKeyStore(chip.tcti, tmp_path / "keys")
    assert opens(store)
    with pytss.ESAPI(chip.tcti) as esys:
        esys.nv_undefine_space(esys.tr_from_tpmpublic(0x01C00002), auth_handle=pytss.ESYS_TR.PLATFORM)
    key = x509.load_der_x509_certificate(store.ek_certificate_chain()[0]).public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    assert key.curve.name == "secp384r1"
    assert opens(store)


@pytest.mark.parametrize("kind", MADE, ids=[one.template for one in MADE])
def test_each_kind_of_the_registry_opens(bare: Swtpm, tmp_path: Path, kind: EkKind) -> None:
    certificate = certify(bare, kind)
    store = TpmKeyStore(bare.tcti, tmp_path / "keys")
    assert store.ek_certificate_chain() == [certificate]
    assert opens(store)
    assert opens(store)  # kept in the chip the first time, beside keys of other kinds


def test_a_certificate_of_another_key_is_refused_by_name(bare: Swtpm, tmp_path: Path) -> None:
    certify(bare, KINDS[1], ec.generate_private_key(ec.SECP256R1()).public_key())
    store = TpmKeyStore(bare.tcti, tmp_path / "keys")
    with pytest.raises(KeyUnavailableError, match="EK-ECC256"):
        store.ek_public()


def test_a_chip_without_a_certificate_is_refused_by_name(bare: Swtpm, tmp_path: Path) -> None:
    store = TpmKeyStore(bare.tcti, tmp_path / "keys")
    with pytest.raises(KeyUnavailableError, match="endorsement key certificate"):
        store.ek_public()
