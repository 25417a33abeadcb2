"""The TPM lane: certificates for keys proven to live in one chip. First enrollment, renewal, recovery.

Who is believed: a claim, or a shipment that lists the chip (enroll); the current certificate (renew); the
chip and attestation key on record, with fresh good evidence where the model asks for it (recover). An expired
certificate is never an authority, only the chip is.
"""

from dataclasses import dataclass

import msgspec
from cryptography.hazmat.primitives.serialization import Encoding

from fleetward.base.db import Tx
from fleetward.base.errors import FleetwardError
from fleetward.base.ids import parse_device_id
from fleetward.features.attestation import service as attestation
from fleetward.features.attestation.model import ChipRefusedError
from fleetward.features.attestation.service import Activation, ActivationChallenge
from fleetward.features.devices import service as devices
from fleetward.features.devices.model import (
    AttestationPolicy,
    Device,
    DeviceState,
    HardwareIdentity,
    HardwareKind,
    KeyTier,
)
from fleetward.features.enrollment import store
from fleetward.features.enrollment.model import Attempt, EnrollmentRefusedError, Lane, check_may_enroll
from fleetward.features.enrollment.service.claims import find_claim, redeem_claim
from fleetward.features.enrollment.service.est import check_attestation_allows_renewal
from fleetward.features.enrollment.service.issuing import check_csr, find_answer, issue
from fleetward.features.pki.service import PkiContext
from fleetward.wire.enroll import Purpose, TpmBegin, TpmFinish, TpmIssued
from fleetward.wire.est import parse_csr_der
from fleetward.wire.evidence import parse_evidence

_LANE_OF = {
    Purpose.ENROLL: Lane.TPM_ENROLL,
    Purpose.RENEW: Lane.TPM_RENEW,
    Purpose.RECOVER: Lane.TPM_RECOVER,
}


@dataclass(frozen=True)
class TpmBegun:
    challenge: ActivationChallenge
    is_evidence_needed: bool


def begin_tpm(tx: Tx, request: TpmBegin, peer_id: str | None) -> TpmBegun:
    """Challenge a chip that may get a certificate for this device.

    Args:
        peer_id: the device whose certificate authenticated the connection, if any.

    Raises:
        ChipRefusedError: not a chip of a vendor we trust, or one that nobody vouches for.
        ClaimRefusedError: the claim does not hold.
        EnrollmentRefusedError: no current certificate to renew by, or the device's life has ended.
    """
    device_id = parse_device_id(request.device_id)
    chip = attestation.verify_chip(tx, request.ek_certificate_chain).fingerprint
    claim_hash = None
    if request.purpose is Purpose.ENROLL and request.claim is not None:
        claim_hash = find_claim(tx, device_id, request.claim).token_hash
    device = devices.find_device(tx, device_id)
    if device is None:
        raise _not_vouched_for(device_id)
    check_may_enroll(device)
    if request.purpose is Purpose.RENEW:
        _check_peer(device, peer_id)
        check_attestation_allows_renewal(tx, device, devices.get_model(tx, device.model))
    if claim_hash is None and device.hardware != HardwareIdentity(HardwareKind.TPM_EK, chip):
        raise _not_vouched_for(device_id)
    if request.purpose is Purpose.RECOVER:
        _check_key_is_on_record(tx, device_id, chip, request.ak_public)
    challenge = attestation.begin_activation(tx, device_id, request.ek_certificate_chain, request.ak_public)
    attempt = Attempt(challenge.id, device_id, request.purpose, chip, claim_hash, challenge.expires_at)
    store.insert_attempt(tx, attempt)
    return TpmBegun(challenge, _is_evidence_needed(tx, device, attempt))


def find_attempt(tx: Tx, challenge_id: str) -> Attempt | None:
    """Return what a challenge was given for, while it is open."""
    return store.find_attempt(tx, challenge_id)


