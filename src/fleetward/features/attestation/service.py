"""Use cases of attestation: which chips we trust, which keys live in them, what devices run."""

import hmac
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from fleetward.base.clock import render_time
from fleetward.base.db import Tx
from fleetward.base.errors import InvalidInputError, NotFoundError
from fleetward.base.events import Severity, emit
from fleetward.base.ids import new_id
from fleetward.features.attestation import model, store
from fleetward.features.attestation.model import (
    Appraisal,
    AttestationKey,
    ChipRefusedError,
    Reason,
    Reference,
    ReferenceValues,
)
from fleetward.features.audit import service as audit
from fleetward.features.devices import service as devices
from fleetward.features.devices.model import KeyTier
from fleetward.wire import tpm
from fleetward.wire.event_log import Measured
from fleetward.wire.evidence import Evidence

EVERY_MODEL = "*"
KEPT_APPRAISALS = 50
_MAX_OPEN = 4
_ACTIVATION, _NONCE = "activation", "nonce"
_MAX_PEM_BYTES = 256 * 1024


@dataclass(frozen=True)
class ActivationChallenge:
    """A secret that one chip can open, for one attestation key in it.

    Attributes:
        nonce: qualifying data for the key certification, and for a quote in the same exchange.
    """

    id: str
    device_id: str
    ek_fingerprint: str
    credential_blob: bytes
    encrypted_secret: bytes
    nonce: bytes
    expires_at: datetime


@dataclass(frozen=True)
class Activation:
    """Proof that an attestation key lives in the chip of an endorsement key, and the exchange's nonce."""

    key: AttestationKey
    nonce: bytes


@dataclass(frozen=True)
class Nonce:
    value: bytes
    expires_at: datetime


def add_ek_anchors(tx: Tx, pem: bytes) -> int:
    """Trust TPM vendors' certificates, roots and intermediates; return how many were new.

    Raises:
        InvalidInputError: not PEM certificates.
    """
    if len(pem) > _MAX_PEM_BYTES:
        raise InvalidInputError(
            f"vendor certificates: expected at most {_MAX_PEM_BYTES} bytes, found {len(pem)}"
        )
    try:
        found = x509.load_pem_x509_certificates(pem)
    except ValueError as error:
        raise InvalidInputError("vendor certificates: expected PEM, found something else") from error
    added = 0
    for one in found:
        fingerprint, subject = one.fingerprint(hashes.SHA256()).hex(), one.subject.rfc4514_string()
        if store.put_anchor(tx, fingerprint, subject, one.public_bytes(Encoding.DER)):
            audit.append(tx, "tpm_vendor.trusted", f"certificate:{fingerprint}", vendor=subject[:200])
            added += 1
    return added


def list_ek_anchors(tx: Tx) -> list[x509.Certificate]:
    return [x509.load_der_x509_certificate(row.der) for row in store.list_anchors(tx)]


def verify_chip(tx: Tx, ek_chain: Sequence[bytes]) -> model.EndorsementKey:
    """Return the endorsement key of a chip whose vendor we trust. Raises ChipRefusedError."""
    return model.verify_ek_chain(ek_chain, list_ek_anchors(tx), tx.now)


def begin_activation(
    tx: Tx, device_id: str, ek_chain: Sequence[bytes], ak_public: bytes
) -> ActivationChallenge:
    """Challenge a chip to show that an attestation key lives in it; of a device's open ones four are kept.

    Raises:
        ChipRefusedError: vendor unknown, or the key is not a restricted one of one chip.
        InvalidInputError: malformed.
    """
    endorsement = verify_chip(tx, ek_chain)
    ak = model.check_attestation_key(ak_public)
    secret, nonce = os.urandom(model.SECRET_BYTES), os.urandom(model.NONCE_BYTES)
    blob, encrypted = tpm.make_credential(endorsement.key, ak.name, secret)
    challenge = ActivationChallenge(
        id=new_id("act"),
        device_id=device_id,
        ek_fingerprint=endorsement.fingerprint,
        credential_blob=blob,
        encrypted_secret=encrypted,
        nonce=nonce,
        expires_at=tx.now + model.CHALLENGE_LIFETIME,
    )
    _make_room(tx, device_id, _ACTIVATION)
    store.insert_challenge(
        tx, id=challenge.id, device=device_id, kind=_ACTIVATION, nonce=nonce,
        secret_hash=model.hash_secret(secret), ek_fingerprint=endorsement.fingerprint, ak_public=ak_public,
        expires_at=challenge.expires_at,
    )  # fmt: skip
    return challenge


