"""Use cases of the certificate authority. Each change is audited and told as an event."""

import hashlib
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from fleetward.base.clock import render_time
from fleetward.base.db import IdQuery, Tx
from fleetward.base.errors import NotFoundError
from fleetward.base.events import Severity, emit
from fleetward.features.audit import service as audit
from fleetward.features.pki import store
from fleetward.features.pki.model import (
    CertificateRecord,
    CertificateRefusedError,
    DeviceCertificate,
    EndingCertificate,
    RevocationReason,
    check_csr,
    parse_certificate,
    surplus_of,
    verify_certificate,
)
from fleetward.features.pki.ports import CaSigner
from fleetward.features.pki.profiles import RevocationUrls, sign_device, subject_key_id

MAX_LISTED = 200
KEPT_AFTER_EXPIRY = timedelta(days=90)


@dataclass(frozen=True)
class PkiContext:
    """The authorities of a platform; in `app.state.pki`.

    Attributes:
        device_ca: signs new device certificates.
        earlier_device_cas: still trusted, signing no more certificates (rollover).
    """

    trust_domain: str
    root: x509.Certificate
    device_ca: CaSigner
    server_ca: CaSigner
    urls: RevocationUrls
    earlier_device_cas: tuple[CaSigner, ...] = ()
    issuers: dict[bytes, x509.Certificate] = field(init=False, repr=False)

    @property
    def ends(self) -> dict[str, datetime]:
        """When the certificate of each CA that signs ends."""
        found = {
            "root": self.root,
            "device CA": self.device_ca.certificate,
            "server CA": self.server_ca.certificate,
        }
        return {name: one.not_valid_after_utc for name, one in found.items()}

    def __post_init__(self) -> None:
        trusted = [one.certificate for one in self.device_cas]
        object.__setattr__(self, "issuers", {subject_key_id(one): one for one in trusted})

    @property
    def device_cas(self) -> tuple[CaSigner, ...]:
        """Every CA whose device certificates are trusted, the one that signs first."""
        return (self.device_ca, *self.earlier_device_cas)


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

    @property
    def chain_der(self) -> list[bytes]:
        return [one.public_bytes(Encoding.DER) for one in self.chain]


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
        issued_at=tx.now,
        revoked_at=None,
        revocation_reason=None,
    )
    store.insert_certificate(tx, record, issuer=subject_key_id(ca.certificate).hex(), der=issued.der)
    facts: dict[str, Any] = {"serial": f"{record.serial:x}", "not_after": render_time(record.not_after)}
    audit.append(tx, "certificate.issued", f"device:{device_id}", **facts)
    emit(
        tx, "certificate.issued", f"Device {device_id} has a certificate until {facts['not_after']}.",
        device=device_id, **facts,
    )  # fmt: skip
    surplus = surplus_of(store.list_live_serials(tx, device_id), in_use)
    _revoke(tx, device_id, surplus, "never used, and later ones were issued", RevocationReason.SUPERSEDED)
    return issued


def revoke_device(
    tx: Tx, device_id: str, reason: str, *, why: RevocationReason = RevocationReason.UNSPECIFIED
) -> list[int]:
    """Revoke every live certificate of a device and return their serials.

    Args:
        reason: for the audit log and people.
        why: for the CRL (RFC 5280 section 5.3.1).
    """
    serials = store.list_live_serials(tx, device_id)
    _revoke(tx, device_id, serials, reason, why)
    return serials


def revoke_certificate(
    tx: Tx, serial: int, reason: str, *, why: RevocationReason = RevocationReason.UNSPECIFIED
) -> CertificateRecord:
    """Revoke one certificate; revoking it again changes nothing.

    Raises:
        NotFoundError: we never issued it.
    """
    record = get_certificate(tx, serial)
    if record.revoked_at is None:
        _revoke(tx, record.device_id, [serial], reason, why)
    return get_certificate(tx, serial)


def retire_superseded(tx: Tx, used: Collection[int]) -> list[int]:
    """Revoke what the certificates `used` replaced, now that their devices have connected with them.

    Only what was issued before: one issued since is the next in line. Called again, it changes nothing; one
    of `used` that was itself revoked replaces nothing.
    """
    replaced: dict[tuple[str, int], list[int]] = {}
    seen: set[int] = set()
    for one in store.list_superseded(tx, used) if used else ():
        if one.serial not in seen:
            seen.add(one.serial)
            replaced.setdefault((one.device_id, one.by), []).append(one.serial)
    for (device_id, by), serials in replaced.items():
        _revoke(tx, device_id, serials, f"superseded by {by:x}", RevocationReason.SUPERSEDED)
    return sorted(seen)