def finish_tpm(
    tx: Tx, context: PkiContext, challenge_id: str, request: TpmFinish, peer_id: str | None
) -> TpmIssued | FleetwardError:
    """Return a certificate for a key that the challenged chip says lives in it.

    A refusal for bad evidence is returned, not raised: the verdict it led to must be committed.

    1. The secret shows that chip and attestation key are one. 2. The request is for this device's own
    certificate. 3. The attestation key certifies the request's key, over our nonce. 4. The evidence over our
    nonce is good, where it is needed. 5. The claim, if there is one, is unused or was used for this very key.

    Raises:
        ChipRefusedError: the challenge is unknown or spent, or what the chip said does not hold.
        CsrRefusedError: the request asks for more than a device certificate in this name.
        ClaimRefusedError: the claim was used meanwhile.
        ConflictError: the device is tied to another chip.
    """
    attempt = store.find_attempt(tx, challenge_id)
    if attempt is None or not store.delete_attempt(tx, challenge_id):
        raise ChipRefusedError(
            "challenge: expected an open one, found it unknown, used or expired", reason="challenge_stale"
        )
    activation = attestation.finish_activation(tx, challenge_id, request.secret)
    device = devices.get_device(tx, attempt.device_id)
    check_may_enroll(device)
    if attempt.purpose is Purpose.RENEW:
        _check_peer(device, peer_id)
    csr = parse_csr_der(request.csr)
    key = check_csr(context, device.id, csr)
    attestation.verify_key_certification(
        activation.key, key, request.certify_info, request.certify_signature, activation.nonce
    )
    if _is_evidence_needed(tx, device, attempt):
        refusal = _appraise(tx, device, request, activation)
        if refusal is not None:
            return refusal
    answered = find_answer(tx, device.id, csr)
    if attempt.claim_hash is not None:
        answered = redeem_claim(tx, attempt.claim_hash, csr)
    devices.bind_hardware(tx, device.id, HardwareIdentity(HardwareKind.TPM_EK, attempt.ek_fingerprint))
    attestation.bind_key(tx, activation.key)
    lane, model = _LANE_OF[attempt.purpose], devices.get_model(tx, device.model)
    leaf = answered or issue(tx, context, device, model, csr, KeyTier.TPM, lane)
    chain = (leaf, context.device_ca.certificate, *context.device_ca.chain)
    return TpmIssued(tuple(one.public_bytes(Encoding.DER) for one in chain))


def _is_evidence_needed(tx: Tx, device: Device, attempt: Attempt) -> bool:
    """Whether the chip alone is not enough: when no certificate or claim vouches, what runs must be good.

    A chip fresh from the factory has nothing on record yet and enrolls without.
    """
    if attempt.purpose is Purpose.RENEW or attempt.claim_hash is not None:
        return False
    if attempt.purpose is Purpose.ENROLL and device.state is DeviceState.REGISTERED:
        return False
    return devices.get_model(tx, device.model).attestation is AttestationPolicy.REQUIRED


def _appraise(tx: Tx, device: Device, request: TpmFinish, activation: Activation) -> FleetwardError | None:
    """Return why the evidence does not do, None when it is good. The verdict is on record either way."""
    if isinstance(request.evidence, msgspec.UnsetType):
        return EnrollmentRefusedError(
            f"device {device.id}: expected evidence over the challenge's nonce, found none",
            reason="evidence_missing",
        )
    evidence = parse_evidence(bytes(request.evidence))
    verdict = attestation.appraise_over(tx, device.id, evidence, activation.nonce, key=activation.key)
    if verdict.good:
        return None
    return EnrollmentRefusedError(
        f"device {device.id}: expected good evidence, found it bad: "
        + " ".join(reason.message for reason in verdict.reasons),
        reason="attestation_failed",
        reasons=[reason.code for reason in verdict.reasons],
    )


def _check_peer(device: Device, peer_id: str | None) -> None:
    if peer_id != device.id:
        raise EnrollmentRefusedError(
            f"device {device.id}: expected its current certificate on the connection, found "
            + ("none" if peer_id is None else f"that of {peer_id}"),
            hint="An expired device asks with purpose recover, without a certificate.",
            reason="certificate_missing" if peer_id is None else "certificate_foreign",
        )


def _check_key_is_on_record(tx: Tx, device_id: str, chip: str, ak_public: bytes) -> None:
    known = attestation.find_attestation_key(tx, device_id)
    if known is None or (known.ek_fingerprint, known.public) != (chip, ak_public):
        raise ChipRefusedError(
            f"device {device_id}: expected the attestation key on record, found another",
            hint="Enroll it anew with a claim: fleetward device claim ID.",
            reason="ak_unknown",
        )


def _not_vouched_for(device_id: str) -> ChipRefusedError:
    return ChipRefusedError(
        f"device {device_id}: expected a chip that its shipment lists, or a claim, found neither",
        hint="Import the factory's manifest, or give the device a claim: fleetward device claim ID.",
        reason="chip_unknown",
    )
