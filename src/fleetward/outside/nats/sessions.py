"""The devices connected now, on every server, known from nats-server's advisories; and their disconnection.

Nothing is looked up when a device must go: the map says which connection of which server to end. A connection
that began while its device was being cut off is ended the moment its advisory arrives.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec
import nats
from nats.aio.msg import Msg

from fleetward.base.clock import Clock, parse_time
from fleetward.base.errors import InvalidInputError
from fleetward.base.logging import get_logger
from fleetward.features.messaging.model import AdmissionRecord, Refusal, refusal_of
from fleetward.outside.nats.callout import parse_session_name
from fleetward.outside.nats.config import FLEET_ACCOUNT
from fleetward.outside.nats.connection import NatsConnection
from fleetward.outside.nats.mirror import AdmissionMirror

log = get_logger("sessions")

CONNECTED = f"$SYS.ACCOUNT.{FLEET_ACCOUNT}.CONNECT"
DISCONNECTED = f"$SYS.ACCOUNT.{FLEET_ACCOUNT}.DISCONNECT"
_SHUTDOWN = "$SYS.SERVER.*.SHUTDOWN"
_SCAN = "$SYS.REQ.SERVER.PING.CONNZ"
_SCAN_PAGE = 1024
_SCAN_WAIT_S = 2.0
_KICK_TIMEOUT_S = 1.0
_KICK_ATTEMPTS = 3
_NO_SUCH_CONNECTION = b"no such client"


@dataclass(frozen=True, slots=True)
class LiveSession:
    """One connection of a device."""

    device: str
    serial: str
    server: str
    connection: int
    address: str
    since: datetime

    @property
    def key(self) -> str:
        return f"{self.server}:{self.connection}"


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
    user: str = ""
    stop: str = ""
    client_type: str = ""


class _Server(msgspec.Struct, frozen=True):
    id: str


class _Advisory(msgspec.Struct, frozen=True):
    server: _Server
    client: _Client
    reason: str = ""


class _Connection(msgspec.Struct, frozen=True):
    cid: int
    start: str
    ip: str = ""
    type: str = ""
    authorized_user: str = ""


class _ConnectionPage(msgspec.Struct, frozen=True):
    server_id: str
    total: int
    connections: list[_Connection] = []


class _ConnectionAnswer(msgspec.Struct, frozen=True):
    data: _ConnectionPage


_decode_advisory = msgspec.json.Decoder(_Advisory).decode
_decode_page = msgspec.json.Decoder(_ConnectionAnswer).decode


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
    device, serial = parse_session_name(client.user)
    if client.client_type != "mqtt" or not device:
        return None
    session = LiveSession(
        device, serial, advisory.server.id, client.id, client.host, _parse_time(client.start)
    )
    return Ended(session, _parse_time(client.stop), advisory.reason) if client.stop else session


class LiveSessions:
    """Knows every connection of every device, and ends those that may not go on."""

    def __init__(
        self,
        system: NatsConnection,
        mirror: AdmissionMirror,
        clock: Clock,
        *,
        on_kick: Callable[[LiveSession, Refusal], None],
    ) -> None:
        """Prepare the map.

        Args:
            system: a connection of the system account.
            on_kick: told each session that is being ended, before it is; must be quick.
        """
        self._system = system
        self._mirror = mirror
        self._clock = clock
        self._on_kick = on_kick
        self._by_key: dict[str, LiveSession] = {}
        self._by_device: dict[str, dict[str, LiveSession]] = {}
        self._kicks: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._by_key)

    def of_device(self, device: str) -> list[LiveSession]:
        return list(self._by_device.get(device, {}).values())

    def devices(self) -> list[str]:
        return list(self._by_device)

    async def start(self) -> None:
        """Follow the advisories, then read what was connected before."""
        await self._system.follow(CONNECTED, self._on_advisory)
        await self._system.follow(DISCONNECTED, self._on_advisory)
        await self._system.follow(_SHUTDOWN, self._on_shutdown)
        await self.rescan()
        self._system.on_reconnect.append(self.rescan)
        self._mirror.listen(self._enforce)

    async def rescan(self) -> None:
        """Read the connections of all servers again: advisories were missed while we were away."""
        found = {session.key: session for session in await scan_connections(self._system)}
        for gone in self._by_key.keys() - found.keys():
            self._forget(self._by_key[gone])
        for session in found.values():
            self._note(session)

    def enforce(self, device: str) -> None:
        """End what may not go on of a device's sessions."""
        record = self._mirror.find(device)
        for session in self.of_device(device):
            self._end_if_refused(session, record)

    def _enforce(self, record: AdmissionRecord) -> None:
        for session in self.of_device(record.device):
            self._end_if_refused(session, record)

    def _end_if_refused(self, session: LiveSession, record: AdmissionRecord | None) -> None:
        refusal = refusal_of(record, session.serial, self._clock.now())
        if refusal is None:
            return
        self._on_kick(session, refusal)
        task = asyncio.create_task(self._kick(session))
        self._kicks.add(task)
        task.add_done_callback(self._kicks.discard)

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
        elif found is not None:
            self._note(found)
            self._end_if_refused(found, self._mirror.find(found.device))

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
    """Return the devices' connections of every server of the cluster, page by page."""
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
    """Return the answers of all servers: as many as there are, within two seconds."""
    inbox = system.client.new_inbox()
    subscription = await system.client.subscribe(inbox)
    await system.client.publish(_SCAN, body, reply=inbox)
    pages: list[_ConnectionPage] = []
    wait_s = _SCAN_WAIT_S
    try:
        while True:
            answer: Any = await subscription.next_msg(timeout=wait_s)
            pages.append(_decode_page(answer.data).data)
            wait_s = 0.2  # servers of one cluster answer together
    except nats.errors.TimeoutError:
        return pages
    finally:
        await subscription.unsubscribe()


def _sessions_of(page: _ConnectionPage) -> list[LiveSession]:
    named = (
        (one, *parse_session_name(one.authorized_user)) for one in page.connections if one.type == "mqtt"
    )
    return [
        LiveSession(device, serial, page.server_id, one.cid, one.ip, _parse_time(one.start))
        for one, device, serial in named
        if device
    ]


def _parse_time(text: str) -> datetime:
    """Return a time that Go wrote with nanoseconds."""
    head, dot, fraction = text.removesuffix("Z").partition(".")
    return parse_time(f"{head}.{fraction[:6]:0<6}Z" if dot else f"{head}Z")
