"""The pure rules of access: passwords, codes, holding_back, links' targets, secrets."""

from datetime import UTC, datetime, timedelta

import pyotp
import pytest
from argon2 import PasswordHasher
from hypothesis import given
from hypothesis import strategies as st

from fleetward.base.errors import InvalidInputError
from fleetward.base.limiting.backoff import Failures, count_failure
from fleetward.features.access.model import totp
from fleetward.features.access.model.device_codes import (
    CodeState,
    DeviceCode,
    judge_poll,
    new_user_code,
    parse_user_code,
)
from fleetward.features.access.model.identity import Identity, StepUpRequiredError, check_fresh_mfa
from fleetward.features.access.model.passwords import Passwords, WeakPasswordError, check_password
from fleetward.features.access.model.sealing import Sealer
from fleetward.features.access.model.secrets import (
    csrf_token,
    hash_secret,
    new_recovery_code,
    new_secret,
    parse_recovery_code,
)
from fleetward.features.access.model.sessions import safe_next
from fleetward.features.access.model.sign_in_limits import ACCOUNT, ADDRESS, account_key, address_key
from fleetward.features.access.model.tokens import check_lifetime, parse_scopes
from fleetward.features.access.service.keys import load_common_passwords

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
COMMON = load_common_passwords()
WORDS = ("ada", "Ada Lovelace")


@pytest.mark.parametrize(
    "password",
    [
        "correct horse battery staple 42",
        "ich esse gern blaue Kartoffeln",
        "пароль который никто не знает",
        "kT9#vQ2!xW7p",  # short, and scored 4
        "a" * 3 + "7 geese over the lighthouse",
    ],
)
def test_a_password_that_is_hard_to_guess_is_accepted(password: str) -> None:
    check_password(password, words=WORDS, common=COMMON)


@pytest.mark.parametrize(
    ("password", "said"),
    [
        ("", "found 0"),
        ("short", "found 5"),
        ("Sunshine-7", "scored"),
        ("Password123", "known from breaches"),
        ("1q2w3e4r5t6y7u8i", "pattern|breaches"),
        ("aaaaaaaaaaaaaaaaaaaa", "pattern"),
        ("passwordpassword", "pattern|breaches"),
        ("fleetwardfleetward", "your name or the product"),
        ("adalovelaceada1815", "your name or the product"),
        ("x" * 257, "at most 256"),
    ],
)
def test_a_password_that_is_easy_to_guess_is_refused_with_the_reason(password: str, said: str) -> None:
    with pytest.raises(WeakPasswordError, match=said) as refused:
        check_password(password, words=WORDS, common=COMMON)
    if len(password) > 5:
        assert password not in str(refused.value)


def test_every_password_of_the_shipped_list_is_refused() -> None:
    assert len(COMMON) > 16_000
    for password in sorted(COMMON)[:: len(COMMON) // 60]:
        with pytest.raises(WeakPasswordError):
            check_password(password.upper(), words=(), common=COMMON)


def test_a_password_is_one_whichever_way_the_keyboard_composes_it() -> None:
    passwords = Passwords(PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))
    kept = passwords.hash("café au lait on the terrace")
    assert passwords.verify(kept, "café au lait on the terrace")
    assert not passwords.verify(kept, "cafe au lait on the terrace")


def test_passwords_are_kept_by_argon2id_with_recommended_parameters() -> None:
    kept = Passwords().hash("correct horse battery staple 42")
    assert kept.startswith("$argon2id$v=19$m=65536,t=3,p=4$")
    assert "correct" not in kept


def test_nobody_has_the_password_that_is_verified_for_nobody() -> None:
    passwords = Passwords(PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))
    assert not passwords.verify(None, "a password that no account has")


def test_a_totp_code_is_right_a_step_early_or_late_and_no_more() -> None:
    secret = totp.new_secret()
    app = pyotp.TOTP(secret)
    for drift, is_right in ((-60, False), (-30, True), (0, True), (30, True), (60, False)):
        code = app.at(NOON + timedelta(seconds=drift))
        assert (totp.find_step(secret, code, NOON, last_step=-1) is not None) is is_right


