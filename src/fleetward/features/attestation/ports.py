"""A device's TPM, as attestation and the boot stage see it. Implemented in `outside/keys/tpm`.

Byte values are the TPM library's own structures, so that the server can verify them without a TSS.
"""

from typing import Protocol

from fleetward.features.devices.model import KeyTier


class AttestationDevice(Protocol):
    """A TPM 2.0. Operations raise KeyUnavailableError when it cannot be reached or refuses."""

    @property
    def tier(self) -> KeyTier: ...

    def ek_certificate_chain(self) -> list[bytes]:
        """Return the endorsement key certificate and known issuers, DER, leaf first."""
        ...

    def ek_public(self) -> bytes:
        """Return the endorsement key's TPM2B_PUBLIC."""
        ...

    def ak_public(self) -> bytes:
        """Return the attestation key's TPM2B_PUBLIC; the same key at every call."""
        ...

    def activate_credential(self, credential_blob: bytes, encrypted_secret: bytes) -> bytes:
        """Return the secret of a TPM2B_ID_OBJECT and TPM2B_ENCRYPTED_SECRET (TPM2_ActivateCredential).

        Raises:
            ChallengeRefusedError: it was not made for this chip and its attestation key.
        """
        ...

    def certify_key(self, label: str, nonce: bytes) -> tuple[bytes, bytes]:
        """Return TPMS_ATTEST and TPMT_SIGNATURE by the attestation key over key `label` (TPM2_Certify)."""
        ...

    def quote(self, nonce: bytes, pcrs: tuple[int, ...]) -> tuple[bytes, bytes]:
        """Return TPMS_ATTEST and TPMT_SIGNATURE over these PCRs of the SHA-256 bank (TPM2_Quote)."""
        ...

    def read_pcrs(self, pcrs: tuple[int, ...]) -> dict[int, bytes]:
        """Return PCR values of the SHA-256 bank."""
        ...

    def extend_pcr(self, index: int, digest: bytes) -> None:
        """Extend a PCR of the SHA-256 bank with a 32-byte digest."""
        ...

    def read_counter(self) -> int:
        """Return the anti-rollback counter; 0 on a chip that never advanced it."""
        ...

    def advance_counter(self, to: int) -> None:
        """Raise the anti-rollback counter to `to`; it never goes down, and a lower `to` changes nothing."""
        ...
