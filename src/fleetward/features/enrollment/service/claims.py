"""Claims: single-use tokens by which an operator vouches for a device."""

from datetime import timedelta

from cryptography import x509

from fleetward.base import journal
from fleetward.base.db import Tx
from fleetward.base.events import emit
from fleetward.base.ids import new_token
from fleetward.features.devices import service as devices
from fleetward.features.devices.model import Device
from fleetward.features.enrollment import store
from fleetward.features.enrollment.model import (
    CLAIM_BITS,
    DEFAULT_CLAIM_LIFETIME,
    KEPT_CLAIMS,
    Claim,
    ClaimRecord,
    check_claim_lifetime,
    check_may_enroll,
    claim_refused,
    fingerprint_of,
    hash_token,
    verify_claim,
)
from fleetward.features.enrollment.service.issuing import find_answer


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
    journal.record(
        tx,
        "claim.created",
        f"device:{device_id}",
        lifetime_s=int(lifetime.total_seconds()),
        withdrew=withdrawn,
    )
    emit(tx, "claim.created", f"A claim was made for {device_id}.", device=device_id)
    return claim


def forget_expired(tx: Tx) -> int:
    """Delete claims that expired 90 days ago, and what else ran out; return how many rows.

    A claim that was used stays in the audit log.
    """
    return store.delete_expired(tx, tx.now - KEPT_CLAIMS)


def find_claim(tx: Tx, device_id: str, token: str) -> ClaimRecord:
    """Return the claim of a token, used or not. Raises ClaimRefusedError as `verify_claim` does."""
    return verify_claim(store.find_claim(tx, hash_token(token)), token, device_id, tx.now)


def redeem_claim(tx: Tx, token_hash: str, csr: x509.CertificateSigningRequest) -> x509.Certificate | None:
    """Spend a claim on a key; return the certificate it brought that key before, if the answer was lost.

    A used claim holds for the key it was used for while that certificate lives, and for nothing else.

    Raises:
        ClaimRefusedError: it was used for another key, or its certificate is gone.
    """
    key = fingerprint_of(csr)
    is_first_use = store.use_claim(tx, token_hash, key)
    record = store.get_claim(tx, token_hash)
    if is_first_use:
        journal.record(tx, "claim.used", f"device:{record.device_id}", key=key)
        return None
    answered = find_answer(tx, record.device_id, csr) if record.used_by == key else None
    if answered is None:
        raise claim_refused(record.device_id, "used", "an unused claim")
    return answered
