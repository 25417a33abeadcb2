"""Endorsement keys by the registry of the TCG's EK Credential Profile (2.6, section 2.2.1.4 and annex B).

A chip keeps a certificate for each endorsement key its maker certified; the key itself is made again from its
template. Templates of the low range open by a policy, those of the high range by their empty password.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from fleetward.base.errors import KeyUnavailableError
from fleetward.outside.keys import tpm_nv as nv
from fleetward.wire.der import MALFORMED

# Where platforms keep endorsement keys (TCG TPM v2.0 Provisioning Guidance, section 7.8).
_EK_HANDLES = range(0x81010000, 0x81010100)


@dataclass(frozen=True)
class EkKind:
    """One row of the registry, and where its key is kept once it was made."""

    template: str
    certificate_index: int
    handle: int


KINDS = (
    EkKind("EK-RSA2048", 0x01C00002, 0x81010001),  # L-1
    EkKind("EK-ECC256", 0x01C0000A, 0x81010016),  # L-2
    EkKind("EK-HIGH-RSA2048", 0x01C00012, 0x81010012),  # H-1
    EkKind("EK-HIGH-ECC256", 0x01C00014, 0x81010014),  # H-2
    EkKind("EK-HIGH-ECC384", 0x01C00016, 0x81010016),  # H-3
    EkKind("EK-HIGH-ECC521", 0x01C00018, 0x81010018),  # H-4
    EkKind("EK-HIGH-RSA3072", 0x01C0001C, 0x8101001C),  # H-6
    EkKind("EK-HIGH-RSA4096", 0x01C0001E, 0x8101001E),  # H-7
)


def find_certificate(tss: Any, esys: Any) -> tuple[EkKind, bytes] | None:
    """Return the first kind of key this chip has a certificate of, and that certificate in DER."""
    for kind in KINDS:
        found = nv.find_content(tss, esys, kind.certificate_index)
        if found is not None:
            return kind, nv.trim_der(found)
    return None


def find_persistent(tss: Any, esys: Any, kind: EkKind, certificate: bytes) -> Any | None:
    """Return the key of `certificate` where the chip keeps it, at whatever handle; None when it must be made.

    L-2 and H-3 are kept at one handle by those who made chips and tools. A certificate that cannot be read
    (some makers' are not DER) is compared with nothing: then the kind's own handle is believed.
    """
    certified = _spki(certificate)
    for handle in _handles(tss, esys, kind):
        found = esys.tr_from_tpmpublic(handle)
        if certified is None and handle == kind.handle:
            return found
        if certified is not None and _is_of(esys.read_public(found)[0], certified):
            return found
    return None


def make(tss: Any, esys: Any, kind: EkKind, certificate: bytes) -> Any:
    """Return the transient key that the template makes, which must be the one certified.

    Raises:
        KeyUnavailableError: the maker used another template, or the chip was given another seed since.
    """
    from tpm2_pytss import utils  # noqa: PLC0415 - an extra that other tiers need not have

    def read(index: int) -> bytes:
        found = nv.find_content(tss, esys, int(index))
        if found is None:
            raise utils.NoSuchIndex(index)
        return found

    _, template = utils.create_ek_template(kind.template, read)
    key, public, *_ = esys.create_primary(tss.TPM2B_SENSITIVE_CREATE(), template, tss.ESYS_TR.ENDORSEMENT)
    certified = _spki(certificate)
    if certified is not None and not _is_of(public, certified):
        esys.flush_context(key)
        raise KeyUnavailableError(
            f"TPM: expected {kind.template} to make the key that the certificate at "
            f"{kind.certificate_index:#x} names, found another",
            hint="Was the endorsement seed changed (tpm2_changeeps)? Has its maker a template of its own?",
        )
    return key


def free_handle(tss: Any, esys: Any, kind: EkKind) -> int:
    """Return where to keep a key of this kind: its own place, or the first free one."""
    present = set(nv.list_handles(tss, esys, tss.TPM2_HT.PERSISTENT))
    return next(one for one in (kind.handle, *reversed(_EK_HANDLES)) if one not in present)


def _handles(tss: Any, esys: Any, kind: EkKind) -> Iterator[int]:
    present = [one for one in nv.list_handles(tss, esys, tss.TPM2_HT.PERSISTENT) if one in _EK_HANDLES]
    yield from sorted(present, key=lambda one: (one != kind.handle, one))


def _spki(certificate: bytes) -> bytes | None:
    try:
        key = x509.load_der_x509_certificate(certificate).public_key()
        return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    except MALFORMED:
        return None


def _is_of(public: Any, spki: bytes) -> bool:
    try:
        return bool(public.to_der() == spki)
    except (ValueError, TypeError):  # a kind of key that has no SubjectPublicKeyInfo
        return False
