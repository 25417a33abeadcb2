"""EST over CoAP (RFC 9148): the CAs, and renewal by the same rules as over TLS."""

import asyncio

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7

from fleetward.base.coap import CoapAnswer, CoapRequest, Code
from fleetward.base.db import Tx
from fleetward.base.errors import InvalidInputError
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
    if request.content_format != PKCS10:
        raise InvalidInputError("sren: expected content format 286 (PKCS#10), found another")
    csr = est.parse_csr_der(request.payload)
    return await asyncio.to_thread(_renew, house, request.peer, csr)


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
    CoapResource("POST", ".well-known/est/sren", renew),
)
