"""Claims: single-use tokens by which an operator vouches for a device."""

from datetime import timedelta

from fleetward.base.db import Tx
from fleetward.base.events import emit
from fleetward.base.ids import new_token
from fleetward.features.audit import service as audit
from fleetward.features.devices import service as devices
from fleetward.features.devices.model import Device
from fleetward.features.enrollment import store
from fleetward.features.enrollment.model import (
    CLAIM_BITS,
    DEFAULT_CLAIM_LIFETIME,
    Claim,
    ClaimRecord,
    check_claim_lifetime,
    check_may_enroll,
    hash_token,
    verify_claim,
)


def add_device(
    tx: Tx,
    device_id: str,
    model_id: str,
    *,
    group: str = "default",
    claim_lifetime: timedelta = DEFAULT_CLAIM_LIFETIME,
) -> tuple[Device, Claim]:
    """Register a device and make its first claim.

    Raises:
        InvalidInputError: bad id, group or lifetime.
        NotFoundError: no such model.
        ConflictError: the id is taken.
    """
    device = devices.register(tx, device_id, model_id, group=group)
    return device, create_claim(tx, device_id, claim_lifetime)


def create_claim(tx: Tx, device_id: str, lifetime: timedelta = DEFAULT_CLAIM_LIFETIME) -> Claim:
    """Make a claim for a device; its earlier unused claims stop working. Only a hash of the token is kept.

    Raises:
        NotFoundError: no such device.
        InvalidInputError: lifetime under 10 s or over 30 d.
        EnrollmentRefusedError: the device is revoked or retired.
    """
    device = devices.get_device(tx, device_id)
    check_may_enroll(device)
    check_claim_lifetime(lifetime)
    withdrawn = store.withdraw_claims(tx, device_id)
    claim = Claim(device_id, new_token(bits=CLAIM_BITS), tx.now + lifetime)
    store.insert_claim(tx, ClaimRecord(hash_token(claim.token), device_id, tx.now, claim.expires_at))
    audit.append(
        tx,
        "claim.created",
        f"device:{device_id}",
        lifetime_s=int(lifetime.total_seconds()),
        withdrew=withdrawn,
    )
    emit(tx, "claim.created", f"A claim was made for {device_id}.", device=device_id)
    return claim


def check_claim(tx: Tx, device_id: str, token: str, key_fingerprint: str | None) -> ClaimRecord:
    """Return the claim of a token that holds for this device and key. Raises ClaimRefusedError."""
    return verify_claim(store.find_claim(tx, hash_token(token)), token, device_id, key_fingerprint, tx.now)


def use_claim(tx: Tx, record: ClaimRecord, key_fingerprint: str) -> None:
    """Bind a checked claim to the key it was used for."""
    if store.use_claim(tx, record.token_hash, key_fingerprint):
        audit.append(tx, "claim.used", f"device:{record.device_id}", key=key_fingerprint)
