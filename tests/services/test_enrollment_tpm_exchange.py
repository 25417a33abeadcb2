"""The TPM lane's exchange by hand: each part spoiled, a (software) TPM against our routes."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from fleetward.outside.keys.tpm import TpmKeyStore
from fleetward.wire import enroll, est
from support.chip_house import House, Talk, chip_house, ship
from support.enrolling import sign_csr
from support.enrollment import events_of
from support.swtpm import Swtpm, running_swtpm


@pytest.fixture(scope="module")
def chip(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Swtpm]:
    with running_swtpm(tmp_path_factory.mktemp("chip")) as started:
        yield started


@pytest.fixture
def tpm(chip: Swtpm, tmp_path: Path) -> TpmKeyStore:
    return TpmKeyStore(chip.tcti, tmp_path / "blobs")


@pytest.fixture
def house(chip: Swtpm, tmp_path: Path) -> Iterator[House]:
    with chip_house(chip, tmp_path) as made:
        yield made


@pytest.fixture
def talk(house: House, tpm: TpmKeyStore) -> Talk:
    ship(house, tpm)
    return Talk(house, tpm)


def test_a_key_outside_the_chip_is_not_certified(talk: Talk) -> None:
    challenge = talk.challenge()
    proof = talk.proof(challenge)
    own = sign_csr(ec.generate_private_key(ec.SECP256R1()), "cam-1")
    answer = talk.finish(challenge.challenge_id, msgspec.structs.replace(proof, csr=own))
    assert (answer.status_code, answer.json()["reason"]) == (403, "certify_other_key")


def test_another_secret_is_refused(talk: Talk) -> None:
    challenge = talk.challenge()
    proof = msgspec.structs.replace(talk.proof(challenge), secret=b"\0" * 32)
    answer = talk.finish(challenge.challenge_id, proof)
    assert (answer.status_code, answer.json()["reason"]) == (403, "challenge_failed")


def test_a_certification_over_an_older_nonce_is_refused(talk: Talk) -> None:
    older, newer = talk.challenge(), talk.challenge()
    stale, fresh = talk.proof(older), talk.proof(newer)
    mixed = msgspec.structs.replace(
        fresh, certify_info=stale.certify_info, certify_signature=stale.certify_signature
    )
    answer = talk.finish(newer.challenge_id, mixed)
    assert (answer.status_code, answer.json()["reason"]) == (403, "certify_stale")


def test_a_challenge_serves_once(talk: Talk) -> None:
    challenge = talk.challenge()
    proof = talk.proof(challenge)
    assert talk.finish(challenge.challenge_id, proof).status_code == 200
    answer = talk.finish(challenge.challenge_id, proof)
    assert (answer.status_code, answer.json()["reason"]) == (403, "challenge_stale")


def test_a_challenge_runs_out(talk: Talk) -> None:
    challenge = talk.challenge()
    proof = talk.proof(challenge)
    talk.house.clock.advance(timedelta(minutes=6))
    assert talk.finish(challenge.challenge_id, proof).json()["reason"] == "challenge_stale"


def test_a_request_in_anothers_name_is_refused(talk: Talk) -> None:
    challenge = talk.challenge()
    proof = talk.proof(challenge)
    other = talk.tpm.open_key("k").sign_csr("cam-2")
    answer = talk.finish(challenge.challenge_id, msgspec.structs.replace(proof, csr=other))
    assert (answer.status_code, answer.json()["reason"]) == (400, "name")


@pytest.mark.parametrize(
    ("changes", "status", "reason"),
    [
        ({"purpose": enroll.Purpose.RENEW}, 401, None),
        ({"purpose": enroll.Purpose.RECOVER}, 403, "ak_unknown"),
        ({"claim": "a-guess"}, 401, "unknown"),
        ({"device_id": "cam-2"}, 403, "chip_unknown"),
        ({"device_id": "a/b"}, 400, None),
        ({"ek_certificate_chain": (b"junk",)}, 403, "ek_malformed"),
        ({"ak_public": b"junk"}, 400, None),
    ],
)
def test_a_bad_beginning_is_refused(
    talk: Talk, changes: dict[str, Any], status: int, reason: str | None
) -> None:
    answer = talk.begin(**changes)
    assert answer.status_code == status, answer.text
    if reason is not None:
        assert answer.json()["reason"] == reason
    assert len(events_of(talk.house.db, "enrollment.refused")) == 1


@pytest.mark.parametrize(
    "body",
    [b"", b"{}", b"[" * 50_000, b'{"device_id":' * 10_000, b"\xff\xfe", b"null", b'{"purpose": 1e9}'],
)
def test_junk_is_a_clear_400_at_both_ends(talk: Talk, body: bytes) -> None:
    challenge = talk.challenge()
    for path in (enroll.PATH, f"{enroll.PATH}/{challenge.challenge_id}", f"{enroll.PATH}/nobody"):
        answer = talk.house.client.post(path, content=body)
        assert answer.status_code == 400
        assert answer.headers["content-type"] == "application/problem+json"
    assert talk.finish(challenge.challenge_id, talk.proof(challenge)).status_code == 200


def test_est_does_not_lower_a_chips_tier(talk: Talk) -> None:
    challenge = talk.challenge()
    issued = enroll.parse_issued(talk.finish(challenge.challenge_id, talk.proof(challenge)).content)
    talk.house.tls.peer = x509.load_der_x509_certificate(issued.certificate_chain[0])
    body = est.render_csr(sign_csr(ec.generate_private_key(ec.SECP256R1()), "cam-1"))
    answer = talk.house.client.post(f"{est.PATH}/simplereenroll", content=body)
    assert (answer.status_code, answer.json()["reason"]) == (409, "lower_tier")
    [event] = events_of(talk.house.db, "enrollment.refused")
    assert event.device == "cam-1"


def test_a_stranger_who_knows_the_chip_cannot_push_out_its_challenges_for_long(talk: Talk) -> None:
    statuses = {talk.begin().status_code for _ in range(40)}
    assert statuses == {200, 429}
