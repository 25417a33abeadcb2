"""What a TPM keeps in its NV memory: endorsement certificates, and the anti-rollback counter."""

from typing import Any

from fleetward.base.errors import KeyUnavailableError

_COUNTER_INDEX, _BASE_INDEX = 0x01500F10, 0x01500F11
_COUNTER_BYTES = 8
_PIECE_BYTES = 512
# Where chips keep the issuers of their EK certificates, one after another over as many indices as they need
# (TCG EK Credential Profile, section 2.2.1.5.2; Intel from the 11th generation on).
_EK_ISSUERS = range(0x01C00100, 0x01C00200)
_MAX_EK_ISSUERS = 5


def list_handles(tss: Any, esys: Any, kind: Any) -> list[int]:
    """Return the handles of a kind (TPM2_HT) that the chip holds."""
    _, found = esys.get_capability(tss.TPM2_CAP.HANDLES, int(kind) << 24, tss.lib.TPM2_MAX_CAP_HANDLES)
    return [int(handle) for handle in found.data.handles]


def find_content(tss: Any, esys: Any, index: int) -> bytes | None:
    """Return an NV index's content, read in pieces a TPM hands out; None when it is not defined."""
    if not _is_defined(tss, esys, index):
        return None
    handle = esys.tr_from_tpmpublic(index)
    size = int(esys.nv_read_public(handle)[0].nvPublic.dataSize)
    content = b""
    while len(content) < size:
        content += bytes(esys.nv_read(handle, min(_PIECE_BYTES, size - len(content)), len(content)))
    return content


def read_ek_issuers(tss: Any, esys: Any) -> list[bytes]:
    """Return the certificates between the endorsement key's and its vendor's root that the chip keeps, DER.

    Padding ends them; of more than five the nearest to the endorsement key are taken.
    """
    present = sorted(set(list_handles(tss, esys, tss.TPM2_HT.NV_INDEX)) & set(_EK_ISSUERS))
    content = b"".join(find_content(tss, esys, index) or b"" for index in present)
    found: list[bytes] = []
    while content[:2] == b"\x30\x82" and len(found) < _MAX_EK_ISSUERS:
        found.append(trim_der(content))
        content = content[len(found[-1]) :]
    return found


def read_counter(tss: Any, esys: Any) -> int:
    """Return how often the counter was advanced; 0 before the first time."""
    counter, base = find_content(tss, esys, _COUNTER_INDEX), find_content(tss, esys, _BASE_INDEX)
    if counter is None or base is None:
        return 0
    return int.from_bytes(counter, "big") - int.from_bytes(base, "big")


def advance_counter(tss: Any, esys: Any, to: int) -> None:
    """Bring the counter to at least `to`; a chip's counter never goes back."""
    index, base = _ensure_counter(tss, esys)
    while int.from_bytes(bytes(esys.nv_read(index, _COUNTER_BYTES)), "big") - base < to:
        esys.nv_increment(index)


def trim_der(content: bytes) -> bytes:
    """Return the certificate at the start of an NV index, which may be padded. Raises KeyUnavailableError."""
    if len(content) < 4 or content[0] != 0x30 or content[1] != 0x82:  # noqa: PLR2004 - DER SEQUENCE, long form
        raise KeyUnavailableError("TPM: expected a DER certificate in its NV memory, found something else")
    return content[: 4 + int.from_bytes(content[2:4], "big")]


def _ensure_counter(tss: Any, esys: Any) -> tuple[Any, int]:
    """Return the counter and its value at rest.

    A new TPM counter starts at the highest any counter of the chip has had, so its first value is written to
    a second index, which is then locked for good.
    """
    nv = tss.TPMA_NV
    access = nv.OWNERREAD | nv.OWNERWRITE | nv.AUTHREAD | nv.AUTHWRITE | nv.NO_DA
    if not _is_defined(tss, esys, _COUNTER_INDEX):
        _define(tss, esys, _COUNTER_INDEX, access | nv(tss.TPM2_NT.COUNTER << nv.TPM2_NT_SHIFT))
    counter = esys.tr_from_tpmpublic(_COUNTER_INDEX)
    if not _is_written(tss, esys, counter):
        esys.nv_increment(counter)
    if not _is_defined(tss, esys, _BASE_INDEX):
        _define(tss, esys, _BASE_INDEX, access | nv.WRITEDEFINE)
    base = esys.tr_from_tpmpublic(_BASE_INDEX)
    if not _is_written(tss, esys, base):
        esys.nv_write(base, bytes(esys.nv_read(counter, _COUNTER_BYTES)))
        esys.nv_write_lock(base)
    return counter, int.from_bytes(bytes(esys.nv_read(base, _COUNTER_BYTES)), "big")


def _is_defined(tss: Any, esys: Any, index: int) -> bool:
    return index in list_handles(tss, esys, tss.TPM2_HT.NV_INDEX)


def _define(tss: Any, esys: Any, index: int, attributes: Any) -> None:
    public = tss.TPMS_NV_PUBLIC(
        nvIndex=index, nameAlg=tss.TPM2_ALG.SHA256, attributes=attributes, dataSize=_COUNTER_BYTES
    )
    esys.nv_define_space(None, tss.TPM2B_NV_PUBLIC(nvPublic=public))


def _is_written(tss: Any, esys: Any, handle: Any) -> bool:
    return bool(esys.nv_read_public(handle)[0].nvPublic.attributes & tss.TPMA_NV.WRITTEN)
