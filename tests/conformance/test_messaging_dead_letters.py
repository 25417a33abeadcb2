"""Messages that can be read and not handled, through a real broker and both databases: set aside, alone.

The database refuses the rows of one device by a constraint of its own: as real as a fault of ours would be.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from fleetward.base.errors import NotFoundError
from fleetward.features.messaging import service
from fleetward.features.messaging.ports import DeadLetter
from support.broker import Rig, wait_for
from support.postgres import database_url
from support.raw_mqtt import RawDevice

_REFUSED = "refused-version"


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def rig(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    folder: Path = tmp_path_factory.mktemp("rig")
    with database_url(request) as url:
        rig = Rig(folder, url)
        refuse_a_version(rig)
        rig.start()
        yield rig
        rig.close()


def refuse_a_version(rig: Rig) -> None:
    with rig.db.write("operator:test") as tx:
        if rig.db.is_sqlite:
            text = (
                "CREATE TRIGGER refusing BEFORE INSERT ON shadows "
                f"WHEN NEW.reported LIKE '%{_REFUSED}%' BEGIN SELECT RAISE(ABORT, 'refused'); END"
            )
        else:
            text = f"ALTER TABLE shadows ADD CONSTRAINT refusing CHECK (reported NOT LIKE '%{_REFUSED}%')"
        tx.conn.execute(sa.text(text))


def accept_it(rig: Rig) -> None:
    with rig.db.write("operator:test") as tx:
        rig_sql = (
            "DROP TRIGGER refusing" if rig.db.is_sqlite else "ALTER TABLE shadows DROP CONSTRAINT refusing"
        )
        tx.conn.execute(sa.text(rig_sql))


def letters(rig: Rig) -> list[DeadLetter]:
    return rig.messaging.dead_letters.list_dead_letters(1000)


def report(state: str, version: int = 1) -> bytes:
    return b'{"version": %d, "state": {"firmware": {"version": "%s"}}}' % (version, state.encode())


def test_a_message_that_cannot_be_handled_is_set_aside_and_can_be_played_again(rig: Rig) -> None:
    bad, good = rig.enroll("bad-1"), rig.enroll("good-1")
    with RawDevice(rig, good) as neighbour, RawDevice(rig, bad) as device:
        assert neighbour.publish("t/n", [str(one).encode() for one in range(50)]) == 50
        assert device.publish("shadow/reported", [report(_REFUSED)]) == 1
        assert neighbour.publish("t/n", [str(one).encode() for one in range(50, 100)]) == 50
        assert neighbour.publish("shadow/reported", [report("2.0")]) == 1
    archive = rig.messaging.archive
    wait_for(lambda: len(archive.read_last("good-1", "telemetry", "n", 1000)) == 100)
    values = [one.value for one in archive.read_last("good-1", "telemetry", "n", 1000)]
    assert values == list(range(100))
    wait_for(lambda: reported(rig, "good-1") == {"firmware": {"version": "2.0"}})
    event = rig.wait_for_event("deadletter.added", "bad-1")
    assert event.details["consumer"] == "ingest"
    (letter,) = letters(rig)
    assert (letter.device, letter.payload, letter.failures) == ("bad-1", report(_REFUSED), 3)
    assert letter.subject == "$MQTT.msgs.d.bad-1.shadow.reported"
    assert "IntegrityError" in letter.reason
    assert rig.messaging.dead_letters.get_dead_letter(letter.number) == letter
    assert not play(rig, letter)
    assert letters(rig) == [letter]
    accept_it(rig)
    assert play(rig, letter)
    assert reported(rig, "bad-1") == {"firmware": {"version": _REFUSED}}
    assert letters(rig) == []
    assert not play(rig, letter)
    with pytest.raises(NotFoundError):
        rig.messaging.dead_letters.get_dead_letter(letter.number)


def reported(rig: Rig, device: str) -> dict[str, object]:
    with rig.db.read() as tx:
        return service.get_shadow(tx, device).reported


def play(rig: Rig, letter: DeadLetter) -> bool:
    return rig.messaging.dead_letters.replay_dead_letter(letter).handled
