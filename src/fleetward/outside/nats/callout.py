"""Answers nats-server's question whether a connection may live (authorization callout)."""

import asyncio
import time
from collections.abc import Callable
from functools import lru_cache

import msgspec
from cryptography import x509
from nats.aio.msg import Msg

from fleetward.base.clock import Clock
from fleetward.base.errors import FleetwardError, InvalidInputError
from fleetward.base.logging import get_logger
from fleetward.features.messaging.model import (
    MAY_CHANGE_SOON,
    Grant,
    Refusal,
    RefusalCode,
    SessionCertificate,
    decide,
)
from fleetward.outside.nats.config import FLEET_ACCOUNT, MAX_PAYLOAD_BYTES
from fleetward.outside.nats.connection import NatsConnection
from fleetward.outside.nats.mirror import AdmissionMirror
from fleetward.wire.der import MALFORMED
from fleetward.wire.nats_jwt import (
    AccountSigner,
    AuthorizationRequest,
    parse_authorization_request,
    render_grant,
    render_refusal,
)

log = get_logger("callout")

SUBJECT = "$SYS.REQ.USER.AUTH"
QUEUE = "callout"
SESSION_GRANTED = "fleet.session.granted"
# A certificate may reach the broker before the event of its enrollment has reached the mirror.
PATIENCE_S = 0.4
_CACHED_CERTIFICATES = 8192
_MAX_SUBSCRIPTIONS = 64


class SessionGranted(msgspec.Struct, frozen=True):
    """Told on `SESSION_GRANTED` before the answer: which certificate a connection was granted on."""

    server: str
    connection: int
    device: str
    serial: str


Identify = Callable[[x509.Certificate], str]
OnRefusal = Callable[[AuthorizationRequest, Refusal], None]


class CalloutResponder:
    """Answers each request from the mirror; no bad request ends it."""

    def __init__(
        self,
        connection: NatsConnection,
        mirror: AdmissionMirror,
        signer: AccountSigner,
        clock: Clock,
        *,
        identify: Identify,
        on_refusal: OnRefusal,
    ) -> None:
        """Prepare to answer.

        Args:
            identify: returns the device id in the SAN of a certificate of our trust domain, or raises
                InvalidInputError or another of our errors.
            on_refusal: told each refusal; must be quick.
        """
        self._connection = connection
        self._mirror = mirror
        self._signer = signer
        self._clock = clock
        self._on_refusal = on_refusal
        self._read_certificate = lru_cache(_CACHED_CERTIFICATES)(_CertificateReader(identify))
        self._patient: set[asyncio.Task[None]] = set()
        self.answered = 0
        self.spent_s = 0.0

    async def start(self) -> None:
        """Answer from now on, sharing the work with other responders."""
        await self._connection.follow(SUBJECT, self._on_message, queue=QUEUE)

    async def _on_message(self, message: Msg) -> None:
        started_s = time.perf_counter()
        try:
            request = parse_authorization_request(message.data)
        except InvalidInputError as error:
            log.warning("callout_request_unreadable", reason=error.message)
            return
        decision = self.decide(request)
        if isinstance(decision, Refusal) and decision.code in MAY_CHANGE_SOON and decision.device is not None:
            task = asyncio.create_task(self._answer_patiently(message, request, decision.device))
            self._patient.add(task)
            task.add_done_callback(self._patient.discard)
        else:
            await self._answer(message, request, decision)
        self.answered += 1
        self.spent_s += time.perf_counter() - started_s

    def decide(self, request: AuthorizationRequest) -> Grant | Refusal:
        """Return what the request's client may do; without MQTT and a device's certificate, nothing."""
        if request.kind != "mqtt" or not request.chain:
            return Refusal(
                RefusalCode.NOT_A_DEVICE,
                f"A {request.kind or 'nameless'} client at {request.address} came without a certificate.",
            )
        certificate = self._read_certificate(request.chain[0])
        if isinstance(certificate, Refusal):
            return certificate
        return decide(
            self._mirror.find(certificate.device), certificate, request.mqtt_client, self._clock.now()
        )

    async def _answer_patiently(self, message: Msg, request: AuthorizationRequest, device: str) -> None:
        """Answer once the device is admissible, or after a moment: its record may be on its way."""
        deadline_s = time.monotonic() + PATIENCE_S
        while (left_s := deadline_s - time.monotonic()) > 0:
            if not await self._mirror.wait_for_change(device, left_s):
                break
            if isinstance(self.decide(request), Grant):
                break
        await self._answer(message, request, self.decide(request))

    async def _answer(self, message: Msg, request: AuthorizationRequest, decision: Grant | Refusal) -> None:
        now_s = int(self._clock.now().timestamp())
        if isinstance(decision, Refusal):
            self._on_refusal(request, decision)
            await message.respond(
                render_refusal(self._signer, request, code=decision.code.value, issued_at_s=now_s)
            )
            return
        certificate = self._read_certificate(request.chain[0])
        if isinstance(certificate, SessionCertificate):
            granted = SessionGranted(
                request.server, request.connection, certificate.device, certificate.serial
            )
            await self._connection.client.publish(SESSION_GRANTED, msgspec.json.encode(granted))
        await message.respond(
            render_grant(
                self._signer,
                request,
                account=FLEET_ACCOUNT,
                publish=decision.publish,
                subscribe=decision.subscribe,
                max_payload_bytes=MAX_PAYLOAD_BYTES,
                max_subscriptions=_MAX_SUBSCRIPTIONS,
                issued_at_s=now_s,
                expires_at_s=int(decision.expires_at.timestamp()),
            )
        )


class _CertificateReader:
    """Reads the leaf that nats-server has verified against the device CAs."""

    def __init__(self, identify: Identify) -> None:
        self._identify = identify

    def __call__(self, pem: str) -> SessionCertificate | Refusal:
        try:
            certificate = x509.load_pem_x509_certificate(pem.encode())
            device = self._identify(certificate)
        except (FleetwardError, *MALFORMED) as error:
            reason = error.message if isinstance(error, FleetwardError) else "it cannot be read"
            return Refusal(
                RefusalCode.CERTIFICATE_UNTRUSTED,
                f"A client came with a certificate that names no device: {reason}.",
            )
        return SessionCertificate(
            device=device,
            serial=f"{certificate.serial_number:x}",
            not_before=certificate.not_valid_before_utc,
            not_after=certificate.not_valid_after_utc,
        )