def test_a_used_totp_step_and_those_before_it_are_refused() -> None:
    secret = totp.new_secret()
    app = pyotp.TOTP(secret)
    step = totp.find_step(secret, app.at(NOON), NOON, last_step=-1)
    assert step is not None
    for at in (NOON, NOON - timedelta(seconds=30)):
        assert totp.find_step(secret, app.at(at), NOON, last_step=step) is None
    assert totp.find_step(secret, app.at(NOON + timedelta(seconds=30)), NOON, last_step=step) == step + 1


@pytest.mark.parametrize(("lead_s", "counts"), [(0, False), (30, False), (60, True), (86_400, True)])
def test_a_step_used_before_the_clock_was_set_back_locks_nobody_out(lead_s: int, counts: bool) -> None:
    secret = totp.new_secret()
    app = pyotp.TOTP(secret)
    ahead = NOON + timedelta(seconds=lead_s)
    used = totp.find_step(secret, app.at(ahead), ahead, last_step=-1)
    assert used is not None
    assert (totp.find_step(secret, app.at(NOON), NOON, last_step=used) is not None) is counts


@given(st.text(max_size=12))
def test_no_junk_is_a_totp_code(text: str) -> None:
    secret = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"
    found = totp.find_step(secret, text, NOON, last_step=-1)
    plain = "".join(text.split())
    steps = range(-30, 31, 30)
    assert found is None or plain in {pyotp.TOTP(secret).at(NOON + timedelta(seconds=s)) for s in steps}


def test_waiting_doubles_after_the_free_failures_up_to_a_quarter_of_an_hour() -> None:
    assert [ACCOUNT.wait_after(n).total_seconds() for n in range(9)] == [0, 0, 0, 0, 0, 2, 4, 8, 16]
    assert ACCOUNT.wait_after(1000) == timedelta(minutes=15)
    assert ADDRESS.wait_after(30) == timedelta(0)


def test_an_account_sees_at_most_a_hundred_guesses_a_day() -> None:
    failures, now, guesses = Failures(0, NOON, NOON), NOON, 0
    while now < NOON + timedelta(days=1):
        failures = count_failure(failures, ACCOUNT, now)
        guesses += 1
        now = max(failures.blocked_until, now + timedelta(milliseconds=1))
    assert guesses <= 110
    assert count_failure(Failures(9, NOON, NOON), ACCOUNT, NOON + timedelta(hours=24)).count == 1


@pytest.mark.parametrize(("set_back_s", "holds"), [(0, True), (30, True), (31, False), (86_400, False)])
def test_failures_of_a_clock_that_was_set_back_hold_nobody_back(set_back_s: int, holds: bool) -> None:
    failures = Failures(9, NOON, NOON + timedelta(minutes=5))
    now = NOON - timedelta(seconds=set_back_s)
    assert failures.is_blocked(now) is holds
    assert (count_failure(failures, ACCOUNT, now).count == 10) is holds


@pytest.mark.parametrize(("late_s", "holds"), [(-1, True), (0, False), (1, False)])
def test_nobody_is_held_back_longer_than_said(late_s: int, holds: bool) -> None:
    failures = Failures(9, NOON, NOON + timedelta(minutes=5))
    assert failures.is_blocked(failures.blocked_until + timedelta(seconds=late_s)) is holds


def test_addresses_of_one_subscriber_are_one() -> None:
    assert address_key("2001:db8:1:2:3::1") == address_key("2001:db8:1:2:ffff::9")
    assert address_key("2001:db8:1:2::1") != address_key("2001:db8:1:3::1")
    assert address_key("192.0.2.1") != address_key("192.0.2.2")
    assert address_key("::ffff:192.0.2.1") == address_key("192.0.2.1")
    assert "hunter2" not in account_key("hunter2")
    assert account_key("Ada") == account_key("ada")


@pytest.mark.parametrize(
    "path",
    [
        "https://evil.example/", "//evil.example", "/\\evil.example", "\\\\evil.example", "/\t/evil.example",
        "javascript:alert(1)", "evil", "", None, "/" + "a" * 600, "/\n/evil.example", "/a\\..\\b", "/ü",
    ],
)  # fmt: skip
def test_next_leads_to_no_other_site(path: str | None) -> None:
    assert safe_next(path) == "/"


@pytest.mark.parametrize("path", ["/", "/devices", "/devices/cam-1?tab=logs#last", "/a//b"])
def test_next_leads_to_pages_of_ours(path: str) -> None:
    assert safe_next(path) == path


@given(st.text(max_size=40))
def test_next_is_always_a_path_of_this_origin(text: str) -> None:
    found = safe_next(text)
    assert found.startswith("/")
    assert not found.startswith(("//", "/\\"))