def finish_activation(tx: Tx, challenge_id: str, secret: bytes) -> Activation:
    """Return what the opened secret proves. The challenge is spent, right or wrong.

    Whose chip it is, and that the key may be kept (`bind_key`), is the caller's to decide.

    Raises:
        ChipRefusedError: unknown, spent or expired challenge, or a wrong secret.
    """
    row = store.take_challenge(tx, challenge_id, _ACTIVATION)
    if row is None or row.expires_at <= tx.now:
        raise ChipRefusedError(
            "challenge: expected an open one, found it unknown, used or expired", reason="challenge_stale"
        )
    if not hmac.compare_digest(model.hash_secret(secret), row.secret_hash):
        raise ChipRefusedError(
            "challenge: expected the secret it holds, found another", reason="challenge_failed"
        )
    return Activation(AttestationKey(row.device, row.ek_fingerprint, row.ak_public, tx.now), row.nonce)


def bind_key(tx: Tx, key: AttestationKey) -> None:
    """Make an activated key the one that this device's evidence is verified by."""
    known = store.find_key(tx, key.device_id)
    if known is not None and (known.public, known.ek_fingerprint) == (key.public, key.ek_fingerprint):
        return
    store.put_key(tx, key)
    audit.append(
        tx,
        "attestation_key.bound",
        f"device:{key.device_id}",
        ek=key.ek_fingerprint,
        name=key.parsed.name.hex(),
    )


def find_attestation_key(tx: Tx, device_id: str) -> AttestationKey | None:
    return store.find_key(tx, device_id)


def verify_key_certification(
    key: AttestationKey,
    public_key: ec.EllipticCurvePublicKey,
    certify_info: bytes,
    signature: bytes,
    nonce: bytes,
) -> None:
    """Pass when the chip says that `public_key` lives in it. Raises ChipRefusedError, InvalidInputError."""
    model.verify_key_certification(key.parsed, public_key, certify_info, signature, nonce)


def issue_nonce(tx: Tx, device_id: str) -> Nonce:
    """Return a fresh nonce to quote over; good once, for two minutes."""
    nonce = Nonce(os.urandom(model.NONCE_BYTES), tx.now + model.NONCE_LIFETIME)
    _make_room(tx, device_id, _NONCE)
    store.insert_challenge(
        tx, id=new_id("nonce"), device=device_id, kind=_NONCE, nonce=nonce.value, expires_at=nonce.expires_at
    )
    return nonce


def appraise(tx: Tx, device_id: str, evidence: Evidence) -> Appraisal:
    """Appraise evidence over a nonce we issued, record and tell the verdict. Every open nonce is spent.

    Raises:
        NotFoundError: no such device.
        InvalidInputError: malformed quote.
    """
    quoted = tpm.parse_quote(evidence.quote).nonce
    fresh = [row.nonce for row in store.take_nonces(tx, device_id, _NONCE) if row.expires_at > tx.now]
    nonce = next((one for one in fresh if hmac.compare_digest(one, quoted)), None)
    return appraise_over(tx, device_id, evidence, nonce)


def appraise_over(
    tx: Tx, device_id: str, evidence: Evidence, nonce: bytes | None, *, key: AttestationKey | None = None
) -> Appraisal:
    """Appraise evidence over `nonce`; None is a nonce that was not ours, or spent.

    Args:
        key: the attestation key just activated; the device's own when None.
    """
    device = devices.get_device(tx, device_id)
    product = devices.get_model(tx, device.model)
    lifetime = product.appraisal_lifetime
    known = key or store.find_key(tx, device_id)
    if known is None:
        tier = "a TPM" if device.tier is KeyTier.TPM else f"its keys in {device.tier or 'nothing proven'}"
        reason = Reason("no_attestation_key", f"The device has no activated attestation key; it has {tier}.")
        verdict = Appraisal(device_id, tx.now, good=False, expires_at=tx.now + lifetime, reasons=(reason,))
    elif nonce is None:
        reason = Reason("quote_stale", "The quote is not over a nonce we gave, or over one that was used.")
        verdict = Appraisal(device_id, tx.now, good=False, expires_at=tx.now + lifetime, reasons=(reason,))
    else:
        allowed = store.list_references(tx, (device.model, EVERY_MODEL))
        verdict = model.appraise(
            device_id, known.parsed, evidence, nonce, allowed, lifetime=lifetime, now=tx.now
        )
    _record(tx, verdict)
    return verdict


