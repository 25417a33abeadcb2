"""Whatever strangers send, each edge answers with an error of our family: no library's error leaves it."""

import asyncio
import base64
import json
from collections.abc import Callable, Mapping

import pytest
from aiocoap import CON, POST, Message
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, pkcs7
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import given, settings
from hypothesis import strategies as st

from fleetward.base.coap import CoapAnswer, CoapRequest, Code
from fleetward.base.errors import FleetwardError
from fleetward.features.attestation.model import chip
from fleetward.features.enrollment.device.requests import load_issued
from fleetward.features.enrollment.model import parse_factory
from fleetward.features.enrollment.service import shipments
from fleetward.features.pki import model as pki
from fleetward.outside.dtls.coap import CoapSession
from fleetward.wire import est, signed_time
from support.authority import T0, Authority, make_certificate
from support.hierarchy import make_csr

# cryptography warns of what a later release will refuse, such as a serial number that is not positive.
pytestmark = pytest.mark.filterwarnings("default::cryptography.utils.CryptographyDeprecationWarning")
CA = Authority("maker")
KEY = ec.generate_private_key(ec.SECP256R1())
LEAF = make_certificate(
    "cam-1", KEY.public_key(), (CA.certificate.subject, CA.key), usage=ExtendedKeyUsageOID.CLIENT_AUTH,
    names=[x509.UniformResourceIdentifier("spiffe://fleet.test/device/cam-1")],
).public_bytes(Encoding.DER)  # fmt: skip
CSR = make_csr("cam-1").public_bytes(Encoding.DER)
BUNDLE = pkcs7.serialize_certificates([x509.load_der_x509_certificate(LEAF)], Encoding.DER)
SPKI = KEY.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
# What a parser raises for these is no ValueError, and comes early, late, or when a part is first looked at.
ODD = {
    "version": (b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x09"),
    "twice": (b"\x06\x03\x55\x1d\x23", b"\x06\x03\x55\x1d\x0e"),
    "name": (b"\x86\x20spiffe", b"\xa3\x20spiffe"),
    "key": (b"\x2a\x86\x48\xce\x3d\x02\x01", b"\x2a\x86\x48\xce\x3d\x02\x09"),
    "curve": (b"\x2a\x86\x48\xce\x3d\x03\x01\x07", b"\x2a\x86\x48\xce\x3d\x03\x01\x09"),
    "algorithm": (b"\x2a\x86\x48\xce\x3d\x04\x03\x02", b"\x2a\x86\x48\xce\x3d\x04\x03\x09"),
}


def pem(label: str, der: bytes) -> str:
    return f"-----BEGIN {label}-----\n{base64.encodebytes(der).decode()}-----END {label}-----\n"


def ask_coap(datagram: bytes) -> None:
    async def answer(_request: CoapRequest) -> CoapAnswer:
        return CoapAnswer(Code.CONTENT, bytes(1500), 0)

    said = asyncio.run(CoapSession(b"peer", answer).receive(datagram))
    assert said is None or Message.decode(said).code != 0xA0  # 5.00 stands for an error nobody expected


def stated(der: bytes) -> bytes:
    return json.dumps(
        {
            "time": "2026-06-01T12:00:00Z",
            "nonce": "n" * 20,
            "signature": "AAAA",
            "certificates": [base64.b64encode(der).decode()],
        }
    ).encode()


def check_ek(der: bytes) -> None:
    chip.verify_ek_chain([der], [CA.certificate], now=T0)


def trust_factory(der: bytes) -> None:
    shipments.load_idevid_authorities(
        parse_factory("plant", pem("PUBLIC KEY", SPKI), pem("CERTIFICATE", der))
    )


EDGES: Mapping[str, tuple[bytes, Callable[[bytes], object]]] = {
    "request": (CSR, est.parse_csr_der),
    "IDevID": (LEAF, est.parse_idevid),
    "EST answer": (BUNDLE, lambda der: est.parse_certificates(base64.b64encode(der))),
    "device certificate": (LEAF, pki.parse_certificate),
    "endorsement key": (LEAF, check_ek),
    "signed time": (
        LEAF,
        lambda der: signed_time.verify_signed_time(stated(der), nonce="n" * 20, roots=[CA.certificate]),
    ),
    "TPM lane's answer": (
        LEAF,
        lambda der: load_issued(json.dumps({"certificate_chain": [base64.b64encode(der).decode()]}).encode()),
    ),
    "factory's authorities": (CA.certificate.public_bytes(Encoding.DER), trust_factory),
    "factory's key": (
        SPKI,
        lambda der: shipments.load_factory_key(parse_factory("plant", pem("PUBLIC KEY", der))),
    ),
    "CoAP": (
        Message(code=POST, _mtype=CON, _mid=7, block1=(0, True, 5), payload=b"1" * 512).encode(),
        ask_coap,
    ),
}


def refuse_or_take(take: Callable[[bytes], object], content: bytes) -> None:
    try:
        take(content)
    except FleetwardError:
        return


@pytest.mark.parametrize("edge", EDGES)
def test_each_edge_takes_what_is_right(edge: str) -> None:
    good, take = EDGES[edge]
    if edge in {"endorsement key", "signed time"}:  # by other certificates
        with pytest.raises(FleetwardError):
            take(good)
    else:
        take(good)


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("edge", EDGES)
def test_what_a_parser_has_errors_of_its_own_for_is_refused(edge: str, odd: str) -> None:
    good, take = EDGES[edge]
    before, after = ODD[odd]
    refuse_or_take(take, good.replace(before, after))


@pytest.mark.parametrize("edge", EDGES)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_nothing_but_our_errors_leaves_an_edge(edge: str, data: st.DataObject) -> None:
    good, take = EDGES[edge]
    changed = bytearray(good)
    for _ in range(data.draw(st.integers(1, 3))):
        changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    refuse_or_take(take, bytes(changed[: data.draw(st.integers(0, len(changed)) | st.just(len(changed)))]))