def test_recovery_codes_are_read_as_people_write_them() -> None:
    code = new_recovery_code()
    assert len(code) == 19
    assert parse_recovery_code(code.lower().replace("-", " ")) == code
    assert parse_recovery_code("o0ol-i1li-abcd-wxyz") == "0001-1111-ABCD-WXYZ"


def test_user_codes_have_no_vowels_and_are_read_in_any_spelling() -> None:
    code = new_user_code()
    assert not set(code) & set("AEIOU0123456789")
    assert parse_user_code(code.lower().replace("-", " ")) == code


def _code(state: CodeState, *, polled_s: float | None = None) -> DeviceCode:
    polled_at = None if polled_s is None else NOON - timedelta(seconds=polled_s)
    return DeviceCode(
        "d",
        "BCDF-GHJK",
        "cli",
        "::1",
        "::/64",
        state,
        "ada",
        NOON,
        NOON + timedelta(minutes=10),
        2,
        polled_at,
    )


@pytest.mark.parametrize(
    ("code", "after_s", "expected"),
    [
        (None, 0, "expired_token"),
        (_code(CodeState.PENDING), 0, "authorization_pending"),
        (_code(CodeState.PENDING, polled_s=1), 0, "slow_down"),
        (_code(CodeState.PENDING, polled_s=2), 0, "authorization_pending"),
        (_code(CodeState.PENDING), 600, "expired_token"),
        (_code(CodeState.APPROVED), 600, "expired_token"),
        (_code(CodeState.DENIED), 0, "access_denied"),
        (_code(CodeState.REDEEMED), 0, "expired_token"),
        (_code(CodeState.APPROVED), 0, None),
    ],
)
def test_a_poll_is_answered_as_rfc_8628_says(
    code: DeviceCode | None, after_s: int, expected: str | None
) -> None:
    error = judge_poll(code, NOON + timedelta(seconds=after_s))
    assert (None if error is None else error.code) == expected


def test_what_was_sealed_opens_for_its_purpose_alone_and_in_time() -> None:
    sealer = Sealer(bytes(32))
    ticket = sealer.seal_ticket({"a": 1}, "one", NOON + timedelta(minutes=5))
    assert sealer.open_ticket(ticket, "one", NOON)["a"] == 1
    for purpose, now in (("two", NOON), ("one", NOON + timedelta(minutes=5))):
        with pytest.raises(InvalidInputError):
            sealer.open_ticket(ticket, purpose, now)
    with pytest.raises(InvalidInputError):
        Sealer(bytes([1]) * 32).open_ticket(ticket, "one", NOON)


@given(st.text(max_size=200))
def test_no_junk_is_a_ticket(text: str) -> None:
    with pytest.raises(InvalidInputError):
        Sealer(bytes(32)).open_ticket(text, "one", NOON)


def test_the_csrf_token_belongs_to_one_session_and_does_not_show_its_secret() -> None:
    one, other = new_secret(), new_secret()
    assert csrf_token(one) == csrf_token(one) != csrf_token(other)
    assert one not in csrf_token(one)
    assert hash_secret(one) != hash_secret(other)


def test_scopes_name_permissions_that_exist() -> None:
    assert parse_scopes(["device.read", "device.read"], ["device.read"]) == {"device.read"}
    for wrong in ([], ["device.*"], ["device.read", "everything"]):
        with pytest.raises(InvalidInputError):
            parse_scopes(wrong, ["device.read"])


def test_tokens_live_ninety_days_at_most() -> None:
    assert check_lifetime(timedelta(days=90)) == timedelta(days=90)
    with pytest.raises(InvalidInputError):
        check_lifetime(timedelta(days=90, seconds=1))


@pytest.mark.parametrize(
    ("age_s", "is_fresh"), [(None, False), (-31, False), (-30, True), (300, True), (301, False)]
)
def test_two_factors_stay_fresh_for_five_minutes(age_s: int | None, is_fresh: bool) -> None:
    mfa_at = None if age_s is None else NOON - timedelta(seconds=age_s)
    identity = Identity("operator:ada", "ada", "session", mfa_at, None, "ses", restricted=False)
    if is_fresh:
        check_fresh_mfa(identity, NOON)
    else:
        with pytest.raises(StepUpRequiredError):
            check_fresh_mfa(identity, NOON)
