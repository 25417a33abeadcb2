"""Device routes of enrollment: EST (RFC 7030), the TPM lane and signed time."""

import base64
import binascii
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated

from cryptography import x509
from fastapi import APIRouter, Depends, Request, Response

from fleetward.base.clock import render_time
from fleetward.base.db import Tx
from fleetward.base.errors import (
    ConflictError,
    FleetwardError,
    ForbiddenError,
    InvalidInputError,
    UnauthenticatedError,
)
from fleetward.base.web import edge_of, peer_certificate
from fleetward.features.devices import service as devices
from fleetward.features.devices.peer import admit_peer, authenticate_peer
from fleetward.features.enrollment import service
from fleetward.features.enrollment.context import context_of
from fleetward.features.enrollment.model import BASIC_CHALLENGE, Lane
from fleetward.features.enrollment.service.refusals import reason_of
from fleetward.features.pki.service import PkiContext
from fleetward.wire import enroll, est, signed_time
from fleetward.wire.der import MALFORMED

device_router = APIRouter(tags=["devices: enrollment"])
_MAX_CREDENTIAL_CHARS = 1024
_REFUSALS = (InvalidInputError, UnauthenticatedError, ForbiddenError, ConflictError)


class CredentialsMissingError(UnauthenticatedError):
    """An enrollment that names nobody."""

    code = "credentials_missing"


async def read_body(request: Request) -> bytes:
    return await request.body()


RawBody = Annotated[bytes, Depends(read_body)]


def pki_of(request: Request) -> PkiContext:
    context: PkiContext = request.app.state.pki
    return context


@device_router.get(f"{est.PATH}/cacerts")
def cacerts(request: Request) -> Response:
    """Our issuing CA and its chain up to the root (RFC 7030 section 4.1)."""
    pki = pki_of(request)
    return _certificates(request, [pki.device_ca.certificate, *pki.device_ca.chain, pki.root])


@device_router.get(f"{est.PATH}/csrattrs")
def csrattrs() -> Response:
    """What we ask of a request (RFC 7030 section 4.5)."""
    return _est_response(est.render_csr_attributes(), est.CSR_ATTRIBUTES_TYPE)


# Who may GET may ask for the head alone (RFC 9110 section 9.1); the server leaves the body out.
for _name, _answer in (("cacerts", cacerts), ("csrattrs", csrattrs)):
    device_router.head(f"{est.PATH}/{_name}", include_in_schema=False)(_answer)


@device_router.post(f"{est.PATH}/simpleenroll")
def simpleenroll(request: Request, body: RawBody) -> Response:
    """A first certificate, by claim, IDevID or a key the shipment lists (RFC 7030 section 4.2.1)."""
    authorization = request.headers.get("authorization")
    der = peer_certificate(request.scope)
    if authorization is not None:
        return _enroll_by_claim(request, authorization, body)
    lane = Lane.IDEVID if der is not None else Lane.LISTED_KEY
    with telling_refusals(request, said_id="", lane=lane), edge_of(request).db.write("system:est") as tx:
        csr = est.parse_csr(body)
        if der is not None:
            idevid = est.parse_idevid(der)
            return _certificates(request, [service.enroll_by_idevid(tx, pki_of(request), idevid, csr)])
        issued = service.enroll_by_listed_key(tx, pki_of(request), csr)
        if issued is None:
            raise CredentialsMissingError(
                "enrollment: expected a claim, an IDevID or a key that a shipment lists, found none",
                hint="HTTP Basic: the device id as user, the claim as password.",
                challenge=BASIC_CHALLENGE,
            )
        return _certificates(request, [issued])


@device_router.post(f"{est.PATH}/simplereenroll")
def simplereenroll(request: Request, body: RawBody) -> Response:
    """The next certificate, by the current one (RFC 7030 section 4.2.2)."""
    pki, der, said_id = pki_of(request), peer_certificate(request.scope), _peer_id(request)
    with telling_refusals(request, said_id=said_id, lane=Lane.CERTIFICATE):
        csr = est.parse_csr(body)

        def renew(tx: Tx) -> x509.Certificate:
            return service.reenroll(tx, pki, authenticate_peer(tx, pki, der), csr)

        return _certificates(request, [edge_of(request).db.write_together(f"device:{said_id}", renew)])


@device_router.post(enroll.PATH)
def begin_tpm(request: Request, body: RawBody) -> Response:
    """Name a chip and get a challenge that only this chip can open."""
    with telling_refusals(request, said_id="", lane="tpm"):
        begin = enroll.parse_begin(body)
    with telling_refusals(request, said_id=begin.device_id, lane=f"tpm-{begin.purpose}"):
        _count_beginning(request, begin.device_id)
        peer_id = _authenticated_id(request) if begin.purpose is enroll.Purpose.RENEW else None
        with edge_of(request).db.write("system:enrollment") as tx:
            begun = service.begin_tpm(tx, begin, peer_id)
    found = begun.challenge
    challenge = enroll.TpmChallenge(
        challenge_id=found.id,
        credential_blob=found.credential_blob,
        encrypted_secret=found.encrypted_secret,
        nonce=found.nonce,
        expires_at=render_time(found.expires_at),
        is_evidence_needed=begun.is_evidence_needed,
    )
    return Response(enroll.render(challenge), media_type="application/json")


