"""Issue a device's certificate; none leaves unrecorded, unaudited and untold."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from fleetward.base import journal
from fleetward.base.clock import render_time
from fleetward.base.db import Tx
from fleetward.base.events import emit
from fleetward.features.pki import store
from fleetward.features.pki.authority.profiles import sign_device, subject_key_id
from fleetward.features.pki.model import CertificateRecord, RevocationReason, check_csr, surplus_of
from fleetward.features.pki.service.context import PkiContext
from fleetward.features.pki.service.revoking import revoke_serials


@dataclass(frozen=True)
class IssuedCertificate:
    """A new certificate and its issuers, nearest first, without the root."""

    certificate: x509.Certificate
    chain: tuple[x509.Certificate, ...]

    @property
    def serial(self) -> int:
        return self.certificate.serial_number

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(Encoding.DER)


def issue_device_certificate(
    tx: Tx,
    context: PkiContext,
    device_id: str,
    csr: x509.CertificateSigningRequest,
    lifetime: timedelta,
    *,
    in_use: int | None = None,
) -> IssuedCertificate:
    """Sign a certificate for the key of `csr`; none leaves this function unrecorded.

    Whether this device may have one is the caller's to decide. Of a device that is issued one after another
    and connects with none, no more than `MAX_LIVE_CERTIFICATES` stay live.

    Args:
        in_use: the serial that the device asks with, which stays live whatever there is beside it.

    Raises:
        CsrRefusedError: not P-256, or no proof of possession.
        KeyUnavailableError: the CA key cannot be reached.
    """
    ca = context.device_ca
    certificate = sign_device(
        ca, check_csr(csr), trust_domain=context.trust_domain, device_id=device_id, lifetime=lifetime,
        urls=context.urls, now=tx.now,
    )  # fmt: skip
    issued = IssuedCertificate(certificate, (ca.certificate, *ca.chain))
    record = CertificateRecord(
        serial=certificate.serial_number,
        device_id=device_id,
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
        issued_at=_next_in_line(tx, device_id),
        revoked_at=None,
        revocation_reason=None,
    )
    store.insert_certificate(tx, record, issuer=subject_key_id(ca.certificate).hex(), der=issued.der)
    facts: dict[str, Any] = {"serial": f"{record.serial:x}", "not_after": render_time(record.not_after)}
    journal.record(tx, "certificate.issued", f"device:{device_id}", **facts)
    emit(
        tx, "certificate.issued", f"Device {device_id} has a certificate until {facts['not_after']}.",
        device=device_id, **facts,
    )  # fmt: skip
    surplus = surplus_of(store.list_live_serials(tx, device_id), in_use)
    revoke_serials(
        tx, device_id, surplus, "never used, and later ones were issued", RevocationReason.SUPERSEDED
    )
    return issued


def _next_in_line(tx: Tx, device_id: str) -> datetime:
    """Return now, or the first moment after the device's last issue: the clock may have been set back.

    What supersedes what is told by this time alone.
    """
    last = store.find_last_issued(tx, device_id)
    return tx.now if last is None else max(tx.now, last + timedelta(microseconds=1))
