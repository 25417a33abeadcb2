"""Which chips we trust, and which keys live in them."""

import hmac
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from fleetward.base import journal
from fleetward.base.db import Tx
from fleetward.base.errors import InvalidInputError, NotFoundError
from fleetward.base.ids import new_id
from fleetward.features.attestation import model, store
from fleetward.features.attestation.model import AttestationKey, ChipRefusedError
from fleetward.features.attestation.store import ChallengeKind
from fleetward.wire import tpm
from fleetward.wire.der import MALFORMED

_MAX_PEM_BYTES = 256 * 1024
_MAX_ANCHORS = 500


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


def add_ek_anchors(tx: Tx, pem: bytes) -> int:
    """Trust TPM vendors' certificates, roots and intermediates; return how many were new.

    Raises:
        InvalidInputError: not PEM certificates of authorities, or more than 500 in all.
    """
    if len(pem) > _MAX_PEM_BYTES:
        raise InvalidInputError(
            f"vendor certificates: expected at most {_MAX_PEM_BYTES} bytes, found {len(pem)}"
        )
    try:
        found = x509.load_pem_x509_certificates(pem)
        is_authority = all(model.is_authority(one) for one in found)
    except MALFORMED as error:
        raise InvalidInputError("vendor certificates: expected PEM, found something else") from error
    if not is_authority:
        raise InvalidInputError("vendor certificates: expected those of authorities, found another")
    if len(store.list_anchors(tx)) + len(found) > _MAX_ANCHORS:
        raise InvalidInputError(f"vendor certificates: expected at most {_MAX_ANCHORS} in all, found more")
    added = 0
    for one in found:
        fingerprint, subject = one.fingerprint(hashes.SHA256()).hex(), one.subject.rfc4514_string()
        if store.put_anchor(tx, fingerprint, subject, one.public_bytes(Encoding.DER)):
            journal.record(tx, "tpm_vendor.trusted", f"certificate:{fingerprint}", vendor=subject[:200])
            added += 1
    return added


def list_ek_anchors(tx: Tx) -> list[x509.Certificate]:
    return [x509.load_der_x509_certificate(row.der) for row in store.list_anchors(tx)]


def withdraw_ek_anchor(tx: Tx, fingerprint: str) -> None:
    """Trust a vendor's certificate no longer: no chip below it can be activated. Activated keys stay.

    Raises:
        NotFoundError: it is not trusted.
    """
    if not store.delete_anchor(tx, fingerprint):
        raise NotFoundError(f"vendor certificate {fingerprint[:64]}: expected it trusted, found it is not")
    journal.record(tx, "tpm_vendor.withdrawn", f"certificate:{fingerprint}")


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
    store.make_room(tx, device_id, ChallengeKind.ACTIVATION)
    store.insert_challenge(
        tx,
        ChallengeKind.ACTIVATION,
        id=challenge.id,
        device=device_id,
        nonce=nonce,
        secret_hash=model.hash_secret(secret),
        ek_fingerprint=endorsement.fingerprint,
        ak_public=ak_public,
        expires_at=challenge.expires_at,
    )
    return challenge


def finish_activation(tx: Tx, challenge_id: str, secret: bytes) -> Activation:
    """Return what the opened secret proves; the challenge is spent with it.

    A wrong secret raises and so, with the transaction, leaves the challenge open: it cannot be guessed. Whose
    chip it is, and that the key may be kept (`bind_key`), is the caller's to decide.

    Raises:
        ChipRefusedError: unknown, spent or expired challenge, or a wrong secret.
    """
    row = store.take_challenge(tx, challenge_id, ChallengeKind.ACTIVATION)
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
    journal.record(
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
