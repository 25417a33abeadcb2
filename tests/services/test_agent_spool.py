"""The device's queue: order, bounds, gaps, kills and full disks."""

import os
import signal
import sqlite3
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleetward.base.errors import TooLargeError
from fleetward.outside.spool.spool import MAX_PAYLOAD_BYTES, Kind, Spool
from support.small_disk import small_disk

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
MIB = 1024 * 1024


def put(spool: Spool, kind: Kind, *payloads: bytes, topic: str = "") -> None:
    for number, payload in enumerate(payloads):
        spool.put(kind, topic or f"d/cam-1/{kind.name.lower()}", payload, NOW + timedelta(seconds=number))
    assert spool.commit()


def trouble_of(spool: Spool) -> str | None:
    return spool.trouble


def payloads(spool: Spool, limit: int = 100) -> list[bytes]:
    return [item.payload for item in spool.take(limit)]


def test_the_important_goes_first_and_each_kind_in_order(tmp_path: Path) -> None:
    with Spool(tmp_path / "spool", max_bytes=MIB) as spool:
        put(spool, Kind.TELEMETRY, b"t1", b"t2")
        put(spool, Kind.LOG, b"l1")
        put(spool, Kind.RESULT, b"r1")
        assert payloads(spool, 3) == [b"r1", b"l1", b"t1"]
        put(spool, Kind.LOG, b"l2")
        assert payloads(spool) == [b"l2", b"t2"]
        assert payloads(spool) == []


def test_what_was_not_acknowledged_is_taken_again_after_a_rewind_and_a_restart(tmp_path: Path) -> None:
    with Spool(tmp_path / "spool", max_bytes=MIB) as spool:
        put(spool, Kind.TELEMETRY, b"1", b"2", b"3")
        first, *_ = spool.take(10)
        spool.remove([first.id])
        spool.rewind()
        assert payloads(spool) == [b"2", b"3"]
        assert len(spool) == 2
    with Spool(tmp_path / "spool", max_bytes=MIB) as spool:
        assert payloads(spool) == [b"2", b"3"]


def test_over_its_bound_the_oldest_telemetry_goes_and_is_counted(tmp_path: Path) -> None:
    with Spool(tmp_path / "spool", max_bytes=3000) as spool:
        put(spool, Kind.LOG, b"keep")
        put(spool, Kind.TELEMETRY, *(bytes([n]) * 400 for n in range(10)))
        kept = payloads(spool)
        assert kept[0] == b"keep"
        assert kept[1:] == [bytes([n]) * 400 for n in range(4, 10)]
        (gap,) = spool.gaps()
        assert (gap.topic, gap.count) == ("d/cam-1/telemetry", 4)
        assert (gap.first_at, gap.last_at) == (NOW, NOW + timedelta(seconds=3))
        assert spool.stored_bytes <= 3000


def test_a_gap_becomes_a_message_once(tmp_path: Path) -> None:
    with Spool(tmp_path / "spool", max_bytes=1000) as spool:
        put(spool, Kind.TELEMETRY, *([b"x" * 400] * 4))
        (gap,) = spool.gaps()
        spool.replace_gap(gap, Kind.LOG, "d/cam-1/log", b"gap", NOW)
        assert spool.gaps() == []
        assert payloads(spool)[0] == b"gap"


def test_an_oversized_message_is_refused(tmp_path: Path) -> None:
    with Spool(tmp_path / "spool", max_bytes=MIB) as spool, pytest.raises(TooLargeError):
        spool.put(Kind.LOG, "d/cam-1/log", b"x" * (MAX_PAYLOAD_BYTES + 1), NOW)


def test_a_file_that_is_no_database_is_kept_aside_and_told(tmp_path: Path) -> None:
    (tmp_path / "spool").write_bytes(b"junk" * 4000)
    with Spool(tmp_path / "spool", max_bytes=MIB) as spool:
        assert spool.was_reset
        put(spool, Kind.LOG, b"on")
        assert payloads(spool) == [b"on"]
    assert (tmp_path / "spool.unreadable").read_bytes().startswith(b"junk")


