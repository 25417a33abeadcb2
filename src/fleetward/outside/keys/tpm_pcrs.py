"""The platform configuration registers of a TPM, in the bank we measure into: SHA-256."""

from typing import Any

from fleetward.base.errors import KeyUnavailableError


def make_selection(tss: Any, esys: Any, pcrs: tuple[int, ...]) -> Any:
    """Return a selection of registers in the SHA-256 bank, which must be on.

    A TPM extends, reads and quotes nothing of a bank that is off, and calls that a success.

    Raises:
        KeyUnavailableError: the bank is off, or lacks one of the registers.
    """
    _, found = esys.get_capability(tss.TPM2_CAP.PCRS, 0)
    banks = {int(bank.hash): bytes(bank.pcrSelect) for bank in found.data.assignedPCR}
    bits = int.from_bytes(banks.get(int(tss.TPM2_ALG.SHA256), b""), "little")
    missing = [index for index in pcrs if not bits >> index & 1]
    if missing:
        raise KeyUnavailableError(
            f"TPM: expected its SHA-256 bank of PCRs on, found PCR {missing[0]} is not in it",
            hint="Switch it on in the firmware's settings or by `tpm2_pcrallocate sha256:all`, then restart.",
        )
    return tss.TPML_PCR_SELECTION.parse("sha256:" + ",".join(str(index) for index in sorted(pcrs)))


def read_pcrs(tss: Any, esys: Any, pcrs: tuple[int, ...]) -> dict[int, bytes]:
    found = {}
    for index in sorted(pcrs):  # one at a time: a TPM may answer fewer than it was asked
        _, _, digests = esys.pcr_read(make_selection(tss, esys, (index,)))
        found[index] = bytes(digests.digests[0] if hasattr(digests, "digests") else digests[0])
    return found


def extend_pcr(tss: Any, esys: Any, index: int, digest: bytes) -> None:
    make_selection(tss, esys, (index,))
    value = tss.TPMT_HA(hashAlg=tss.TPM2_ALG.SHA256, digest=tss.TPMU_HA(sha256=digest))
    esys.pcr_extend(tss.ESYS_TR(index), tss.TPML_DIGEST_VALUES([value]))
