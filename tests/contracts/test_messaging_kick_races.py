"""A device that is cut off while it connects: whichever word comes first, its session is ended."""

import asyncio
from collections.abc import Iterator
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
from fleetward.outside.nats.sessions import CONNECTED, LiveSession, LiveSessions
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
        self.sessions = LiveSessions(platform, system, self.mirror, rig.clock, on_kick=self._on_kick)
        self.mirror.listen(self.sessions._on_record)

    def _on_kick(self, _session: LiveSession, refusal: Refusal) -> None:
        self.kicked.append(refusal.code)

    def know(self, record: AdmissionRecord) -> None:
        self.mirror._hold(record)

    async def advise(self) -> None:
        """Tell that connection 7 of server S began."""
        content = {
            "server": {"id": "S"},
            "client": {
                "start": "2026-06-01T12:00:00Z", "id": 7, "host": "127.0.0.1", "client_type": "mqtt",
                "client_id": "cam-1",
            },
        }  # fmt: skip
        await self.sessions._on_advisory(_message(CONNECTED, msgspec.json.encode(content)))

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
