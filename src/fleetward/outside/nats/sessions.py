"""The devices connected now, on every server, known from nats-server's advisories; and their disconnection.

Nothing is looked up when a device must go: the map says which connection of which server to end. A connection
that began while its device was being cut off is ended the moment its advisory arrives.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any

import msgspec
import nats
from nats.aio.msg import Msg

from fleetward.base.clock import Clock, parse_time
from fleetward.base.errors import InvalidInputError
from fleetward.base.logging import get_logger
from fleetward.features.messaging.model import (
    AdmissionRecord,
    Refusal,
    RefusalCode,
    SessionCertificate,
    find_refusal,
)
from fleetward.outside.nats.callout import SESSION_GRANTED, SessionGranted
from fleetward.outside.nats.config import FLEET_ACCOUNT
from fleetward.outside.nats.connection import NatsConnection, retry
from fleetward.outside.nats.mirror import AdmissionMirror

log = get_logger("sessions")

CONNECTED = f"$SYS.ACCOUNT.{FLEET_ACCOUNT}.CONNECT"
DISCONNECTED = f"$SYS.ACCOUNT.{FLEET_ACCOUNT}.DISCONNECT"
_SHUTDOWN = "$SYS.SERVER.*.SHUTDOWN"
_SCAN = "$SYS.REQ.SERVER.PING.CONNZ"
_SCAN_PAGE = 1024
_SCAN_FIRST_S = 1.0
_SCAN_OTHERS_S = 0.2  # servers of one cluster answer together
_KICK_TIMEOUT_S = 1.0
_KICK_ATTEMPTS = 3
_MAX_SERIALS = 200_000
_READ_TWICE = 2048  # advisories: by the map of sessions, and by the recorder of presence
_NO_SUCH_CONNECTION = b"no such client"


@dataclass(frozen=True, slots=True)
class LiveSession:
    """One connection of a device.

    Attributes:
        fingerprint: SHA-256 of its certificate in hex, where the server was asked; "" where it told of it.
    """

    device: str
    server: str
    connection: int
    address: str
    since: datetime
    fingerprint: str = ""

    @property
    def key(self) -> str:
        return _key(self.server, self.connection)


@dataclass(frozen=True, slots=True)
class Ended:
    """A connection that is over."""

    session: LiveSession
    at: datetime
    reason: str


class _Client(msgspec.Struct, frozen=True):
    start: str
    id: int
    host: str = ""
    stop: str = ""
    client_type: str = ""
    client_id: str = ""


class _Server(msgspec.Struct, frozen=True):
    id: str


class _Advisory(msgspec.Struct, frozen=True):
    server: _Server
    client: _Client
    reason: str = ""


class _PeerCertificate(msgspec.Struct, frozen=True):
    cert_sha256: str = ""


class _Connection(msgspec.Struct, frozen=True):
    cid: int
    start: str
    ip: str = ""
    mqtt_client: str = ""
    tls_peer_certs: list[_PeerCertificate] = []


class _ConnectionPage(msgspec.Struct, frozen=True):
    server_id: str
    total: int
    connections: list[_Connection] = []


class _ConnectionAnswer(msgspec.Struct, frozen=True):
    data: _ConnectionPage


_decode_advisory = msgspec.json.Decoder(_Advisory).decode
_decode_granted = msgspec.json.Decoder(SessionGranted).decode
_decode_page = msgspec.json.Decoder(_ConnectionAnswer).decode


@lru_cache(_READ_TWICE)
def parse_advisory(content: bytes) -> LiveSession | Ended | None:
    """Return what an advisory says of a device's connection, None for anybody else's.

    Raises:
        InvalidInputError: not an advisory.
    """
    try:
        advisory = _decode_advisory(content)
    except msgspec.MsgspecError as error:
        raise InvalidInputError("advisory: expected server and client, found another form") from error
    client = advisory.client
    if client.client_type != "mqtt" or not client.client_id:
        return None
    # The callout lets no device in under a client id but its own.
    session = LiveSession(
        client.client_id, advisory.server.id, client.id, client.host, _parse_time(client.start)
    )
    return Ended(session, _parse_time(client.stop), advisory.reason) if client.stop else session


class LiveSessions:
    """Knows every connection of every device, and ends those that may not go on."""

    def __init__(
        self,
        platform: NatsConnection,
        system: NatsConnection,
        mirror: AdmissionMirror,
        clock: Clock,
        *,
        on_kick: Callable[[LiveSession, Refusal], None],
    ) -> None:
        """Prepare the map.

        Args:
            platform, system: connections of the account FLEET and of the system account.
            on_kick: told each session that is being ended, before it is; must be quick.
        """
        self._platform = platform
        self._system = system
        self._mirror = mirror
        self._clock = clock
        self._on_kick = on_kick
        self._by_key: dict[str, LiveSession] = {}
        self._by_device: dict[str, dict[str, LiveSession]] = {}
        self._serials: OrderedDict[str, str] = OrderedDict()
        self._kicks: set[asyncio.Task[None]] = set()
        self._ended_meanwhile: set[str] = set()

    def __len__(self) -> int:
        return len(self._by_key)

    def of_device(self, device: str) -> list[LiveSession]:
        return list(self._by_device.get(device, {}).values())

    def all(self) -> list[LiveSession]:
        return list(self._by_key.values())

    def __contains__(self, device: object) -> bool:
        return device in self._by_device

    def serial_of(self, key: str) -> str:
        """Return the certificate a connection was granted on, "" when that was before our time."""
        return self._serials.get(key, "")

    def certificate_of(self, session: LiveSession) -> SessionCertificate | None:
        """Return the certificate a session was granted on; None when that was before our time."""
        serial = self.serial_of(session.key)
        return SessionCertificate(session.device, serial) if serial else None

    def identify(self, serials: dict[str, str]) -> None:
        """Learn the serials of certificates that so far are known by their fingerprints alone."""
        for session in self._by_key.values():
            if session.fingerprint in serials:
                self._serials.setdefault(session.key, serials[session.fingerprint])

    async def start(self) -> None:
        """Follow grants and advisories, then read what was connected before."""
        await self._platform.follow(SESSION_GRANTED, self._on_granted)
        await self._system.follow(CONNECTED, self._on_advisory)
        await self._system.follow(DISCONNECTED, self._on_advisory)
        await self._system.follow(_SHUTDOWN, self._on_shutdown)
        await retry(self.rescan, what="connections")
        self._system.on_reconnect.append(self.rescan)
        self._mirror.listen(self._on_record)

    async def rescan(self) -> None:
        """Read the connections of all servers again: advisories were missed while we were away."""
        before = set(self._by_key)
        self._ended_meanwhile = set()
        found = {session.key: session for session in await scan_connections(self._system)}
        for gone in before & self._by_key.keys() - found.keys():
            self._forget(self._by_key[gone])
        for key in found.keys() - self._ended_meanwhile:
            self._note(found[key])
            self.enforce(found[key].device)

    def enforce(self, device: str) -> None:
        """End what may not go on of a device's sessions."""
        record = self._mirror.find(device)
        for session in self.of_device(device):
            refusal = find_refusal(record, self.certificate_of(session), self._clock.now())
            if refusal is not None:
                self.end(session, refusal)

    def _on_record(self, record: AdmissionRecord, known: AdmissionRecord | None) -> None:
        self.enforce(record.device)
        if known is None or record.revoked_serials <= known.revoked_serials:
            return
        for session in self.of_device(record.device):
            if not self.serial_of(session.key):  # it may well be on the certificate just revoked
                self.end(session, _revoked(record.device))

    def end(self, session: LiveSession, refusal: Refusal) -> None:
        """End a session: as soon as its server answers."""
        self._on_kick(session, refusal)
        task = asyncio.create_task(self._kick(session))
        self._kicks.add(task)
        task.add_done_callback(self._kicks.discard)

    async def _on_granted(self, message: Msg) -> None:
        try:
            granted = _decode_granted(message.data)
        except msgspec.MsgspecError as error:
            log.warning("grant_unreadable", reason=str(error))
            return
        key = _key(granted.server, granted.connection)
        self._serials[key] = granted.serial
        if len(self._serials) > _MAX_SERIALS:
            self._serials.popitem(last=False)
        if key in self._by_key:
            self.enforce(granted.device)

    async def _kick(self, session: LiveSession) -> None:
        subject = f"$SYS.REQ.SERVER.{session.server}.KICK"
        body = msgspec.json.encode({"cid": session.connection})
        for _ in range(_KICK_ATTEMPTS):
            try:
                answer = await self._system.client.request(subject, body, timeout=_KICK_TIMEOUT_S)
            except nats.errors.NoRespondersError:  # the server is gone, and the connection with it
                self._forget(session)
                return
            except (nats.errors.Error, TimeoutError) as error:
                log.warning("kick_retry", device=session.device, error=type(error).__name__)
                continue
            if _NO_SUCH_CONNECTION in answer.data:
                self._forget(session)
            return
        log.error("kick_failed", device=session.device, server=session.server)

    async def _on_advisory(self, message: Msg) -> None:
        try:
            found = parse_advisory(message.data)
        except InvalidInputError as error:
            log.warning("advisory_unreadable", reason=error.message)
            return
        if isinstance(found, Ended):
            self._forget(found.session)
            self._ended_meanwhile.add(found.session.key)
        elif found is not None:
            self._note(found)
            self.enforce(found.device)

    async def _on_shutdown(self, message: Msg) -> None:
        server = message.subject.split(".")[2]
        for session in [one for one in self._by_key.values() if one.server == server]:
            self._forget(session)

    def _note(self, session: LiveSession) -> None:
        self._by_key[session.key] = session
        self._by_device.setdefault(session.device, {})[session.key] = session

    def _forget(self, session: LiveSession) -> None:
        self._by_key.pop(session.key, None)
        mine = self._by_device.get(session.device)
        if mine is not None:
            mine.pop(session.key, None)
            if not mine:
                del self._by_device[session.device]