def test_it_runs_in_memory_while_its_folder_is_missing_and_moves_to_disk_after(tmp_path: Path) -> None:
    with Spool(tmp_path / "late" / "spool", max_bytes=MIB) as spool:
        assert trouble_of(spool)
        spool.put(Kind.LOG, "d/cam-1/log", b"early", NOW)
        assert not spool.commit()
        assert payloads(spool) == [b"early"]
        (tmp_path / "late").mkdir()
        put(spool, Kind.LOG, b"late")
        assert trouble_of(spool) is None
    with Spool(tmp_path / "late" / "spool", max_bytes=MIB) as spool:
        assert payloads(spool) == [b"early", b"late"]


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
def test_a_full_disk_stops_nothing_and_every_loss_is_counted(tmp_path: Path) -> None:
    """On a real file system of 4 MB, filled to the last block."""
    with (
        small_disk(tmp_path / "disk", kib=4096) as disk,
        Spool(disk.path / "spool", max_bytes=8 * MIB) as spool,
    ):
        sent = 0
        for number in range(5000):
            spool.put(Kind.TELEMETRY, "d/cam-1/t/temp", b"%04d" % number + b"x" * 1000, NOW)
            sent += 1
            if number % 50 == 49:
                spool.commit()
        assert trouble_of(spool)
        got = 0
        while items := spool.take(100):
            got += len(items)
            spool.remove(item.id for item in items)
            spool.commit()
        assert trouble_of(spool) is None
        assert got + sum(gap.count for gap in spool.gaps()) == sent


_WRITER = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from fleetward.outside.spool.spool import Kind, Spool
spool = Spool(Path(sys.argv[1]), max_bytes=1 << 30)
for number in range(10**9):
    spool.put(Kind.TELEMETRY, "d/cam-1/t/temp", str(number).encode(), datetime(2026, 6, 1, tzinfo=UTC))
    if number % 7 == 6 and spool.commit():
        print(number, flush=True)
"""


def test_what_was_committed_survives_kill_9(tmp_path: Path) -> None:
    for _ in range(3):
        path = tmp_path / "spool"
        writer = subprocess.Popen(
            [sys.executable, "-c", _WRITER, str(path)], stdout=subprocess.PIPE, text=True
        )
        assert writer.stdout
        last = 0
        for line in writer.stdout:
            last = int(line)
            if last > 300:
                break
        writer.send_signal(signal.SIGKILL)
        rest = writer.stdout.read().split()
        writer.wait()
        writer.stdout.close()
        last = int(rest[-1]) if rest else last
        with Spool(path, max_bytes=1 << 30) as spool:
            found = {int(payload) for payload in payloads(spool, 10**6)}
            assert found >= set(range(last + 1))
            spool.remove(item.id for item in spool.take(0))
        for file in tmp_path.glob("spool*"):
            file.unlink()


_ACT = st.one_of(
    st.tuples(st.just("put"), st.sampled_from(Kind), st.integers(0, 900)),
    st.tuples(st.sampled_from(["commit", "take", "rewind", "acknowledge"]), st.none(), st.just(0)),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(_ACT, max_size=60))
def test_every_message_is_waiting_acknowledged_or_in_a_gap(acts: list[tuple[str, Kind | None, int]]) -> None:
    spool = Spool(Path(":nowhere/spool"), max_bytes=4000)
    in_flight: set[int] = set()
    acknowledged, put_count = 0, 0
    for act, kind, size in acts:
        if act == "put" and kind is not None:
            spool.put(kind, f"d/cam-1/{kind}", b"x" * size, NOW)
            put_count += 1
        elif act == "commit":
            spool.commit()
        elif act == "take":
            in_flight |= {item.id for item in spool.take(3)}
        elif act == "rewind":
            spool.rewind()
            in_flight.clear()
        else:
            spool.commit()
            rows = {row[0] for row in spool._db.execute("SELECT id FROM items")}
            acknowledged += len(in_flight & rows)
            spool.remove(in_flight)
            in_flight.clear()
    spool.commit()
    assert len(spool) + acknowledged + sum(gap.count for gap in spool.gaps()) == put_count
    spool._db.close()


def test_nothing_but_sqlite_errors_reach_the_trouble_field(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool", max_bytes=MIB)
    other = sqlite3.connect(tmp_path / "spool", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    spool._db.execute("PRAGMA busy_timeout=1")
    spool.put(Kind.LOG, "d/cam-1/log", b"l", NOW)
    assert not spool.commit()
    assert "locked" in str(spool.trouble)
    other.execute("ROLLBACK")
    other.close()
    assert spool.commit()
    spool.close()
