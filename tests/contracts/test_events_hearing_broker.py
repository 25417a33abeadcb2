"""What doors hear, over a real nats-server and both databases: each event reaches whoever hears its kind."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from threading import Lock

import pytest

from fleetward.base.db import Tx
from fleetward.base.errors import ConflictError
from fleetward.base.events import Event, emit
from fleetward.base.feature import Hears
from fleetward.outside.nats.dead_letters import TOLD_AS
from fleetward.outside.nats.streams import DEAD_LETTERS
from support.broker import Rig, wait_for

HAPPENED, ANSWERED = "test.happened", "test.answered"


class Handlers:
    """A made-up door: one answers by an event, one cannot handle some, one hears both kinds."""

    def __init__(self) -> None:
        self.heard: Counter[tuple[str, str]] = Counter()
        self._lock = Lock()

    def note(self, name: str, event: Event) -> None:
        with self._lock:
            self.heard[(name, event.message)] += 1

    def answer(self, tx: Tx, event: Event) -> None:
        self.note("answering", event)
        emit(tx, ANSWERED, f"answer to {event.message}", device=event.device)

    def stumble(self, tx: Tx, event: Event) -> None:
        self.note("stumbling", event)
        emit(tx, ANSWERED, "what a failed handler wrote")
        if event.message.startswith("bad"):
            raise ConflictError("test: expected another, found a bad one")
        if event.message.startswith("worse"):
            raise ZeroDivisionError

    def listen(self, tx: Tx, event: Event) -> None:
        del tx
        self.note("listening", event)

    @property
    def hears(self) -> tuple[Hears, ...]:
        return (
            Hears("answering", frozenset({HAPPENED}), self.answer),
            Hears("stumbling", frozenset({HAPPENED}), self.stumble, max_deliveries=2),
            Hears("listening", frozenset({HAPPENED, ANSWERED}), self.listen),
        )


@pytest.fixture
def handlers() -> Handlers:
    return Handlers()


@pytest.fixture(params=["sqlite", "postgresql"])
def rig(request: pytest.FixtureRequest, tmp_path: Path, handlers: Handlers) -> Iterator[Rig]:
    database = request.getfixturevalue("postgres_url") if request.param == "postgresql" else ""
    rig = Rig(tmp_path, database=database, hears=handlers.hears)
    rig.start()
    yield rig
    rig.close()


def dead_letters(rig: Rig) -> int:
    found = rig.loop.run(rig.messaging.shared.js.stream_info(DEAD_LETTERS))
    return int(found.state.messages)


def tell(rig: Rig, *texts: str) -> None:
    for text in texts:
        with rig.db.write("operator:test") as tx:
            emit(tx, HAPPENED, text)


def test_an_event_that_one_handler_cannot_handle_stops_neither_the_next_events_nor_the_other_handlers(
    rig: Rig, handlers: Handlers
) -> None:
    tell(rig, "bad 1", "worse 2", "good 3")
    wait_for(lambda: dead_letters(rig) == 2)
    told = rig.wait_for_event("deadletter.added").details
    assert (told["consumer"], told["subject"]) == ("hears-stumbling", f"events.{HAPPENED}")
    wait_for(lambda: handlers.heard[("listening", "answer to good 3")])
    wait_for(lambda: handlers.heard[("listening", "what a failed handler wrote")])
    assert {text: handlers.heard[("stumbling", text)] for text in ("bad 1", "worse 2", "good 3")} == {
        "bad 1": 2, "worse 2": 2, "good 3": 1,
    }  # fmt: skip
    for name in ("answering", "listening"):
        for text in ("bad 1", "worse 2", "good 3"):
            assert handlers.heard[(name, text)] == 1
    assert len([one for one in rig.events(ANSWERED) if one.message.startswith("what")]) == 1


def test_what_is_told_while_nobody_hears_is_heard_later(rig: Rig, handlers: Handlers) -> None:
    tell(rig, "before")
    wait_for(lambda: handlers.heard[("listening", "before")])
    rig.stop()
    tell(rig, "meanwhile")
    rig.start()
    wait_for(lambda: handlers.heard[("listening", "meanwhile")])
    wait_for(lambda: handlers.heard[("answering", "meanwhile")])
    assert handlers.heard[("listening", "before")] == 1
    assert handlers.heard[("answering", "before")] == 1


def fail(_tx: Tx, _event: Event) -> None:
    raise ConflictError("test: expected another, found this one")


def test_who_cannot_handle_dead_letters_is_not_fed_by_its_own(tmp_path: Path) -> None:
    mourned: list[str] = []

    def mourn(tx: Tx, event: Event) -> None:
        mourned.append(event.details["consumer"])
        fail(tx, event)

    hears = (
        Hears("first", frozenset({HAPPENED}), fail, max_deliveries=1),
        Hears("second", frozenset({ANSWERED}), fail, max_deliveries=1),
        Hears("mourning", frozenset({TOLD_AS}), mourn, max_deliveries=1),
    )
    rig = Rig(tmp_path, hears=hears)
    rig.start()
    try:
        tell(rig, "bad")
        wait_for(lambda: mourned == ["hears-first"])
        with rig.db.write("operator:test") as tx:
            emit(tx, ANSWERED, "bad too")
        # It is done with the first when it comes to the next, and has told whatever it tells.
        wait_for(lambda: mourned[-1] == "hears-second")
        wait_for(lambda: dead_letters(rig) == 4)
        rig.loop.loop.call_soon_threadsafe(
            rig.messaging.shared.refusals.note_dead_letter, "last", None, "x", "x"
        )
        wait_for(lambda: mourned[-1] == "last")
        told = [one.details["consumer"] for one in rig.events(TOLD_AS)]
    finally:
        rig.close()
    assert told == ["hears-first", "hears-second", "last"] == mourned
