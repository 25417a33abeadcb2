"""Bytes of strangers: whatever they are, they parse or are InvalidInputError, quickly."""

import json
import struct
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fleetward.base.errors import InvalidInputError, TooLargeError
from fleetward.wire import tpm
from fleetward.wire.event_log import (
    MAX_LOG_BYTES,
    Measured,
    make_entry,
    parse_event_log,
    render_event_log,
    replay,
)
from fleetward.wire.evidence import (
    MAX_EVIDENCE_BYTES,
    parse_answer,
    parse_evidence,
    parse_nonce,
    render_evidence,
)
from support.paper_tpm import MAGIC, ST_QUOTE, PaperTpm, make_log, render_public, select, sized

CHIP = PaperTpm()
KEY = ec.generate_private_key(ec.SECP256R1()).public_key()
NONCE = b"n" * 32
EVIDENCE = CHIP.evidence(NONCE)
PARSERS: dict[str, tuple[Callable[[bytes], Any], bytes]] = {
    "public": (tpm.parse_public, CHIP.ak_public),
    "certify": (tpm.parse_certify, CHIP.certify(KEY, NONCE)),
    "quote": (tpm.parse_quote, EVIDENCE.quote),
    "signature": (lambda junk: tpm.verify_signature(CHIP.ak.key, junk, b""), EVIDENCE.signature),
    "evidence": (parse_evidence, render_evidence(EVIDENCE)),
    "event log": (parse_event_log, render_event_log(make_log())),
    "nonce": (parse_nonce, b'{"nonce":"AA==","expires_at":"2026-01-01T00:00:00Z"}'),
    "answer": (parse_answer, b'{"good":true,"expires_at":"2026-01-01T00:00:00Z","reasons":[]}'),
}


def survives(parse: Callable[[bytes], Any], content: bytes) -> None:
    try:
        parse(content)
    except InvalidInputError:
        return


@pytest.mark.parametrize("name", PARSERS)
def test_junk_is_refused_as_such(name: str) -> None:
    parse, _ = PARSERS[name]

    @settings(max_examples=150, deadline=None)
    @given(st.binary(max_size=400))
    @example(b"[" * 100_000)
    @example(b'{"a":' * 100_000)
    def run(content: bytes) -> None:
        survives(parse, content)

    run()


@pytest.mark.parametrize("name", PARSERS)
def test_a_changed_or_shortened_message_is_read_or_refused(name: str) -> None:
    parse, good = PARSERS[name]
    parse(good)

    @settings(max_examples=200, deadline=None)
    @given(st.integers(0, len(good) - 1), st.integers(0, 255), st.integers(0, len(good)))
    def run(at: int, byte: int, cut: int) -> None:
        survives(parse, good[:at] + bytes([byte]) + good[at + 1 :])
        survives(parse, good[:cut])

    run()


@pytest.mark.parametrize("name", ["public", "certify", "quote"])
def test_every_byte_of_a_structure_counts(name: str) -> None:
    parse, good = PARSERS[name]
    for content in (good + b"\0", good[:-1], b""):
        with pytest.raises(InvalidInputError):
            parse(content)


@pytest.mark.parametrize("name", ["public", "certify", "quote", "signature"])
def test_no_structure_is_over_4_kib(name: str) -> None:
    with pytest.raises(InvalidInputError, match="4096"):
        PARSERS[name][0](bytes(5000))


def test_a_key_is_read_as_it_was_written() -> None:
    other = rsa.generate_private_key(65537, 2048).public_key()
    for key in (KEY, other):
        found = tpm.parse_public(render_public(key))
        assert found.key == key
        assert found.attributes & tpm.RESTRICTED


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (render_public(rsa.generate_private_key(65537, 3072).public_key()), "2048"),
        (sized(struct.pack(">HHI", tpm.ALG_ECC, 0x0C, 0) + sized(b"")), "SHA-256"),
        (sized(struct.pack(">HHIHHHHHH", 0x08, 0x0B, 0, 0, 0x10, 0x10, 0, 0, 0)), "type 0x8"),
        (CHIP.ak_public[:-4] + bytes(4), "point"),
    ],
    ids=["rsa-3072", "name-algorithm", "type", "point"],
)
def test_other_keys_are_refused(content: bytes, complaint: str) -> None:
    with pytest.raises(InvalidInputError, match=complaint):
        tpm.parse_public(content)


