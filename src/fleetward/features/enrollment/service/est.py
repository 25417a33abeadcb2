"""EST's enroll operations (RFC 7030 section 4.2): by claim, factory's word or current certificate."""

from cryptography import x509

from fleetward.base.db import Tx
from fleetward.features.attestation import service as attestation
from fleetward.features.devices import service as devices
from fleetward.features.devices.model import AttestationPolicy, Device, HardwareKind, KeyTier, Model
from fleetward.features.devices.peer import DevicePeer
from fleetward.features.enrollment.model import (
    EnrollmentConflictError,
    EnrollmentRefusedError,
    Lane,
    check_may_enroll,
    check_may_renew_by_est,
    fingerprint_of,
    tier_on_word_of_shipment,
)
from fleetward.features.enrollment.service.claims import find_claim, redeem_claim
from fleetward.features.enrollment.service.issuing import check_csr, find_answer, issue
from fleetward.features.pki import service as pki
from fleetward.features.pki.service import PkiContext


def enroll_by_claim(
    tx: Tx, context: PkiContext, device_id: str, token: str, csr: x509.CertificateSigningRequest
) -> x509.Certificate:
    """Return a certificate for the holder of a claim; the same again for the same key if the answer was lost.

    Raises:
        ClaimRefusedError: the claim does not hold.
        CsrRefusedError: the request asks for more than a device certificate in this name.
        KeyTierError: the model, or the device's past, demands a better protected key than a claim can show.
    """
    claim = find_claim(tx, device_id, token)
    device = devices.get_device(tx, device_id)
    check_may_enroll(device)
    check_csr(context, device_id, csr)
    answered = redeem_claim(tx, claim.token_hash, csr)
    if answered is not None:
        return answered
    model = devices.get_model(tx, device.model)
    tier = tier_on_word_of_shipment(device.hardware, Lane.CLAIM, fingerprint_of(csr))
    return issue(tx, context, device, model, csr, tier, Lane.CLAIM)


def enroll_by_idevid(
    tx: Tx, context: PkiContext, idevid: x509.Certificate, csr: x509.CertificateSigningRequest
) -> x509.Certificate:
    """Return a certificate for the device whose IDevID authenticated the connection, if a shipment lists it.

    Raises:
        EnrollmentRefusedError: no shipment lists this IDevID, or the device's life has ended.
    """
    device = devices.find_by_hardware(tx, fingerprint_of(idevid))
    if device is None or device.hardware is None or device.hardware.kind is not HardwareKind.IDEVID:
        raise EnrollmentRefusedError(
            "client certificate: expected an IDevID that a shipment lists, found another",
            hint="Import the shipment manifest of this device's factory.",
            reason="idevid_unknown",
        )
    check_may_enroll(device)
    check_csr(context, device.id, csr)
    model = devices.get_model(tx, device.model)
    tier = tier_on_word_of_shipment(device.hardware, Lane.IDEVID, fingerprint_of(csr))
    return issue(tx, context, device, model, csr, tier, Lane.IDEVID)


def enroll_by_listed_key(
    tx: Tx, context: PkiContext, csr: x509.CertificateSigningRequest
) -> x509.Certificate | None:
    """Return a certificate for a key that a shipment lists itself; None when none does.

    The request's own signature is the proof. One that somebody copied gains them nothing: the certificate is
    for a key they do not hold, and while one lives it is the only answer.
    """
    key = fingerprint_of(csr)
    device = devices.find_by_hardware(tx, key)
    if device is None or device.hardware is None or device.hardware.kind is not HardwareKind.CSR_KEY:
        return None
    check_may_enroll(device)
    check_csr(context, device.id, csr)
    answered = find_answer(tx, device.id, csr)
    if answered is not None:
        return answered
    model = devices.get_model(tx, device.model)
    tier = tier_on_word_of_shipment(device.hardware, Lane.LISTED_KEY, key)
    return issue(tx, context, device, model, csr, tier, Lane.LISTED_KEY)


def reenroll(
    tx: Tx, context: PkiContext, peer: DevicePeer, csr: x509.CertificateSigningRequest
) -> x509.Certificate:
    """Return a new certificate for a device that authenticated with its current one (RFC 7030 section 4.2.2).

    Raises:
        CsrRefusedError: it names another device.
        EnrollmentConflictError: the device's key lives in a TPM, or its last attestation failed.
    """
    device = peer.device
    model = devices.get_model(tx, device.model)
    check_may_renew_by_est(device)
    check_attestation_allows_renewal(tx, device, model)
    check_csr(context, device.id, csr)
    if peer.certificate.is_successor:
        pki.retire_superseded(tx, [peer.certificate.serial])
    tier = device.tier or KeyTier.SOFTWARE
    return issue(tx, context, device, model, csr, tier, Lane.CERTIFICATE, in_use=peer.certificate.serial)


def check_attestation_allows_renewal(tx: Tx, device: Device, model: Model) -> None:
    """Pass unless the model asks for attestation and this device's last one failed.

    Raises:
        EnrollmentConflictError: it did: renewal would prolong what may not connect.
    """
    if model.attestation is AttestationPolicy.NONE:
        return
    appraisal = attestation.find_appraisal(tx, device.id)
    if appraisal is not None and not appraisal.good:
        raise EnrollmentConflictError(
            f"device {device.id}: expected its last attestation good, found it failed",
            hint="Hand in good evidence first: POST /v1/attestation/evidence.",
            reason="attestation_failed",
        )
