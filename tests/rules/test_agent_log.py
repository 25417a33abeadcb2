"""What the agent's log writes, hides and hands on; and which lines the platform hears."""

import io
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

import pytest

from fleetward.features.messaging.intake.tell import is_told
from fleetward.programs.agent.forward import EVERY_S, Forwarder
from fleetward.programs.agent.log import AgentLog
from fleetward.wire.telemetry import Reading
from support.clock import ManualClock

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
LEVELS = ("debug", "info", "warning", "error")


class Disk(io.StringIO):
    """An output that refuses while it is full, in writing or in flushing."""

    refuses = ""

    def write(self, text: str) -> int:
        if self.refuses == "write":
            raise OSError(28, "No space left on device")
        return super().write(text)

    def flush(self) -> None:
        if self.refuses == "flush":
            raise OSError(28, "No space left on device")


def write_all(log: AgentLog) -> None:
    for level in LEVELS:
        getattr(log, level)(f"{level}_event")


@pytest.mark.parametrize("lowest", LEVELS)
def test_a_level_and_all_above_it_are_written(lowest: str) -> None:
    out = io.StringIO()
    write_all(AgentLog(ManualClock(NOW), level=lowest, out=out))
    assert [json.loads(line)["level"] for line in out.getvalue().splitlines()] == list(
        LEVELS[LEVELS.index(lowest) :]
    )


@pytest.mark.parametrize("lowest", LEVELS)
def test_warnings_and_errors_are_handed_on_whatever_is_written(lowest: str) -> None:
    handed: list[dict[str, object]] = []
    log = AgentLog(ManualClock(NOW), level=lowest, out=io.StringIO())
    log.forward = handed.append
    write_all(log)
    assert [entry["level"] for entry in handed] == ["warning", "error"]
    log.forward = None
    log.error("unheard")
    assert len(handed) == 2


@pytest.mark.parametrize(
    "name", ["token", "claim", "password", "pin", "secret", "private_key", "authorization"]
)
def test_a_secret_is_neither_written_nor_handed_on(name: str) -> None:
    out, handed = io.StringIO(), cast("list[dict[str, object]]", [])
    log = AgentLog(ManualClock(NOW), out=out)
    log.forward = handed.append
    log.error("odd", **{name: "s3cret", "reason": "shown"})
    assert json.loads(out.getvalue())[name] == "[redacted]"
    assert handed == [{"event": "odd", "level": "error", name: "[redacted]", "reason": "shown"}]


def test_a_line_says_when_where_and_what() -> None:
    out = io.StringIO()
    AgentLog(ManualClock(NOW), out=out).info("started", path=Path("/x"), count=2)
    assert json.loads(out.getvalue()) == {
        "timestamp": "2026-06-01T12:00:00.000Z", "room": "agent", "event": "started", "level": "info",
        "path": "/x", "count": 2,
    }  # fmt: skip
    assert out.getvalue().endswith("\n")


@pytest.mark.parametrize("refuses", ["write", "flush"])
def test_lost_lines_are_counted_until_one_fits(refuses: str) -> None:
    out = Disk()
    log = AgentLog(ManualClock(NOW), out=out)
    log.info("zero")
    out.refuses = refuses
    log.error("one")
    log.error("two")
    out.refuses = ""
    out.truncate(0)
    out.seek(0)
    log.info("three")
    log.info("four")
    three, four = (json.loads(line) for line in out.getvalue().splitlines())
    assert three["lines_lost_before"] == 2
    assert "lines_lost_before" not in four


def test_one_line_of_a_name_goes_up_in_half_a_minute_with_a_count_of_the_others() -> None:
    forwarder = Forwarder()
    entry: dict[str, object] = {"event": "session_lost", "reason": "x"}
    assert forwarder.choose(entry, 1000.0) == entry
    assert forwarder.choose(entry, 1000.0) is None
    assert forwarder.choose(entry, 1000.0 + EVERY_S - 0.001) is None
    assert forwarder.choose(entry, 1000.0 + EVERY_S) == {**entry, "repeated": 2}
    assert forwarder.choose(entry, 1000.0 + 2 * EVERY_S) == entry


def test_lines_of_other_names_and_abilities_do_not_wait_for_each_other() -> None:
    forwarder = Forwarder()
    entries: list[dict[str, object]] = [
        {"event": "ability_failed", "ability": "video"},
        {"event": "ability_failed", "ability": "updates"},
        {"event": "session_lost"},
    ]
    chosen = [forwarder.choose(entry, 5.0) or {} for entry in entries]
    assert [one.get("ability") for one in chosen] == ["video", "updates", None]
    assert [forwarder.choose(entry, 6.0) for entry in entries] == [None, None, None]


def test_an_ability_that_failed_is_told_as_an_event_in_a_sentence() -> None:
    entry: dict[str, object] = {
        "event": "ability_failed", "level": "error", "ability": "video", "hook": "on_session",
        "code": "missing_program", "reason": "video: expected ffmpeg on PATH, found none",
    }  # fmt: skip
    assert Forwarder().choose(entry, 5.0) == {
        **entry,
        "event": "agent.ability_failed",
        "severity": "warning",
        "message": f"its video failed in on_session (missing_program): {entry['reason']}",
    }
    assert is_told(Reading(Forwarder().choose(entry, 5.0)))


def test_failures_in_a_row_are_told_ever_more_rarely() -> None:
    forwarder = Forwarder()
    entries = [{"event": "ability_failed", "ability": "video", "failures": n} for n in range(1, 20)]
    told = [n for n, entry in enumerate(entries, 1) if forwarder.choose(entry, n * EVERY_S) is not None]
    assert told == [1, 2, 4, 8, 16]


@pytest.mark.parametrize("name", ["message_dropped", "queue_trouble"])
def test_what_would_make_more_of_itself_never_goes_up(name: str) -> None:
    assert Forwarder().choose({"event": name}, 1000.0) is None
