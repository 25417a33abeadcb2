"""A device that is cut off while it connects: whichever word comes first, its session is ended."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from nats.aio.msg import Msg

from fleetward.features.devices.model import DeviceState
from fleetward.features.messaging.model import AdmissionRecord, Refusal, RefusalCode
from fleetward.outside.nats.callout import SessionGranted
from fleetward.outside.nats.connection import NatsConnection, connect
from fleetward.outside.nats.mirror import AdmissionMirror
from fleetward.outside.nats.server import NatsServerChild
from fleetward.outside.nats.sessions import _SCAN, CONNECTED, LiveSession, LiveSessions
from support.broker import Rig

ACTIVE = AdmissionRecord(
    "cam-1", 5, DeviceState.ACTIVE, requires_appraisal=False, live_serials=frozenset({"aa", "bb"})
)
QUARANTINED = replace(ACTIVE, version=6, state=DeviceState.QUARANTINED)
REVOKED_AA = replace(ACTIVE, version=6, live_serials=frozenset({"bb"}), revoked_serials=frozenset({"aa"}))


class Race:
    """A map of sessions over a real broker, told in any order what really comes in any order."""

    def __init__(self, rig: Rig, platform: NatsConnection, system: NatsConnection) -> None:
        self.mirror = AdmissionMirror(platform, platform.client.jetstream())
        self.kicked: list[RefusalCode] = []
        self.system = system
        self.sessions = LiveSessions(platform, system, self.mirror, rig.clock, on_kick=self._on_kick)
        self.mirror.listen(self.sessions._on_record)

    def _on_kick(self, _session: LiveSession, refusal: Refusal) -> None:
        self.kicked.append(refusal.code)

    def know(self, record: AdmissionRecord) -> None:
        self.mirror._hold(record)

    async def advise(self, connection: int = 7, *, stop: str = "") -> None:
        """Tell that a connection of server S began, or that it ended."""
        content = {
            "server": {"id": "S"},
            "client": {
                "start": "2026-06-01T12:00:00Z", "id": connection, "host": "127.0.0.1",
                "client_type": "mqtt", "client_id": "cam-1", "stop": stop,
            },
        }  # fmt: skip
        await self.sessions._on_advisory(_message(CONNECTED, msgspec.json.encode(content)))

    async def hear_nothing(self) -> None:
        pass

    async def answer_scans(self, *connections: int, meanwhile: Callable[[], Awaitable[None]]) -> None:
        """Answer as server S which connections it has, and let something happen before it is heard."""

        async def answer(message: Msg) -> None:
            found = [
                {"cid": one, "start": "2026-06-01T12:00:00Z", "mqtt_client": "cam-1"} for one in connections
            ]
            page = {"server_id": "S", "total": len(found), "connections": found}
            await meanwhile()
            await message.respond(msgspec.json.encode({"data": page}))

        await self.system.follow(_SCAN, answer)

    async def grant(self, serial: str = "aa") -> None:
        """Tell on which certificate connection 7 was granted."""
        granted = msgspec.json.encode(SessionGranted("S", 7, "cam-1", serial))
        await self.sessions._on_granted(_message("granted", granted))


def _message(subject: str, data: bytes) -> Msg:
    return Msg(_client=None, subject=subject, data=data)  # type: ignore[arg-type] # it is only read


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    rig = Rig(tmp_path)
    yield rig
    rig.close()


@pytest.fixture
def race(rig: Rig) -> Iterator[Race]:
    child = NatsServerChild(rig.broker, rig.keys, on_line=lambda _line: None, on_restart=lambda _status: None)

    async def start() -> tuple[NatsConnection, NatsConnection, Race]:
        await child.start()
        platform = await connect(rig.address, seed=rig.keys.platform, name="test")
        system = await connect(rig.address, seed=rig.keys.system, name="test-system")
        return platform, system, Race(rig, platform, system)

    platform, system, made = rig.loop.run(start())
    yield made

    async def stop() -> None:
        await asyncio.gather(*made.sessions._kicks)
        await platform.close()
        await system.close()
        await child.stop()

    rig.loop.run(stop())


def test_one_that_may_stay_is_not_kicked(rig: Rig, race: Race) -> None:
    async def play() -> None:
        race.know(ACTIVE)
        await race.grant()
        await race.advise()
        race.know(replace(ACTIVE, version=7, live_serials=frozenset({"aa"})))

    rig.loop.run(play())
    assert race.kicked == []
    assert "cam-1" in race.sessions
    assert "cam-2" not in race.sessions


def test_cut_off_after_its_session_is_known(rig: Rig, race: Race) -> None:
    async def play() -> None:
        race.know(ACTIVE)
        await race.grant()
        await race.advise()
        race.know(QUARANTINED)

    rig.loop.run(play())
    assert race.kicked == [RefusalCode.DEVICE_NOT_ACTIVE]


def test_cut_off_between_its_grant_and_the_word_of_its_connection(rig: Rig, race: Race) -> None:
    async def play() -> None:
        race.know(ACTIVE)
        await race.grant()
        race.know(REVOKED_AA)
        await race.advise()

    rig.loop.run(play())
    assert race.kicked == [RefusalCode.CERTIFICATE_REVOKED]


def test_the_word_of_its_grant_comes_last(rig: Rig, race: Race) -> None:
    async def play() -> None:
        race.know(REVOKED_AA)
        await race.advise()
        assert race.kicked == []  # it may be on the other certificate
        await race.grant("aa")

    rig.loop.run(play())
    assert race.kicked == [RefusalCode.CERTIFICATE_REVOKED]


def test_a_certificate_is_revoked_while_that_of_the_session_is_not_known(rig: Rig, race: Race) -> None:
    async def play() -> None:
        race.know(ACTIVE)
        await race.advise()
        race.know(REVOKED_AA)

    rig.loop.run(play())
    assert race.kicked == [RefusalCode.CERTIFICATE_REVOKED]


def test_one_that_ends_while_all_are_being_read_is_not_there_afterwards(rig: Rig, race: Race) -> None:
    async def play() -> None:
        race.know(ACTIVE)
        await race.advise()
        await race.answer_scans(7, 8, meanwhile=lambda: race.advise(7, stop="2026-06-01T12:00:09Z"))
        await race.sessions.rescan()

    rig.loop.run(play())
    assert [one.key for one in race.sessions.of_device("cam-1")] == ["S:8"]


def test_one_that_begins_while_all_are_being_read_stays_and_one_that_is_gone_goes(
    rig: Rig, race: Race
) -> None:
    async def play() -> None:
        race.know(ACTIVE)
        await race.advise(7)
        await race.answer_scans(meanwhile=lambda: race.advise(8))
        await race.sessions.rescan()

    rig.loop.run(play())
    assert [one.key for one in race.sessions.of_device("cam-1")] == ["S:8"]


def test_one_found_when_all_are_read_is_cut_off_if_it_may_not_stay(rig: Rig, race: Race) -> None:
    async def play() -> None:
        race.know(QUARANTINED)
        await race.answer_scans(7, meanwhile=race.hear_nothing)
        await race.sessions.rescan()

    rig.loop.run(play())
    assert race.kicked == [RefusalCode.DEVICE_NOT_ACTIVE]
