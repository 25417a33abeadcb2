"""Take certificates back: by an operator, with their device, or because a later one has replaced them."""

import hashlib
from collections.abc import Collection

from fleetward.base import journal
from fleetward.base.db import Tx
from fleetward.base.errors import NotFoundError
from fleetward.base.events import Severity, emit
from fleetward.features.pki import store
from fleetward.features.pki.model import CertificateRecord, RevocationReason
from fleetward.features.pki.service.certificates import get_certificate


def revoke_device(
    tx: Tx, device_id: str, reason: str, *, why: RevocationReason = RevocationReason.UNSPECIFIED
) -> list[int]:
    """Revoke every live certificate of a device and return their serials.

    Args:
        reason: for the audit log and people.
        why: for the CRL (RFC 5280 section 5.3.1).
    """
    serials = store.list_live_serials(tx, device_id)
    revoke_serials(tx, device_id, serials, reason, why)
    return serials


def revoke_certificate(
    tx: Tx,
    serial: int,
    reason: str,
    *,
    why: RevocationReason = RevocationReason.UNSPECIFIED,
    device_id: str | None = None,
) -> CertificateRecord:
    """Revoke one certificate; revoking it again changes nothing.

    Args:
        device_id: whose it is to be; None: anyone's.

    Raises:
        NotFoundError: we never issued it, or not to this device.
    """
    record = get_certificate(tx, serial)
    if device_id not in (None, record.device_id):
        raise NotFoundError(f"certificate {serial:x}: expected one of device {device_id}, found another's")
    if record.revoked_at is None:
        revoke_serials(tx, record.device_id, [serial], reason, why)
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
        revoke_serials(tx, device_id, serials, f"superseded by {by:x}", RevocationReason.SUPERSEDED)
    return sorted(seen)


def list_shown_of_several(tx: Tx, shown: dict[str, str]) -> dict[str, int]:
    """Return the serial to what was shown, of live certificates of devices that have several.

    Args:
        shown: device to the SHA-256 of its certificate's DER, in hex.
    """
    found = {hashlib.sha256(der).hexdigest(): serial for serial, der in store.list_several(tx, shown)}
    return {fingerprint: found[fingerprint] for fingerprint in shown.values() if fingerprint in found}


def revoke_serials(tx: Tx, device_id: str, serials: list[int], reason: str, why: RevocationReason) -> None:
    """Revoke those of a device's certificates that are not revoked yet."""
    if not serials or store.revoke(tx, serials, why, reason) == 0:
        return
    texts = [f"{serial:x}" for serial in serials]
    journal.record(
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
