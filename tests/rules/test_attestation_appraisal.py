"""The verdict over evidence: one thing wrong at a time, and the reason it is given."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace as changed

from fleetward.base.errors import InvalidInputError
from fleetward.features.attestation.model import (
    EVERY_MODEL,
    Appraisal,
    ReasonCode,
    Reference,
    appraise,
    is_fresh,
)
from fleetward.wire.event_log import LogEntry, Measured, make_entry
from fleetward.wire.evidence import Evidence
from fleetward.wire.tpm import digest_pcrs
from support.paper_tpm import DIGESTS, ST_QUOTE, PaperTpm, make_log, select, sized

NOW = datetime(2026, 6, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
CHIP, OTHER, NONCE = PaperTpm(), PaperTpm(), b"n" * 32
BOOT, KEYS, IMAGE, MANIFEST = DIGESTS
REFERENCES = (
    Reference(EVERY_MODEL, BOOT, DIGESTS[BOOT].hex(), "0.1.0"),
    Reference(EVERY_MODEL, KEYS, DIGESTS[KEYS].hex(), ""),
    Reference("cam", IMAGE, DIGESTS[IMAGE].hex(), "1.0.0"),
    Reference("cam", MANIFEST, DIGESTS[MANIFEST].hex(), "1.0.0"),
)
ODD = b"\6" * 32


def judge(
    evidence: Evidence, references: tuple[Reference, ...] = REFERENCES, *, nonce: bytes = NONCE
) -> Appraisal:
    return appraise("cam-1", CHIP.ak, evidence, nonce, references, lifetime=HOUR, now=NOW)


def codes(verdict: Appraisal) -> list[str]:
    assert verdict.good is (verdict.reasons == ())
    return [reason.code.value for reason in verdict.reasons]


def log_of(*kinds: Measured) -> tuple[LogEntry, ...]:
    return tuple(make_entry(index, kind, DIGESTS.get(kind, ODD)) for index, kind in enumerate(kinds))


def withdrawn(kind: Measured) -> tuple[Reference, ...]:
    return tuple(replace(one, withdrawn_at=NOW) if one.kind is kind else one for one in REFERENCES)


def test_what_was_released_passes_for_as_long_as_the_model_says() -> None:
    verdict = judge(CHIP.evidence(NONCE))
    assert codes(verdict) == []
    assert (verdict.expires_at, verdict.firmware_version) == (NOW + HOUR, "1.0.0")
    assert (verdict.reset_count, verdict.restart_count) == (7, 3)


def test_a_verdict_is_fresh_until_it_runs_out() -> None:
    good, bad = judge(CHIP.evidence(NONCE)), judge(OTHER.evidence(NONCE))
    assert is_fresh(good, NOW + HOUR - timedelta(seconds=1))
    assert not is_fresh(good, NOW + HOUR)
    assert not is_fresh(bad, NOW)
    assert not is_fresh(None, NOW)


def test_the_quote_of_another_chip_fails() -> None:
    assert codes(judge(OTHER.evidence(NONCE))) == ["quote_signature"]


def test_an_old_quote_fails() -> None:
    assert codes(judge(CHIP.evidence(b"m" * 32))) == ["quote_stale"]
    assert codes(judge(CHIP.evidence(NONCE[:-1]))) == ["quote_stale"]


@pytest.mark.parametrize("pcrs", [(8,), (9,), (0, 1), (8, 9, 10), ()])
def test_a_quote_over_other_pcrs_fails(pcrs: tuple[int, ...]) -> None:
    assert codes(judge(CHIP.evidence(NONCE, pcrs=pcrs))) == ["quote_selection"]


@pytest.mark.parametrize(
    "selection", [(16, 23), (8, 16), (9, 23), (16,), (8, 9, 16), (8, 9, 23), (8,), (9,), tuple(range(24))]
)
def test_values_that_anybody_can_extend_do_not_stand_for_what_was_booted(selection: tuple[int, ...]) -> None:
    """PCRs 16 and 23 can be reset and led to any value: a quote over them holds what 8 and 9 would."""
    good = CHIP.evidence(NONCE)
    values = [bytes.fromhex(good.pcrs["8"]), bytes.fromhex(good.pcrs["9"])]
    quote = CHIP.state(ST_QUOTE, NONCE, select(selection) + sized(digest_pcrs(values)))
    forged = changed(good, quote=quote, signature=CHIP.sign(quote))
    assert codes(judge(forged)) == ["quote_selection"]


@pytest.mark.parametrize("shown", [(8,), (9,), (8, 9, 16), (16, 23), ()])
def test_values_of_exactly_the_quoted_pcrs_are_handed_in(shown: tuple[int, ...]) -> None:
    good = CHIP.evidence(NONCE)
    values = {str(index): good.pcrs.get(str(index), "00" * 32) for index in shown}
    assert codes(judge(changed(good, pcrs=values))) == ["quote_selection"]


def test_values_that_were_not_quoted_fail() -> None:
    evidence = CHIP.evidence(NONCE)
    assert codes(judge(changed(evidence, pcrs={"8": "00" * 32, "9": evidence.pcrs["9"]}))) == ["pcr_mismatch"]
    assert codes(judge(changed(evidence, pcrs={"8": evidence.pcrs["8"]}))) == ["quote_selection"]


@pytest.mark.parametrize(
    "log",
    [
        (),
        make_log()[:-1],
        make_log(firmware_image=ODD),
        log_of(KEYS, BOOT, IMAGE, MANIFEST),
        log_of(BOOT, KEYS, IMAGE, MANIFEST, MANIFEST),
    ],
    ids=["none", "shortened", "altered", "reordered", "lengthened"],
)
def test_a_log_that_tells_another_story_fails(log: tuple[LogEntry, ...]) -> None:
    assert codes(judge(changed(CHIP.evidence(NONCE), event_log=log))) == ["log_mismatch"]


@pytest.mark.parametrize("kind", list(DIGESTS))
def test_what_is_no_reference_value_fails_by_name(kind: Measured) -> None:
    verdict = judge(CHIP.evidence(NONCE, make_log(**{kind.value: ODD})))
    assert codes(verdict) == [f"unknown_{kind.value}"]
    assert ODD.hex()[:16] in verdict.reasons[0].message
    assert (verdict.expires_at, verdict.firmware_version) == (NOW, None)


@pytest.mark.parametrize("kind", list(DIGESTS))
def test_what_was_withdrawn_fails_by_name(kind: Measured) -> None:
    assert codes(judge(CHIP.evidence(NONCE), withdrawn(kind))) == [f"withdrawn_{kind.value}"]


@pytest.mark.parametrize("kind", list(DIGESTS))
def test_what_was_not_measured_or_twice_fails_by_name(kind: Measured) -> None:
    rest = [one for one in DIGESTS if one is not kind]
    assert codes(judge(CHIP.evidence(NONCE, log_of(*rest)))) == [f"missing_{kind.value}"]
    assert codes(judge(CHIP.evidence(NONCE, log_of(*DIGESTS, kind)))) == [f"missing_{kind.value}"]


def test_a_device_that_started_nothing_says_so() -> None:
    assert codes(judge(CHIP.evidence(NONCE, log_of(BOOT, KEYS, Measured.NO_FIRMWARE)))) == ["no_firmware"]


@pytest.mark.parametrize("references", [(), tuple(replace(one, withdrawn_at=NOW) for one in REFERENCES)])
def test_no_references_refuse(references: tuple[Reference, ...]) -> None:
    assert codes(judge(CHIP.evidence(NONCE), references)) == ["no_references"]


def test_image_and_manifest_of_different_releases_do_not_mix() -> None:
    other = Reference("cam", MANIFEST, ODD.hex(), "1.1.0")
    verdict = judge(CHIP.evidence(NONCE, make_log(firmware_manifest=ODD)), (*REFERENCES, other))
    assert codes(verdict) == ["mixed_release"]


def test_the_same_image_may_be_released_again() -> None:
    again = (
        Reference("cam", IMAGE, DIGESTS[IMAGE].hex(), "1.1.0"),
        Reference("cam", MANIFEST, ODD.hex(), "1.1.0"),
    )
    verdict = judge(CHIP.evidence(NONCE, make_log(firmware_manifest=ODD)), (*REFERENCES, *again))
    assert (codes(verdict), verdict.firmware_version) == ([], "1.1.0")


@settings(max_examples=200, deadline=None)
@given(st.integers(min_value=0), st.integers(1, 255), st.sampled_from(["quote", "signature"]))
def test_no_changed_evidence_passes(at: int, change: int, field: str) -> None:
    evidence = CHIP.evidence(NONCE)
    content = bytearray(getattr(evidence, field))
    content[at % len(content)] ^= change
    try:
        verdict = judge(changed(evidence, **{field: bytes(content)}))
    except InvalidInputError:
        return
    assert not verdict.good


def test_every_reason_is_explained() -> None:
    page = Path(__file__).parents[2] / "docs" / "explanation" / "attestation.md"
    assert [code for code in ReasonCode if f"`{code.value}`" not in page.read_text()] == []
