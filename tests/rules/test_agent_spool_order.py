"""What a full queue drops: of all kinds the least important, of that the oldest; and each loss is counted."""

import itertools
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from fleetward.outside.spool.spool import MAX_PAYLOAD_BYTES, Gap, Kind, Spool

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
MIB = 1024 * 1024
# What a message costs besides topic and payload.
OVERHEAD = 64
SIZE = 500
NEIGHBOURS = list(itertools.pairwise(Kind))
COST = SIZE + len("d/cam-1/x") + OVERHEAD


def put(spool: Spool, kind: Kind, mark: str, *, at_s: float = 0, topic: str = "d/cam-1/x") -> None:
    spool.put(kind, topic, mark.encode().ljust(SIZE), NOW + timedelta(seconds=at_s))


def marks(spool: Spool) -> list[str]:
    return [item.payload.decode().strip() for item in spool.take(10_000)]


def gap_of(spool: Spool) -> Gap:
    [gap] = spool.gaps()
    return gap


@pytest.mark.parametrize("one_commit", [True, False])
@pytest.mark.parametrize("is_worse_newer", [True, False])
@pytest.mark.parametrize(("better", "worse"), NEIGHBOURS)
def test_the_less_important_of_two_kinds_goes_first(
    tmp_path: Path, better: Kind, worse: Kind, is_worse_newer: bool, one_commit: bool
) -> None:
    with Spool(tmp_path / "spool", max_bytes=COST * 2) as spool:
        for kind in (better, worse, better) if not is_worse_newer else (better, better, worse):
            put(spool, kind, kind.name)
            if not one_commit:
                assert spool.commit()
        assert spool.commit()
        assert marks(spool) == [better.name, better.name]
        assert gap_of(spool).count == 1


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize("one_commit", [True, False])
def test_of_one_kind_the_oldest_goes_first(tmp_path: Path, kind: Kind, one_commit: bool) -> None:
    with Spool(tmp_path / "spool", max_bytes=COST * 3) as spool:
        for number in range(5):
            put(spool, kind, str(number), at_s=number)
            assert one_commit or spool.commit()
        assert spool.commit()
        assert marks(spool) == ["2", "3", "4"]
        gap = gap_of(spool)
        assert (gap.count, gap.first_at, gap.last_at) == (2, NOW, NOW + timedelta(seconds=1))


@pytest.mark.parametrize(("max_bytes", "left"), [(COST * 2 - 1, 1), (COST * 2, 2), (COST * 2 + 1, 2)])
@pytest.mark.parametrize("one_commit", [True, False])
def test_what_fits_to_the_byte_is_kept(tmp_path: Path, max_bytes: int, left: int, one_commit: bool) -> None:
    with Spool(tmp_path / "spool", max_bytes=max_bytes) as spool:
        for number in range(2):
            put(spool, Kind.LOG, str(number))
            assert one_commit or spool.commit()
        assert spool.commit()
        assert len(spool) == left
        assert spool.stored_bytes == left * COST


def test_a_message_as_long_as_the_queue_leaves_alone(tmp_path: Path) -> None:
    with Spool(tmp_path / "spool", max_bytes=COST - 1) as spool:
        put(spool, Kind.RESULT, "only")
        assert spool.commit()
        assert (len(spool), spool.stored_bytes, gap_of(spool).count) == (0, 0, 1)


@pytest.mark.parametrize(("size", "left"), [(MIB - 1, 8), (MIB, 8), (MIB + 1, 7)])
def test_what_waits_in_memory_is_bounded_by_a_mebibyte(tmp_path: Path, size: int, left: int) -> None:
    """Nine tenths of it is telemetry; the log line is older than all of that, and stays."""
    topic = "d/cam-1/t/x"
    with Spool(tmp_path / "spool", max_bytes=64 * MIB) as spool:
        payloads = [MAX_PAYLOAD_BYTES - OVERHEAD - len(topic)] * 7
        payloads.append(size - sum(payloads) - 8 * (OVERHEAD + len(topic)))
        for number, length in enumerate(payloads):
            kind = Kind.LOG if number == 0 else Kind.TELEMETRY
            spool.put(kind, topic, b"%d" % number + b"x" * (length - 1), NOW)
        assert len(spool._waiting) == left
        assert spool._waiting[0].kind is Kind.LOG
        assert spool.commit()
        assert sum(gap.count for gap in spool.gaps()) == 8 - left


def test_losses_of_a_topic_add_up_in_memory_and_on_disk_whatever_the_clock_does(tmp_path: Path) -> None:
    with Spool(tmp_path / "spool", max_bytes=COST) as spool:
        for at_s in (50, 40, 90):  # the clock was set back, and forth
            put(spool, Kind.TELEMETRY, str(at_s), at_s=at_s)
            assert spool.commit()
        gap = gap_of(spool)
        assert gap.count == 2
        assert (gap.first_at, gap.last_at) == (NOW + timedelta(seconds=40), NOW + timedelta(seconds=50))
        for at_s in (100, 110, 120):
            put(spool, Kind.TELEMETRY, str(at_s), at_s=at_s)
        assert spool.commit()
        gap = gap_of(spool)
        assert gap.count == 5
        assert gap.last_at == NOW + timedelta(seconds=110)
        assert spool.has_gaps


def test_losses_are_told_by_topic(tmp_path: Path) -> None:
    with Spool(tmp_path / "spool", max_bytes=COST) as spool:
        for number in range(4):
            put(spool, Kind.TELEMETRY, "x", topic="d/cam-1/a" if number % 2 else "d/cam-1/b")
        assert spool.commit()
        assert [(gap.topic, gap.count) for gap in spool.gaps()] == [("d/cam-1/a", 1), ("d/cam-1/b", 2)]


def test_what_was_acknowledged_makes_room_before_anything_is_dropped(tmp_path: Path) -> None:
    with Spool(tmp_path / "spool", max_bytes=COST * 2) as spool:
        put(spool, Kind.LOG, "1")
        put(spool, Kind.LOG, "2")
        assert spool.commit()
        spool.remove(item.id for item in spool.take(1))
        put(spool, Kind.TELEMETRY, "3")
        assert spool.commit()
        spool.rewind()
        assert marks(spool) == ["2", "3"]
        assert not spool.has_gaps


def test_without_a_disk_the_queue_is_bounded_too_and_keeps_the_important(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "nowhere" / "spool", max_bytes=COST * 2)
    for kind in (Kind.RESULT, Kind.TELEMETRY, Kind.LOG):
        put(spool, kind, kind.name)
        assert not spool.commit()
    assert marks(spool) == ["RESULT", "LOG"]
    assert gap_of(spool).count == 1
    assert spool.stored_bytes == COST * 2
    spool.close()
