"""What crosses the wire in enrollment: read back as written, and junk refused by one family of errors."""

import base64
from datetime import datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import given
from hypothesis import strategies as st

from fleetward.base.errors import InvalidInputError
from fleetward.wire import enroll, est, signed_time
from support.authority import LIFETIME, T0, Authority, make_certificate
from support.enrolling import sign_csr

KEY = ec.generate_private_key(ec.SECP256R1())
CSR = sign_csr(KEY, "cam-1")
ROOT = Authority("root")
ISSUING = Authority("issuing", ROOT)
JUNK = st.one_of(st.binary(max_size=300), st.binary(max_size=200).map(base64.b64encode), st.just(b"{}"))
BUNDLE = base64.b64decode(est.render_certificates([ROOT.certificate]))
NONCE = "n" * 20


def damaged(whole: bytes) -> st.SearchStrategy[bytes]:
    """`whole` with one byte another, or cut short."""
    changed = st.tuples(st.integers(0, len(whole) - 1), st.integers(1, 255)).map(
        lambda at: whole[: at[0]] + bytes([whole[at[0]] ^ at[1]]) + whole[at[0] + 1 :]
    )
    return st.one_of(changed, st.integers(0, len(whole) - 1).map(lambda end: whole[:end]))


def test_a_request_reads_back() -> None:
    assert est.parse_csr(est.render_csr(CSR)).public_key() == KEY.public_key()


@given(st.one_of(JUNK, damaged(CSR).map(base64.b64encode)))
def test_a_request_of_junk_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidInputError):
        est.parse_csr(body)


def test_certificates_read_back() -> None:
    both = [ROOT.certificate, ISSUING.certificate]
    assert set(est.parse_certificates(est.render_certificates(both))) == set(both)


@given(st.one_of(JUNK, damaged(BUNDLE).map(base64.b64encode)))
def test_certificates_of_junk_are_refused_or_read(body: bytes) -> None:
    """A damaged certificate may still parse; whether it is the right one its issuer's signature says."""
    try:
        est.parse_certificates(body)
    except InvalidInputError:
        return


BEGIN = enroll.render(enroll.TpmBegin("cam-1", enroll.Purpose.ENROLL, (b"ek",), b"ak", "claim"))
FINISH = enroll.render_finish(b"s", b"csr", b"info", b"sig", evidence=b'{"quote": 1}')


def test_the_tpm_lanes_messages_read_back() -> None:
    assert enroll.parse_begin(BEGIN).claim == "claim"
    finish = enroll.parse_finish(FINISH)
    assert bytes(finish.evidence) == b'{"quote": 1}'  # type: ignore[arg-type]
    assert "evidence" not in enroll.render_finish(b"s", b"c", b"i", b"g", evidence=None).decode()
    at = "2026-01-01T00:00:00Z"
    challenge = enroll.TpmChallenge("id", b"blob", b"secret", b"nonce", at, is_evidence_needed=True)
    assert enroll.parse_challenge(enroll.render(challenge)) == challenge
    issued = enroll.TpmIssued((b"leaf", b"ca"))
    assert enroll.parse_issued(enroll.render(issued)) == issued


@given(JUNK)
def test_the_tpm_lane_refuses_junk(body: bytes) -> None:
    for parse in (enroll.parse_begin, enroll.parse_challenge, enroll.parse_finish, enroll.parse_issued):
        with pytest.raises(InvalidInputError):
            parse(body)


@pytest.mark.parametrize(
    "body",
    [
        b'{"certificate_chain": []}',
        b'{"certificate_chain": ["AA=="], "x": 1}',
        b"[" * 100_000,
        b" " * 300_000,
    ],
)
def test_the_tpm_lane_keeps_to_its_limits(body: bytes) -> None:
    with pytest.raises(InvalidInputError):
        enroll.parse_issued(body)


TIME_KEY = ec.generate_private_key(ec.SECP256R1())


def make_statement(
    at: datetime = T0,
    *,
    usage: x509.ObjectIdentifier = ExtendedKeyUsageOID.TIME_STAMPING,
    issuer: Authority = ISSUING,
) -> bytes:
    certificate = make_certificate(
        "time", TIME_KEY.public_key(), issuer.as_issuer(), usage=usage, lifetime=LIFETIME
    )
    return signed_time.render_signed_time(at, NONCE, TIME_KEY, [certificate, issuer.certificate])


STATEMENT = make_statement()


def verify(body: bytes, nonce: str = NONCE) -> datetime:
    return signed_time.verify_signed_time(body, nonce=nonce, roots=[ROOT.certificate])


def test_signed_time_reads_back_whatever_the_readers_clock_says() -> None:
    assert verify(STATEMENT) == T0


def test_signed_time_of_another_nonce_key_usage_or_root_is_not_believed() -> None:
    other_root = Authority("other")
    spoiled = [
        make_statement(T0 + 2 * LIFETIME),
        make_statement(T0 - timedelta(days=1)),
        make_statement(usage=ExtendedKeyUsageOID.CLIENT_AUTH),
        make_statement(issuer=other_root),
        STATEMENT.replace(b"2026-11-23T12", b"2026-11-23T13"),
    ]
    for body in spoiled:
        with pytest.raises(signed_time.UntrustedTimeError):
            verify(body)
    with pytest.raises(signed_time.UntrustedTimeError):
        verify(STATEMENT, nonce="m" * 20)


@given(st.one_of(JUNK, damaged(STATEMENT)))
def test_a_damaged_statement_of_the_time_is_refused(body: bytes) -> None:
    """Some bits carry nothing, such as the last ones of base64; the time is then the true one."""
    try:
        assert verify(body) == T0
    except InvalidInputError:
        return


def test_a_request_for_the_time_is_by_a_nonce_of_ours() -> None:
    assert signed_time.parse_nonce(signed_time.new_nonce())
