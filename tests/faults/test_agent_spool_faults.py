"""What a device's queue promises of a power cut: results, shadows and log lines stay, telemetry may go."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from fleetward.outside.spool.spool import Kind, Spool
from support.seeds import new_seed
from support.spool_faults import cut_power, record_acts

_CUTS = 40
_PRECIOUS = [Kind.RESULT, Kind.SHADOW, Kind.LOG]
_CHEAP = [Kind.METRICS, Kind.TELEMETRY]


@pytest.fixture
def seed() -> str:
    return new_seed()


def payloads(spools: Iterator[Spool]) -> list[list[bytes]]:
    found = []
    for spool in spools:
        assert not spool.was_reset
        found.append([item.payload for item in spool.take(1000)])
    return found


@pytest.mark.parametrize("kind", _PRECIOUS)
def test_what_is_precious_is_there_once_it_was_committed(tmp_path: Path, seed: str, kind: Kind) -> None:
    ops = record_acts(tmp_path / "disk", f"put:{kind.name}=x", "commit")
    found = payloads(cut_power(tmp_path / "disk", ops, cuts=_CUTS, seed=seed, at_end=True))
    assert found == [[b"x"]] * _CUTS


@pytest.mark.parametrize("kind", _CHEAP)
def test_what_is_cheap_costs_no_fsync_and_may_be_lost(tmp_path: Path, seed: str, kind: Kind) -> None:
    """Also the proof that the test above would notice a missing fsync."""
    ops = record_acts(tmp_path / "disk", f"put:{kind.name}=x", "commit")
    found = payloads(cut_power(tmp_path / "disk", ops, cuts=_CUTS, seed=seed, at_end=True))
    assert [] in found
    assert [one for one in found if one not in ([], [b"x"])] == []


@pytest.mark.parametrize("order", [("TELEMETRY=t", "LOG=l"), ("LOG=l", "TELEMETRY=t")])
def test_one_precious_message_keeps_all_that_were_committed_with_it(
    tmp_path: Path, seed: str, order: tuple[str, str]
) -> None:
    ops = record_acts(tmp_path / "disk", *(f"put:{one}" for one in order), "commit")
    found = payloads(cut_power(tmp_path / "disk", ops, cuts=_CUTS, seed=seed, at_end=True))
    assert found == [[b"l", b"t"]] * _CUTS


def test_a_log_line_after_telemetry_is_kept_as_any(tmp_path: Path, seed: str) -> None:
    acts = ["put:TELEMETRY=t", "commit", "put:LOG=l", "commit"]
    ops = record_acts(tmp_path / "disk", *acts)
    found = payloads(cut_power(tmp_path / "disk", ops, cuts=_CUTS, seed=seed, at_end=True))
    assert found == [[b"l", b"t"]] * _CUTS


def test_an_acknowledged_message_may_come_back_and_takes_no_other_with_it(tmp_path: Path, seed: str) -> None:
    acts = ["put:LOG=1", "put:LOG=2", "commit", "remove:1", "commit"]
    ops = record_acts(tmp_path / "disk", *acts)
    found = payloads(cut_power(tmp_path / "disk", ops, cuts=_CUTS, seed=seed, at_end=True))
    assert [b"1", b"2"] in found  # no fsync was paid for forgetting
    assert [one for one in found if one not in ([b"2"], [b"1", b"2"])] == []


def test_a_gap_is_a_gap_or_a_message_never_both_or_none(tmp_path: Path, seed: str) -> None:
    big = "t" * 400
    acts = ["max:1000", *[f"put:TELEMETRY={big}"] * 4, "put:LOG=l", "commit", "gap"]
    ops = record_acts(tmp_path / "disk", *acts)
    for spool in cut_power(tmp_path / "disk", ops, cuts=_CUTS, seed=seed, at_end=True):
        told = [item for item in spool.take(1000) if item.payload == b"gap"]
        assert len(told) + len(spool.gaps()) == 1


def test_a_cut_anywhere_leaves_a_queue_that_opens_and_has_no_holes(tmp_path: Path, seed: str) -> None:
    """Enough to fill the write-ahead log past its checkpoint."""
    acts = [act for number in range(80) for act in (f"put:TELEMETRY={number:03}{'x' * 2000}", "commit")]
    ops = record_acts(tmp_path / "disk", *acts)
    spools = cut_power(tmp_path / "disk", ops, cuts=_CUTS, seed=seed, at_end=False)
    lengths = set()
    for found in payloads(spools):
        numbers = [int(payload[:3]) for payload in found]
        assert numbers == list(range(len(numbers)))
        lengths.add(len(numbers))
    assert len(lengths) > 3
