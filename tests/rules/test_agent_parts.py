"""The agent's small parts: its loop, clock, log, inbox and shadow."""

import io
import json
import os
import socket
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetward.base.errors import InvalidInputError
from fleetward.programs.agent import inbox
from fleetward.programs.agent.abilities.health import measure_health
from fleetward.programs.agent.clock import DeviceClock
from fleetward.programs.agent.log import AgentLog
from fleetward.programs.agent.loop import Loop, Worker
from support.clock import ManualClock

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)


def test_the_loop_makes_calls_in_order_and_timers_when_due() -> None:
    loop, seen = Loop(), []
    loop.after(0.02, lambda: seen.append("late"))
    loop.after(0.01, lambda: seen.append("early"))
    cancelled = loop.after(0.0, lambda: seen.append("never"))
    cancelled.cancel()
    loop.post(lambda: seen.append("now"))
    loop.after(0.03, loop.stop)
    loop.run()
    assert seen == ["now", "early", "late"]


def test_nothing_is_called_after_stop() -> None:
    loop, seen = Loop(), []
    loop.post(loop.stop)
    loop.post(lambda: seen.append("after"))
    loop.run()
    assert seen == []


def test_a_worker_works_elsewhere_and_answers_in_the_loop() -> None:
    loop, seen = Loop(), []
    worker = Worker(loop, "test")

    def done(name: str) -> None:
        seen.append((name, threading.current_thread().name))
        loop.stop()

    worker.submit(lambda: threading.current_thread().name, done)
    loop.run()
    assert seen == [("test", threading.current_thread().name)]


def test_an_error_nobody_expects_stops_the_loop() -> None:
    loop = Loop()
    Worker(loop, "test").submit(lambda: 1 // 0, lambda _: None)
    with pytest.raises(ZeroDivisionError):
        loop.run()


def test_a_corrected_clock_counts_on_and_is_dropped_when_the_system_agrees() -> None:
    system = ManualClock(datetime(1970, 1, 1, tzinfo=UTC))
    clock = DeviceClock(system)
    assert not clock.is_off()
    clock.correct(NOW)
    assert clock.is_off()
    first = clock.now()
    assert NOW <= first <= clock.now()
    system.set(NOW + timedelta(seconds=1))
    assert not clock.is_off()
    assert clock.now() == NOW + timedelta(seconds=1)


def test_the_log_is_json_hides_secrets_and_forwards_what_is_odd() -> None:
    out = io.StringIO()
    forwarded: list[dict[str, object]] = []
    log = AgentLog(ManualClock(NOW), level="warning", out=out)
    log.forward = forwarded.append
    log.info("quiet")
    log.warning("odd", claim="s3cret", path=Path("/x"))
    (line,) = out.getvalue().splitlines()
    assert json.loads(line)["claim"] == "[redacted]"
    assert "s3cret" not in line + str(forwarded)
    assert [entry["event"] for entry in forwarded] == ["odd"]


def test_a_log_on_a_full_disk_ends_nothing_and_says_what_is_missing() -> None:
    full = os.fdopen(os.open("/dev/full", os.O_WRONLY), "w")
    better = io.StringIO()
    log = AgentLog(ManualClock(NOW), out=full)
    log.error("unheard")
    log._out = better
    log.error("heard")
    with pytest.raises(OSError, match="space"):
        full.close()
    assert json.loads(better.getvalue())["lines_lost_before"] == 1


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ({"stream": "temp", "value": [1, {"a": None}]}, inbox.Measured("temp", [1, {"a": None}])),
        ({"log": "text"}, inbox.Logged("text")),
        ({"health": "ok"}, inbox.Felt("ok")),
        ({"health": "failing", "reason": "no lens"}, inbox.Felt("failing", "no lens")),
        ({"report": {"lamp": {"on": True}}}, inbox.Stated({"lamp": {"on": True}})),
    ],
)
def test_a_note_is_what_it_says(said: dict[str, object], meant: inbox.Note) -> None:
    assert inbox.parse_note(json.dumps(said).encode()) == meant


@pytest.mark.parametrize(
    "said", [b"", b"[]", b"7", b"{}", b'{"stream":"a/b","value":1}', b'{"log":1,"x":2}', b'{"report":[]}',
             b'{"stream":"temp"}', b'{"health":1}', b"[" * 5000, b'{"log":"' + b"x" * 70000 + b'"}']
)  # fmt: skip
def test_other_notes_are_refused(said: bytes) -> None:
    with pytest.raises(InvalidInputError):
        inbox.parse_note(said)


@given(st.binary(max_size=300))
def test_junk_from_the_application_raises_one_family_of_errors(said: bytes) -> None:
    try:
        inbox.parse_note(said)
    except InvalidInputError:
        return


def test_the_inbox_takes_datagrams_at_a_path_of_any_length(tmp_path: Path) -> None:
    folder = tmp_path / ("d" * 120)
    folder.mkdir()
    taken: list[bytes] = []
    box = inbox.Inbox(folder / "agent.sock", taken.extend)
    assert (folder / "agent.sock").stat().st_mode & 0o077 == 0
    box.start()
    descriptor = os.open(folder, os.O_RDONLY)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as application:
        application.connect(f"/proc/self/fd/{descriptor}/agent.sock")
        application.send(b"one")
        application.send(b"two")
    os.close(descriptor)
    deadline = time.monotonic() + 10
    while len(taken) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert taken == [b"one", b"two"]
    box.close()
    assert not (folder / "agent.sock").exists()


def test_health_is_numbers(tmp_path: Path) -> None:
    found = measure_health(time.monotonic() - 5, tmp_path)
    assert found["uptime_s"] >= 5
    assert found["rss_bytes"] > 1024 * 1024
    assert found["disk_free_bytes"] >= 0
    assert "disk_free_bytes" not in measure_health(0, tmp_path / "nowhere")