def test_what_a_chip_did_not_compose_is_no_statement() -> None:
    with pytest.raises(InvalidInputError, match="made by a TPM"):
        tpm.parse_quote(CHIP.evidence(NONCE, magic=MAGIC ^ 1).quote)
    with pytest.raises(InvalidInputError, match="made by a TPM"):
        tpm.parse_quote(CHIP.certify(KEY, NONCE))


@pytest.mark.parametrize(
    "selection", [select((8, 9), bank=0x04), struct.pack(">I", 0), select((8,)) + select((9,))]
)
def test_a_quote_of_another_bank_is_refused(selection: bytes) -> None:
    quote = CHIP.state(ST_QUOTE, NONCE, selection + sized(bytes(32)))
    with pytest.raises(InvalidInputError):
        tpm.parse_quote(quote)


def test_a_challenge_needs_a_key_it_can_be_sealed_to() -> None:
    for key in (
        ec.generate_private_key(ec.BrainpoolP256R1()).public_key(),
        rsa.generate_private_key(65537, 1024).public_key(),  # noqa: S505 - on purpose
    ):
        with pytest.raises(InvalidInputError, match="endorsement key"):
            tpm.make_credential(key, b"name", b"secret")


def test_evidence_comes_back_as_it_went() -> None:
    assert parse_evidence(render_evidence(EVIDENCE)) == EVIDENCE


def test_bodies_over_their_limit_are_not_looked_at() -> None:
    with pytest.raises(TooLargeError):
        parse_evidence(b" " * (MAX_EVIDENCE_BYTES + 1))
    with pytest.raises(TooLargeError):
        parse_event_log(b" " * (MAX_LOG_BYTES + 1))


def changed(**fields: Any) -> bytes:
    return json.dumps({**json.loads(render_evidence(EVIDENCE)), **fields}).encode()


ENTRY = json.loads(render_event_log(make_log()))[0]


@pytest.mark.parametrize(
    "body",
    [
        changed(more=1),
        changed(quote=""),
        changed(quote="%%%"),
        changed(pcrs={"8": "xx"}),
        changed(pcrs={str(index): "00" * 32 for index in range(25)}),
        changed(event_log=[{**ENTRY, "recnum": 1}]),
        changed(event_log=[{**ENTRY, "pcr": 9}]),
        changed(event_log=[{**ENTRY, "pcr": 24}]),
        changed(event_log=[{**ENTRY, "digests": []}]),
        changed(event_log=[{**ENTRY, "digests": [{"hashAlg": "sha1", "digest": "00" * 20}]}]),
        changed(event_log=[{**ENTRY, "content": {"kind": "something"}}]),
        changed(event_log=[{**ENTRY, "content": {**ENTRY["content"], "name": "n" * 1000}}]),
        changed(event_log=[{**ENTRY, "recnum": index} for index in range(65)]),
    ],
)
def test_evidence_of_another_form_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidInputError):
        parse_evidence(body)


def test_a_log_leads_to_what_a_chip_would_hold() -> None:
    """The value is what tpm2_pcrextend gives for two extensions of PCR 9 by 32 bytes of 1 and of 2."""
    log = (make_entry(0, Measured.IMAGE, b"\1" * 32), make_entry(1, Measured.MANIFEST, b"\2" * 32))
    assert replay(log)[9].hex() == "a7f2fad943905535b10ccf63c832802ed84eaffb15e4fb6bee86a817c35eb833"
    assert replay(()) == {}
