"""Routes of the certificate authority: public ones for relying parties, operators' own."""

import base64
from dataclasses import dataclass
from typing import Annotated, Literal

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from fastapi import APIRouter, Depends, Request, Response
from pydantic import Field

from fleetward.base.body import Body
from fleetward.base.clock import render_time, render_time_or_none
from fleetward.base.errors import NotFoundError
from fleetward.base.web import Db, Principal, answers_with, requires
from fleetward.features.pki import service
from fleetward.features.pki.model import (
    MAX_NOTE_CHARS,
    CertificateRecord,
    RevocationReason,
    parse_serial,
)
from fleetward.features.pki.service import PkiContext, revocation

router = APIRouter(tags=["pki"])
public_router = APIRouter(tags=["pki"])
# Public as well, under the API's own prefix.
api_router = APIRouter(tags=["pki"])

CRL_PATH = "/pki/crl/device-ca.crl"
OCSP_PATH = "/pki/ocsp"
CA_PATH = "/pki/ca"
_CERTIFICATE_TYPE = "application/pkix-cert"
_OCSP_TYPE = "application/ocsp-response"


@dataclass(frozen=True)
class CertificateView:
    """One certificate of a device; `serial` in hexadecimal, `revocation_note` as whoever revoked it said."""

    serial: str
    not_before: str
    not_after: str
    issued_at: str
    revoked_at: str | None
    revocation_reason: str | None
    revocation_note: str | None


class RevokeBody(Body):
    """Why, for people, and for relying parties as RFC 5280 names it."""

    reason: Annotated[str, Field(min_length=1, max_length=MAX_NOTE_CHARS)]
    why: Literal["key_compromise", "cessation_of_operation", "unspecified"] = "key_compromise"


@dataclass(frozen=True)
class AuthorityView:
    name: str
    subject: str
    not_before: str
    not_after: str
    sha256: str


async def read_body(request: Request) -> bytes:
    return await request.body()


@public_router.get(CRL_PATH)
def crl(request: Request, db: Db) -> Response:
    """The CRL of the device CA, signed anew when something was revoked since."""
    context = _context(request)
    with db.read() as tx:
        der = revocation.find_current_crl(tx, context.device_ca)
    if der is None:
        with db.write("system:pki") as tx:
            der = revocation.get_crl(tx, context.device_ca)
    return Response(der, media_type="application/pkix-crl")


@public_router.post(OCSP_PATH)
def ocsp_post(request: Request, db: Db, body: Annotated[bytes, Depends(read_body)]) -> Response:
    with db.read() as tx:
        return _ocsp(revocation.answer_ocsp(tx, _context(request), body))


@public_router.get(f"{OCSP_PATH}/{{encoded:path}}")
def ocsp_get(request: Request, db: Db, encoded: str) -> Response:
    """Answer a request in the path, base64 (RFC 6960 appendix A.1)."""
    try:
        body = base64.b64decode(encoded, validate=True)
    except ValueError:
        return _ocsp(revocation.malformed_ocsp_request())
    with db.read() as tx:
        answer, now = revocation.answer_ocsp(tx, _context(request), body), tx.now
    return Response(answer, media_type=_OCSP_TYPE, headers=revocation.caching_of(answer, now))


@public_router.get(f"{CA_PATH}/{{name}}.crt")
def authority(request: Request, name: str) -> Response:
    """One of our CA certificates, DER: `root`, `device-ca` or `server-ca`."""
    found = _authorities(_context(request)).get(name)
    if found is None:
        raise NotFoundError(
            f"authority {name[:64]}: expected root, device-ca or server-ca, found another name"
        )
    return Response(found.public_bytes(Encoding.DER), media_type=_CERTIFICATE_TYPE)


@api_router.get("/pki/ca.pem", response_class=Response, responses=answers_with("application/x-pem-file"))
def root(request: Request) -> Response:
    """The root certificate, PEM: what clients pin."""
    pem = _context(request).root.public_bytes(Encoding.PEM)
    return Response(pem, media_type="application/x-pem-file")


# The same for relying parties that know only the API's address.
api_router.get("/pki/crl", response_class=Response, responses=answers_with("application/pkix-crl"))(crl)
for _path, _answer, _ask in (
    ("/pki/ocsp", ocsp_post, api_router.post),
    ("/pki/ocsp/{encoded:path}", ocsp_get, api_router.get),
):
    _ask(_path, response_class=Response, responses=answers_with("application/ocsp-response"))(_answer)


@router.get("/pki/authorities")
def list_authorities(
    request: Request, _principal: Annotated[Principal, requires("authority.read")]
) -> list[AuthorityView]:
    return [
        AuthorityView(
            name=name,
            subject=one.subject.rfc4514_string(),
            not_before=render_time(one.not_valid_before_utc),
            not_after=render_time(one.not_valid_after_utc),
            sha256=one.fingerprint(hashes.SHA256()).hex(),
        )
        for name, one in _authorities(_context(request)).items()
    ]


@router.get("/devices/{device_id}/certificates")
def list_certificates(
    db: Db, device_id: str, _principal: Annotated[Principal, requires("certificate.read")]
) -> list[CertificateView]:
    """The device's certificates, newest first: its timeline."""
    with db.read() as tx:
        return [_view(record) for record in service.list_certificates(tx, device_id)]


@router.post("/devices/{device_id}/certificates/{serial}/revoke")
def revoke(
    db: Db,
    device_id: str,
    serial: str,
    body: RevokeBody,
    principal: Annotated[Principal, requires("device.revoke")],
) -> CertificateView:
    """Take one certificate back: its session ends now. Doing it again changes nothing."""
    with db.write(principal.actor) as tx:
        record = service.revoke_certificate(
            tx, parse_serial(serial), body.reason, why=RevocationReason(body.why), device_id=device_id
        )
    return _view(record)


def _context(request: Request) -> PkiContext:
    context: PkiContext = request.app.state.pki
    return context


def _authorities(context: PkiContext) -> dict[str, x509.Certificate]:
    return {
        "root": context.root,
        "device-ca": context.device_ca.certificate,
        "server-ca": context.server_ca.certificate,
    }


def _ocsp(der: bytes) -> Response:
    return Response(der, media_type=_OCSP_TYPE)


def _view(record: CertificateRecord) -> CertificateView:
    return CertificateView(
        serial=f"{record.serial:x}",
        not_before=render_time(record.not_before),
        not_after=render_time(record.not_after),
        issued_at=render_time(record.issued_at),
        revoked_at=render_time_or_none(record.revoked_at),
        revocation_reason=None if record.revocation_reason is None else record.revocation_reason.value,
        revocation_note=record.revocation_note,
    )
