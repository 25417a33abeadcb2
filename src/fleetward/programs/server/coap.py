"""What devices may ask over CoAP: EST (RFC 9148) and telemetry, by the same rules as over TLS."""

import asyncio
import time
from collections.abc import Awaitable, Callable

from aiocoap import (
    BAD_REQUEST,
    CHANGED,
    CONTENT,
    FORBIDDEN,
    METHOD_NOT_ALLOWED,
    NOT_FOUND,
    SERVICE_UNAVAILABLE,
    UNAUTHORIZED,
)
from aiocoap.numbers.codes import Code
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7

from fleetward.base.errors import (
    FleetwardError,
    ForbiddenError,
    InvalidInputError,
    UnauthenticatedError,
    UnavailableError,
)
from fleetward.base.events import Severity, emit
from fleetward.base.throttle import RefusalThrottle
from fleetward.features.devices.peer import admit_peer, authenticate_peer
from fleetward.features.enrollment import service as enrollment
from fleetward.features.messaging import service as messaging
from fleetward.outside.dtls.coap import CoapAnswer, CoapRequest, refuse
from fleetward.programs.server.build import Rooms
from fleetward.wire import est
from fleetward.wire.mqtt_topics import parse_mqtt_topic
from fleetward.wire.telemetry import parse_reading

# Content formats of RFC 9148 section 9.1.
CERTS_ONLY, PKCS10 = 281, 286
_EST = (".well-known", "est")
_TELEMETRY_LEVELS = 4

Publish = Callable[[str, bytes], Awaitable[None]]


class CoapApp:
    """Answers requests of authenticated clients."""

    def __init__(self, rooms: Rooms, publish: Publish) -> None:
        """Answer for a platform; `publish` hands a telemetry payload to a NATS subject."""
        self._rooms, self._publish = rooms, publish

    async def __call__(self, request: CoapRequest) -> CoapAnswer:
        try:
            if request.path[:2] == _EST:
                return await asyncio.to_thread(self._est, request)
            if len(request.path) == _TELEMETRY_LEVELS and request.path[0] == "d" and request.path[2] == "t":
                return await self._take_telemetry(request)
        except FleetwardError as error:
            return refuse(error, _code_of(error))
        return CoapAnswer(NOT_FOUND)

    def _est(self, request: CoapRequest) -> CoapAnswer:
        verb = request.path[2:]
        if verb == ("crts",):
            pki = self._rooms.pki
            if request.method != "GET":
                return CoapAnswer(METHOD_NOT_ALLOWED)
            chain = [pki.device_ca.certificate, *pki.device_ca.chain, pki.root]
            return CoapAnswer(CONTENT, pkcs7.serialize_certificates(chain, Encoding.DER), CERTS_ONLY)
        if verb != ("sren",):
            return CoapAnswer(NOT_FOUND)
        if request.method != "POST" or request.content_format != PKCS10:
            raise InvalidInputError("sren: expected POST of content format 286 (PKCS#10), found another")
        csr = est.parse_csr_der(request.payload)
        with self._rooms.db.write("device:coap") as tx:
            peer = authenticate_peer(tx, self._rooms.pki, request.peer)
            certificate = enrollment.reenroll(tx, self._rooms.pki, peer, csr)
        return CoapAnswer(CHANGED, pkcs7.serialize_certificates([certificate], Encoding.DER), CERTS_ONLY)

    async def _take_telemetry(self, request: CoapRequest) -> CoapAnswer:
        if request.method != "POST":
            return CoapAnswer(METHOD_NOT_ALLOWED)
        topic = parse_mqtt_topic("/".join(request.path))
        parse_reading(request.payload, what=topic.mqtt)
        await asyncio.to_thread(self._check_session, request.peer, topic.device)
        await self._publish(topic.subject, request.payload)
        return CoapAnswer(CHANGED)

    def _check_session(self, der: bytes, device_id: str) -> None:
        peer = admit_peer(self._rooms.db, self._rooms.pki, der)
        if peer.device.id != device_id:
            raise ForbiddenError(f"topic of {device_id}: expected the device's own, found {peer.device.id}'s")
        with self._rooms.db.read() as tx:
            messaging.require_session(tx, device_id, peer.certificate)


class DtlsRefusals:
    """Turns failed handshakes into `tls.refused` events, off the event loop and never in a flood."""

    def __init__(self, rooms: Rooms) -> None:
        self._rooms, self._throttle = rooms, RefusalThrottle()
        self._writing: set[asyncio.Task[None]] = set()

    def __call__(self, address: str, reason: str) -> None:
        repeats = self._throttle.admit(("tls.refused", address, reason), time.monotonic())
        if repeats is not None:
            task = asyncio.create_task(asyncio.to_thread(self._write, address, reason, repeats))
            self._writing.add(task)
            task.add_done_callback(self._writing.discard)

    def _write(self, address: str, reason: str, repeats: int) -> None:
        with self._rooms.db.write("system:dtls") as tx:
            emit(
                tx, "tls.refused", f"The DTLS port refused a client at {address}: {reason}.",
                severity=Severity.WARNING, listener="dtls", address=address, reason=reason, repeats=repeats,
            )  # fmt: skip


def _code_of(error: FleetwardError) -> Code:
    for kind, code in (
        (InvalidInputError, BAD_REQUEST),
        (UnauthenticatedError, UNAUTHORIZED),
        (UnavailableError, SERVICE_UNAVAILABLE),
    ):
        if isinstance(error, kind):
            return code
    return FORBIDDEN