async def scan_connections(system: NatsConnection) -> list[LiveSession]:
    """Return the devices' connections of every server of the cluster, page by page. Raises as `_ask_all`."""
    found: list[LiveSession] = []
    offset, is_complete = 0, False
    while not is_complete:
        request = {"acc": FLEET_ACCOUNT, "auth": True, "limit": _SCAN_PAGE, "offset": offset}
        pages = await _ask_all(system, msgspec.json.encode(request))
        found += [session for page in pages for session in _sessions_of(page)]
        offset += _SCAN_PAGE
        is_complete = all(page.total <= offset for page in pages)
    return found


async def _ask_all(system: NatsConnection, body: bytes) -> list[_ConnectionPage]:
    """Return the answers of all servers there are.

    Raises:
        nats.errors.TimeoutError: none answered; nothing is known then, and nothing may be concluded.
    """
    inbox = system.client.new_inbox()
    subscription = await system.client.subscribe(inbox)
    await system.client.publish(_SCAN, body, reply=inbox)
    pages: list[_ConnectionPage] = []
    wait_s = _SCAN_FIRST_S
    try:
        while True:
            answer: Any = await subscription.next_msg(timeout=wait_s)
            pages.append(_decode_page(answer.data).data)
            wait_s = _SCAN_OTHERS_S
    except nats.errors.TimeoutError:
        if not pages:
            raise
        return pages
    finally:
        await subscription.unsubscribe()


def _sessions_of(page: _ConnectionPage) -> list[LiveSession]:
    return [
        LiveSession(
            one.mqtt_client,
            page.server_id,
            one.cid,
            one.ip,
            _parse_time(one.start),
            fingerprint=one.tls_peer_certs[0].cert_sha256 if one.tls_peer_certs else "",
        )
        for one in page.connections
        if one.mqtt_client
    ]


def _revoked(device: str) -> Refusal:
    return Refusal(RefusalCode.CERTIFICATE_REVOKED, f"A certificate of device {device} was revoked.", device)


def _key(server: str, connection: int) -> str:
    return f"{server}:{connection}"


def _parse_time(text: str) -> datetime:
    """Return a time that Go wrote with nanoseconds."""
    head, dot, fraction = text.removesuffix("Z").partition(".")
    return parse_time(f"{head}.{fraction[:6]:0<6}Z" if dot else f"{head}Z")
