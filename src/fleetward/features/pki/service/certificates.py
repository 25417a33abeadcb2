"""Look at the certificates we have issued, and at one that a client shows."""

from collections.abc import Collection
from dataclasses import replace
from datetime import datetime, timedelta

from fleetward.base.db import IdQuery, Tx
from fleetward.base.errors import NotFoundError
from fleetward.features.pki import store
from fleetward.features.pki.model import (
    CertificateRecord,
    CertificateRefusedError,
    DeviceCertificate,
    EndingCertificate,
    verify_use,
)
from fleetward.features.pki.service.context import PkiContext

MAX_LISTED = 200
KEPT_AFTER_EXPIRY = timedelta(days=90)


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
    verified = verify_use(context.read_issued(der), context.trust_domain, now)
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