@device_router.post(f"{enroll.PATH}/{{challenge_id}}")
def finish_tpm(request: Request, challenge_id: str, body: RawBody) -> Response:
    """Answer the challenge and get a certificate for a key in the chip."""
    db = edge_of(request).db
    with db.read() as tx:
        attempt = service.find_attempt(tx, challenge_id)
    said_id, lane = (attempt.device_id, f"tpm-{attempt.purpose}") if attempt else ("", "tpm")
    with telling_refusals(request, said_id=said_id, lane=lane):
        finish = enroll.parse_finish(body)
        is_renewal = attempt is not None and attempt.purpose is enroll.Purpose.RENEW
        peer_id = _authenticated_id(request) if is_renewal else None
        with db.write(f"device:{said_id}") as tx:
            finished = service.finish_tpm(tx, pki_of(request), challenge_id, finish, peer_id)
        if isinstance(finished, FleetwardError):
            raise finished
    return Response(enroll.render(finished), media_type="application/json")


@device_router.get(signed_time.PATH)
def get_time(request: Request, nonce: str) -> Response:
    """The time, signed, for a device whose clock is not set."""
    signer = context_of(request).time_signer()
    now = edge_of(request).db.clock.now()
    statement = signed_time.render_signed_time(now, signed_time.parse_nonce(nonce), signer.key, signer.chain)
    return Response(statement, media_type="application/json", headers={"Cache-Control": "no-store"})


@contextmanager
def telling_refusals(request: Request, *, said_id: str, lane: str) -> Iterator[None]:
    """Turn a refusal in the block into an `enrollment.refused` event; slow down who fails time and again.

    Raises:
        RateLimitedError: this address has failed too often for this device.
    """
    context, now_s = context_of(request), time.monotonic()
    address = request.client.host if request.client else ""
    key = (address, said_id[:64])
    context.failures.check(key, now_s)
    try:
        yield
    except _REFUSALS as error:
        context.failures.record(key, now_s)
        _tell(request, error, said_id, lane, address, now_s)
        raise


def _tell(
    request: Request, error: FleetwardError, said_id: str, lane: str, address: str, now_s: float
) -> None:
    db = edge_of(request).db
    with db.read() as tx:
        known = said_id if said_id and devices.find_device(tx, said_id) is not None else None
    event_key = ("enrollment.refused", known or "", address, reason_of(error))
    repeats = context_of(request).refusals.admit(event_key, now_s)
    if repeats is None:
        return
    with db.write("system:enrollment") as tx:
        service.record_refusal(
            tx, error, device_id=known, said_id=said_id, address=address, lane=lane, repeats=repeats
        )


def _enroll_by_claim(request: Request, authorization: str, body: bytes) -> Response:
    device_id, token = _parse_basic(authorization)
    with telling_refusals(request, said_id=device_id, lane=Lane.CLAIM):
        csr = est.parse_csr(body)
        with edge_of(request).db.write(f"device:{device_id[:64]}") as tx:
            return _certificates(
                request, [service.enroll_by_claim(tx, pki_of(request), device_id, token, csr)]
            )


def _count_beginning(request: Request, device_id: str) -> None:
    """Keep a stranger from pushing out the challenges of a device whose chip they can name."""
    context, now_s = context_of(request), time.monotonic()
    key = (request.client.host if request.client else "", device_id[:64])
    context.beginnings.check(key, now_s)
    context.beginnings.record(key, now_s)


def _authenticated_id(request: Request) -> str:
    """Return the device whose current certificate authenticated the connection, or raise."""
    return admit_peer(edge_of(request).db, pki_of(request), peer_certificate(request.scope)).device.id


def _parse_basic(authorization: str) -> tuple[str, str]:
    """Return user and password of HTTP Basic (RFC 7617). Raises CredentialsMissingError."""
    scheme, _, encoded = authorization[:_MAX_CREDENTIAL_CHARS].partition(" ")
    try:
        user, mark, password = base64.b64decode(encoded.strip(), validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        user, mark, password = "", "", ""
    if scheme.lower() != "basic" or not mark:
        raise CredentialsMissingError(
            "enrollment: expected HTTP Basic with device id and claim, found something else",
            challenge=BASIC_CHALLENGE,
        )
    return user, password


def _peer_id(request: Request) -> str:
    """Return the device a client certificate names, for the record of a refusal only."""
    der = peer_certificate(request.scope)
    if der is None:
        return ""
    try:
        names = x509.load_der_x509_certificate(der).extensions.get_extension_for_class(
            x509.SubjectAlternativeName
        )
    except (x509.ExtensionNotFound, *MALFORMED):
        return ""
    uris = names.value.get_values_for_type(x509.UniformResourceIdentifier)
    return uris[0].rpartition("/")[2] if uris else ""


def _certificates(request: Request, found: Sequence[x509.Certificate]) -> Response:
    body = est.render_certificates(found, request.headers.get("user-agent", ""))
    return _est_response(body, est.CERTIFICATES_TYPE)


def _est_response(body: bytes, media_type: str) -> Response:
    name, value = est.TRANSFER_ENCODING
    return Response(body, headers={"Content-Type": media_type, name: value})