def find_appraisal(tx: Tx, device_id: str) -> Appraisal | None:
    """Return a device's latest appraisal, good or bad."""
    return next(iter(store.list_appraisals(tx, device_id, limit=1)), None)


def list_appraisals(tx: Tx, device_id: str, *, limit: int = KEPT_APPRAISALS) -> list[Appraisal]:
    """Return a device's appraisals, newest first."""
    return store.list_appraisals(tx, device_id, limit=limit)


def add_reference(tx: Tx, model_id: str, version: str, values: ReferenceValues) -> None:
    """Allow devices of a model to run a release."""
    devices.get_model(tx, model_id)
    _put(tx, [
        Reference(model_id, Measured.IMAGE, values.image_sha256, version),
        Reference(model_id, Measured.MANIFEST, values.manifest_sha256, version),
    ])  # fmt: skip


def add_boot_reference(
    tx: Tx, kind: Measured, digest: str, version: str, *, model_id: str = EVERY_MODEL
) -> None:
    """Allow a boot stage, or pinned keys, by digest.

    Raises:
        InvalidInputError: not one of these kinds, or not a SHA-256 in hexadecimal.
    """
    if kind not in (Measured.BOOT_STAGE, Measured.PINNED_KEYS):
        raise InvalidInputError(f"reference: expected boot_stage or pinned_keys, found {kind}")
    if len(digest) != 64 or digest.strip("0123456789abcdef"):  # noqa: PLR2004 - SHA-256 in hex
        raise InvalidInputError(f"reference: expected a SHA-256 in hexadecimal, found {digest[:80]!r}")
    if model_id != EVERY_MODEL:
        devices.get_model(tx, model_id)
    _put(tx, [Reference(model_id, kind, digest, version)])


def list_references(tx: Tx, model_id: str) -> list[Reference]:
    """Return what devices of a model may measure."""
    return store.list_references(tx, (model_id, EVERY_MODEL))


def withdraw_reference(tx: Tx, model_id: str, version: str) -> None:
    """No longer accept a release: devices that run it fail their next appraisal.

    Raises:
        NotFoundError: no such reference.
    """
    if store.delete_references(tx, model_id, version) == 0:
        raise NotFoundError(f"references of {model_id} {version}: expected some, found none")
    audit.append(tx, "reference.withdrawn", f"model:{model_id}", version=version)


def forget_expired(tx: Tx) -> int:
    """Delete challenges and nonces that ran out; return how many."""
    return store.delete_expired_challenges(tx)


def _put(tx: Tx, found: list[Reference]) -> None:
    if store.put_references(tx, found):
        digests = {one.kind.value: one.digest for one in found}
        audit.append(tx, "reference.added", f"model:{found[0].model}", version=found[0].version, **digests)


def _record(tx: Tx, verdict: Appraisal) -> None:
    store.insert_appraisal(tx, verdict, keep=KEPT_APPRAISALS)
    subject, until = f"device:{verdict.device_id}", render_time(verdict.expires_at)
    codes, said = [one.code for one in verdict.reasons], " ".join(one.message for one in verdict.reasons)
    if verdict.good:
        audit.append(tx, "attestation.appraised", subject, good=True, expires_at=until)
        emit(
            tx, "attestation.appraised", f"Device {verdict.device_id} runs what it should, until {until}.",
            device=verdict.device_id, expires_at=until, firmware_version=verdict.firmware_version,
        )  # fmt: skip
        devices.record_good_appraisal(tx, verdict.device_id)
        if verdict.firmware_version is not None:
            devices.set_firmware_version(tx, verdict.device_id, verdict.firmware_version)
        return
    audit.append(tx, "attestation.failed", subject, good=False, reasons=codes)
    emit(
        tx,
        "attestation.failed",
        f"Device {verdict.device_id} failed attestation: {said}",
        device=verdict.device_id,
        severity=Severity.CRITICAL,
        reasons=codes,
    )


def _make_room(tx: Tx, device_id: str, kind: str) -> None:
    if store.count_challenges(tx, device_id, kind) >= _MAX_OPEN:
        store.delete_oldest_challenge(tx, device_id, kind)
