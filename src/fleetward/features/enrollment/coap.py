"""EST over CoAP (RFC 9148): the CAs, a first certificate and renewal by the same rules as over TLS."""

import asyncio
from collections.abc import Callable

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7

from fleetward.base.coap import CoapAnswer, CoapRequest, Code
from fleetward.base.db import Tx
from fleetward.base.feature import CoapResource, House
from fleetward.features.devices.peer import authenticate_peer
from fleetward.features.enrollment import service
from fleetward.features.pki.service import PkiContext
from fleetward.wire import est

# Content formats of RFC 9148 section 9.1.
CERTS_ONLY, PKCS10 = 281, 286


async def get_authorities(house: House, _request: CoapRequest) -> CoapAnswer:
    """Answer `crts` with the chain of the device CA."""
    pki = house.get(PkiContext)
    return _render(Code.CONTENT, [pki.device_ca.certificate, *pki.device_ca.chain, pki.root])


async def renew(house: House, request: CoapRequest) -> CoapAnswer:
    """Answer `sren` with a certificate for the device that the session's certificate proves."""
    return await _answer(house, request, _renew)


async def enroll(house: House, request: CoapRequest) -> CoapAnswer:
    """Answer `sen` with a first certificate for the device whose IDevID the session proves."""
    return await _answer(house, request, _enroll)


async def _answer(
    house: House,
    request: CoapRequest,
    act: Callable[[House, bytes, x509.CertificateSigningRequest], CoapAnswer],
) -> CoapAnswer:
    if request.content_format != PKCS10:
        said = b"expected content format 286 (PKCS#10), found another"
        return CoapAnswer(Code.UNSUPPORTED_CONTENT_FORMAT, said)
    csr = est.parse_csr_der(request.payload)
    return await asyncio.to_thread(act, house, request.peer, csr)


def _enroll(house: House, der: bytes, csr: x509.CertificateSigningRequest) -> CoapAnswer:
    with house.db.write("system:coap") as tx:
        issued = service.enroll_by_idevid(tx, house.get(PkiContext), est.parse_idevid(der), csr)
    return _render(Code.CHANGED, [issued])


def _renew(house: House, der: bytes, csr: x509.CertificateSigningRequest) -> CoapAnswer:
    pki = house.get(PkiContext)

    def renew_now(tx: Tx) -> x509.Certificate:
        peer = authenticate_peer(tx, pki, der)
        return service.reenroll(tx.acting_as(f"device:{peer.device.id}"), pki, peer, csr)

    return _render(Code.CHANGED, [house.db.write_together("system:coap", renew_now)])


def _render(code: Code, certificates: list[x509.Certificate]) -> CoapAnswer:
    return CoapAnswer(code, pkcs7.serialize_certificates(certificates, Encoding.DER), CERTS_ONLY)


RESOURCES = (
    CoapResource("GET", ".well-known/est/crts", get_authorities),
    CoapResource("POST", ".well-known/est/sen", enroll),
    CoapResource("POST", ".well-known/est/sren", renew),
)
