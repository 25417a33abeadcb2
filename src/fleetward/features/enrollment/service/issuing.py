"""The one place where enrollment turns a decision into a certificate."""

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from fleetward.base import journal
from fleetward.base.db import Tx
from fleetward.base.events import Severity, emit
from fleetward.features.devices import service as devices
from fleetward.features.devices.model import Device, DeviceState, KeyTier, Model, check_tier
from fleetward.features.enrollment import store
from fleetward.features.enrollment.model import Lane, check_may_enroll, fingerprint_of, verify_request
from fleetward.features.pki import service as pki
from fleetward.features.pki.model import render_spiffe_id
from fleetward.features.pki.service import PkiContext


def check_csr(
    context: PkiContext, device_id: str, csr: x509.CertificateSigningRequest
) -> ec.EllipticCurvePublicKey:
    """Return the key of a request for this device's own certificate. Raises CsrRefusedError."""
    return verify_request(csr, device_id, render_spiffe_id(context.trust_domain, device_id))


def issue(
    tx: Tx,
    context: PkiContext,
    device: Device,
    model: Model,
    csr: x509.CertificateSigningRequest,
    tier: KeyTier,
    lane: Lane,
    *,
    in_use: int | None = None,
) -> x509.Certificate:
    """Issue a certificate for a request that was checked and authorised.

    A renewal is told by pki's `certificate.issued` alone; it is routine, and there are many.

    Args:
        in_use: the serial of the certificate that authorised it, when one did.

    Raises:
        KeyTierError: `tier` is under the model's floor, or under what the device had.
        EnrollmentRefusedError: the device's life has ended.
    """
    check_may_enroll(device)
    if device.tier is tier and device.state is not DeviceState.REGISTERED:
        check_tier(device.id, model, device.tier, tier)
    else:
        devices.record_enrollment(tx, device.id, tier)
    issued = pki.issue_device_certificate(tx, context, device.id, csr, model.cert_lifetime, in_use=in_use)
    if lane is not Lane.CERTIFICATE:
        until = issued.certificate.not_valid_after_utc
        store.put_answer(tx, device.id, fingerprint_of(csr), issued.der, until)
    if not lane.is_renewal:
        _tell(tx, device, issued.serial, tier, lane)
    return issued.certificate


def _tell(tx: Tx, device: Device, serial: int, tier: KeyTier, lane: Lane) -> None:
    details = {"lane": lane.value, "tier": tier.value, "serial": f"{serial:x}"}
    journal.record(tx, "device.certified", f"device:{device.id}", **details)
    emit(
        tx,
        "enrollment.completed",
        f"Device {device.id} obtained a certificate by {lane.said} for a key in {tier}.",
        device=device.id,
        severity=Severity.NOTICE,
        **details,
    )


def find_answer(tx: Tx, device_id: str, csr: x509.CertificateSigningRequest) -> x509.Certificate | None:
    """Return what was answered for this very key before, while that certificate lives and is not revoked."""
    der = store.find_answer(tx, device_id, fingerprint_of(csr))
    if der is None:
        return None
    certificate = x509.load_der_x509_certificate(der)
    return None if pki.is_revoked(tx, certificate.serial_number) else certificate
