"""Passkeys (Web Authentication level 3): registration and assertion, user verification always required.

A passkey with user verification is two factors: the authenticator, and what unlocks it.
The challenge of a ceremony travels sealed in its `challenge_id`; a stranger's request writes nothing here.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import webauthn
from webauthn.helpers.exceptions import WebAuthnException
from webauthn.helpers.structs import (
    AuthenticatorSelectionCriteria,
    PublicKeyCredentialDescriptor,
    ResidentKeyRequirement,
    UserVerificationRequirement,
)

from fleetward.base import journal
from fleetward.base.db import Tx
from fleetward.base.errors import ConflictError, InvalidInputError, UnauthenticatedError
from fleetward.base.events import Severity, emit
from fleetward.base.ids import new_id
from fleetward.features.access import store
from fleetward.features.access.context import AccessContext
from fleetward.features.access.model.secrets import hash_secret
from fleetward.features.access.store.credentials import Passkey

CHALLENGE_LIFETIME = timedelta(minutes=5)
MAX_PASSKEYS = 20
_RP_NAME = "Fleetward"
_MAX_CREDENTIAL_CHARS = 16_384


@dataclass(frozen=True)
class Ceremony:
    """Options for the browser, and the ticket that must come back with its answer."""

    challenge_id: str
    options: dict[str, Any]


def registration_options(
    tx: Tx, ctx: AccessContext, name: str, display_name: str, webauthn_id: bytes
) -> tuple[bytes, dict[str, Any]]:
    """Return a challenge and the creation options (PublicKeyCredentialCreationOptionsJSON) of one person."""
    options = webauthn.generate_registration_options(
        rp_id=ctx.rp_id,
        rp_name=_RP_NAME,
        user_name=name,
        user_display_name=display_name,
        user_id=webauthn_id,
        authenticator_selection=AuthenticatorSelectionCriteria(
            resident_key=ResidentKeyRequirement.REQUIRED,
            user_verification=UserVerificationRequirement.REQUIRED,
        ),
        exclude_credentials=[
            PublicKeyCredentialDescriptor(id=one.credential_id)
            for one in store.credentials.list_passkeys(tx, name)
        ],
    )
    return options.challenge, json.loads(webauthn.options_to_json(options))


def begin_registration(tx: Tx, ctx: AccessContext, operator: str) -> Ceremony:
    """Offer a signed-in operator a further passkey."""
    found = store.operators.find(tx, operator)
    if found is None:
        raise UnauthenticatedError(f"operator {operator}: expected an operator, found none")
    challenge, options = registration_options(tx, ctx, operator, found.display_name, found.webauthn_id)
    return Ceremony(_seal(tx, ctx, "register", operator, challenge), options)


def finish_registration(
    tx: Tx, ctx: AccessContext, operator: str, challenge_id: str, credential: dict[str, Any], label: str
) -> Passkey:
    """Keep the passkey a browser made. Raises InvalidInputError, ConflictError."""
    challenge = _open(tx, ctx, "register", operator, challenge_id)
    return register(tx, ctx, operator, challenge, credential, label)


def register(
    tx: Tx, ctx: AccessContext, operator: str, challenge: bytes, credential: dict[str, Any], label: str
) -> Passkey:
    """Keep the passkey that answers `challenge`.

    Raises:
        InvalidInputError: the answer does not verify.
        ConflictError: it is registered already, or the operator has twenty.
    """
    _check_size(credential)
    try:
        with _judging():
            verified = webauthn.verify_registration_response(
                credential=credential,
                expected_challenge=challenge,
                expected_rp_id=ctx.rp_id,
                expected_origin=sorted(ctx.origins),
                require_user_verification=True,
            )
    except WebAuthnException as error:
        raise InvalidInputError(f"passkey: expected a valid registration, found: {error}") from error
    if store.credentials.find_passkey(tx, verified.credential_id) is not None:
        raise ConflictError("passkey: expected a new one, found it registered already")
    if len(store.credentials.list_passkeys(tx, operator)) >= MAX_PASSKEYS:
        raise ConflictError(
            f"operator {operator}: expected fewer than {MAX_PASSKEYS} passkeys, found no fewer"
        )
    passkey = Passkey(
        id=new_id("pk"),
        operator=operator,
        credential_id=verified.credential_id,
        public_key=verified.credential_public_key,
        sign_count=verified.sign_count,
        label=label.strip()[:64] or "Passkey",
        aaguid=verified.aaguid,
        backed_up=verified.credential_backed_up,
        created_at=tx.now,
        last_used_at=None,
    )
    store.credentials.insert_passkey(tx, passkey)
    journal.record(
        tx, "access.passkey_added", f"operator:{operator}", passkey=passkey.id, aaguid=passkey.aaguid
    )
    emit(tx, "access.passkey_added", f"{operator} added a passkey.", severity=Severity.NOTICE,
         operator=operator, passkey=passkey.id)  # fmt: skip
    return passkey


def begin_assertion(tx: Tx, ctx: AccessContext, purpose: str, subject: str = "") -> Ceremony:
    """Ask for a passkey: anybody's (`signin`), or that of a session's operator (`step-up`)."""
    allowed = store.credentials.list_passkeys(tx, subject) if subject else []
    options = webauthn.generate_authentication_options(
        rp_id=ctx.rp_id,
        user_verification=UserVerificationRequirement.REQUIRED,
        allow_credentials=[PublicKeyCredentialDescriptor(id=one.credential_id) for one in allowed],
    )
    ticket = _seal(tx, ctx, purpose, subject, options.challenge)
    return Ceremony(ticket, json.loads(webauthn.options_to_json(options)))


def finish_assertion(
    tx: Tx, ctx: AccessContext, purpose: str, challenge_id: str, credential: dict[str, Any], subject: str = ""
) -> Passkey | None:
    """Return the passkey that answered, or None when the answer does not hold; each challenge answers once.

    Raises:
        InvalidInputError: `challenge_id` is not one of ours for this purpose, or expired.
    """
    challenge = _open(tx, ctx, purpose, subject, challenge_id)
    passkey = _find(tx, credential)
    if passkey is None or (subject and passkey.operator != subject):
        return None
    try:
        with _judging():
            verified = webauthn.verify_authentication_response(
                credential=credential,
                expected_challenge=challenge,
                expected_rp_id=ctx.rp_id,
                expected_origin=sorted(ctx.origins),
                credential_public_key=passkey.public_key,
                credential_current_sign_count=0,  # compared below, to tell a clone from a bad signature
                require_user_verification=True,
            )
    except WebAuthnException:
        return None
    if not store.challenges.spend(tx, hash_secret(challenge.hex()), tx.now + CHALLENGE_LIFETIME):
        return None
    return passkey if _advance(tx, passkey, verified.new_sign_count) else None


def _advance(tx: Tx, passkey: Passkey, count: int) -> bool:
    """Move the signature counter; one that does not grow means two authenticators share the key."""
    if (count or passkey.sign_count) and count <= passkey.sign_count:
        emit(
            tx, "access.passkey_cloned",
            f"A passkey of {passkey.operator} answered with counter {count}, not over {passkey.sign_count}: "
            "there may be a copy of it.",
            severity=Severity.CRITICAL, operator=passkey.operator, passkey=passkey.id,
        )  # fmt: skip
        return False
    return store.credentials.mark_passkey_used(tx, passkey.id, passkey.sign_count, count)


def _find(tx: Tx, credential: dict[str, Any]) -> Passkey | None:
    _check_size(credential)
    try:
        with _judging():
            parsed = webauthn.helpers.parse_authentication_credential_json(credential)
    except WebAuthnException:
        return None
    passkey = store.credentials.find_passkey(tx, parsed.raw_id)
    handle = parsed.response.user_handle
    if passkey is None or handle is None:
        return passkey
    owner = store.operators.find_by_webauthn_id(tx, handle)
    return passkey if owner is not None and owner.name == passkey.operator else None


@contextmanager
def _judging() -> Iterator[None]:
    """Turn whatever the library raises over a browser's answer into its own error.

    It lets errors of base64, CBOR, JSON, ASN.1 and elliptic curves through: each says that the answer does
    not hold.
    """
    try:
        yield
    except WebAuthnException:
        raise
    except Exception as error:
        raise WebAuthnException(f"the answer cannot be read: {type(error).__name__}") from error


def _check_size(credential: dict[str, Any]) -> None:
    if len(json.dumps(credential)) > _MAX_CREDENTIAL_CHARS:
        raise InvalidInputError(
            f"credential: expected at most {_MAX_CREDENTIAL_CHARS} characters, found more"
        )


def _seal(tx: Tx, ctx: AccessContext, purpose: str, subject: str, challenge: bytes) -> str:
    values = {"subject": subject, "challenge": challenge.hex()}
    return ctx.sealer.seal_ticket(values, f"challenge {purpose}", tx.now + CHALLENGE_LIFETIME)


def _open(tx: Tx, ctx: AccessContext, purpose: str, subject: str, challenge_id: str) -> bytes:
    values = ctx.sealer.open_ticket(challenge_id, f"challenge {purpose}", tx.now)
    if values["subject"] != subject:
        raise InvalidInputError("challenge_id: expected one of this session, found another's")
    return bytes.fromhex(values["challenge"])