def list_shown_of_several(tx: Tx, shown: dict[str, str]) -> dict[str, int]:
    """Return the serial to what was shown, of live certificates of devices that have several.

    Args:
        shown: device to the SHA-256 of its certificate's DER, in hex.
    """
    found = {hashlib.sha256(der).hexdigest(): serial for serial, der in store.list_several(tx, shown)}
    return {fingerprint: found[fingerprint] for fingerprint in shown.values() if fingerprint in found}


def get_certificate(tx: Tx, serial: int) -> CertificateRecord:
    """Return a certificate we issued. Raises NotFoundError when we did not."""
    found = store.find_certificate(tx, serial)
    if found is None:
        raise NotFoundError(f"certificate {serial:x}: expected one we issued, found none")
    return found


def find_certificate(tx: Tx, serial: int) -> CertificateRecord | None:
    return store.find_certificate(tx, serial)


def list_certificates(tx: Tx, device_id: str) -> list[CertificateRecord]:
    """Return a device's certificates, newest first, 200 at most."""
    return store.list_certificates(tx, device_id, limit=MAX_LISTED)


def list_live_serials(tx: Tx, device_id: str) -> list[int]:
    """Return a device's serials that are neither revoked nor expired."""
    return store.list_live_serials(tx, device_id)


def list_ending(tx: Tx, until: datetime, among: IdQuery) -> list[EndingCertificate]:
    """Return the devices in the query `among` whose last live certificate ends before `until`, or has ended.

    Those without any certificate that was not revoked are not among them.
    """
    return store.list_ending(tx, until, among)


def list_revoked_serials(tx: Tx, device_id: str | None = None) -> list[int]:
    """Return the serials that are revoked and not expired, of one device or of all: the denylist."""
    return store.list_revoked_serials(tx, device_id, tx.now)


def list_unexpired(tx: Tx, devices: Collection[str]) -> list[tuple[str, str, bool]]:
    """Return what these devices' unexpired certificates are, each device's newest first.

    Returns:
        device, serial in hexadecimal, whether it was revoked.
    """
    return store.list_unexpired(tx, devices)


def is_revoked(tx: Tx, serial: int) -> bool:
    """Whether a certificate was revoked; one we do not remember counts as revoked."""
    found = store.find_certificate(tx, serial)
    return found is None or found.revoked_at is not None


def verify_device_certificate(tx: Tx, context: PkiContext, der: bytes, now: datetime) -> DeviceCertificate:
    """Return what a client certificate proves, revocation included.

    Raises:
        CertificateRefusedError: malformed, expired, revoked, or not ours; `reason` in details says which.
    """
    verified = verify_certificate(parse_certificate(der), context.issuers, context.trust_domain, now)
    found = store.find_shown(tx, verified.serial)
    if found is None or found.is_revoked:
        raise CertificateRefusedError(
            f"client certificate of {verified.device_id}: expected it live, found it revoked",
            reason="certificate_revoked",
            challenge="Mutual",
        )
    return replace(verified, is_successor=found.is_successor)


def forget_expired(tx: Tx) -> int:
    """Delete what expired 90 days ago; the audit log keeps that it was issued. Return how many."""
    return store.delete_expired(tx, tx.now - KEPT_AFTER_EXPIRY)


def _revoke(tx: Tx, device_id: str, serials: list[int], reason: str, why: RevocationReason) -> None:
    if not serials or store.revoke(tx, serials, why) == 0:
        return
    texts = [f"{serial:x}" for serial in serials]
    audit.append(
        tx, "certificate.revoked", f"device:{device_id}", serials=texts, reason=reason, why=why.value
    )
    is_routine = why is RevocationReason.SUPERSEDED
    emit(
        tx,
        "certificate.revoked",
        f"{len(texts)} certificate(s) of device {device_id} were revoked: {reason}",
        device=device_id,
        severity=Severity.INFO if is_routine else Severity.WARNING,
        serials=texts,
        reason=reason,
        why=why.value,
    )
