"""How operators prove themselves, and what does not prove anything."""

import asyncio
import copy
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from threading import Event
from typing import Any

import httpx
import pytest

from fleetward.base.db import Database, metadata
from support.access import COOKIE, PASSWORD, AccessHouse, Browser, counting, make_house
from support.authenticator import SoftAuthenticator, b64url, from_b64url
from support.clock import ManualClock


@pytest.fixture
def house(db: Database, tmp_path: Path) -> AccessHouse:
    return make_house(db, tmp_path)


def begin(browser: Browser) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return a challenge and the browser's answer to it, not yet sent."""
    asked = browser.post("/signin/passkey/begin").json()
    return asked, {
        "challenge_id": asked["challenge_id"],
        "credential": browser.authenticator.get(asked["options"]),
    }


def with_password(browser: Browser, name: str, password: str, code: str) -> Any:
    return browser.post("/signin/password", {"name": name, "password": password, "totp": code})


def test_a_passkey_signs_in_without_a_name(house: AccessHouse) -> None:
    ada, _ = house.first_operator()
    fresh = house.browser(ada.authenticator)
    me = house.sign_in(fresh)
    assert me["name"] == "ada"
    assert me["mfa_at"] is not None
    assert fresh.get("/me").json()["name"] == "ada"


def test_a_replayed_assertion_opens_nothing(house: AccessHouse) -> None:
    ada, _ = house.first_operator()
    _, answer = begin(ada)
    assert ada.post("/signin/passkey/finish", answer).status_code == 200
    replayed = house.browser().post("/signin/passkey/finish", answer)
    assert replayed.status_code == 401
    assert replayed.json()["code"] == "sign_in_refused"
    assert COOKIE not in replayed.headers.get("set-cookie", "")


def test_a_replay_is_refused_where_the_authenticator_does_not_count(house: AccessHouse) -> None:
    ada, _ = house.first_operator()
    ada.authenticator.counts = False
    house.sign_in(ada)
    _, answer = begin(ada)
    assert ada.post("/signin/passkey/finish", answer).status_code == 200
    assert house.browser().post("/signin/passkey/finish", answer).status_code == 401


# What base64, CBOR, JSON, elliptic curves and the library itself trip over.
JUNK: tuple[Any, ...] = (
    "",
    "A",
    "!!!!",
    "\u00e9",
    "AAAA",
    "gA",
    "_" * 700,
    5,
    1e300,
    None,
    True,
    [],
    {},
    ["A"],
)
FIELDS = ("id", "rawId", "type", "authenticatorAttachment", "response", "clientExtensionResults")


def with_junk(credential: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the credential with each of its parts replaced by each piece of junk."""
    for junk in JUNK:
        for field in FIELDS:
            yield {**credential, field: junk}
        for field in (*credential["response"], "userHandle", "transports"):
            yield {**credential, "response": {**credential["response"], field: junk}}


def test_an_assertion_of_junk_is_refused_and_counted_as_a_failure(
    house: AccessHouse, clock: ManualClock
) -> None:
    ada, _ = house.first_operator()
    _, answer = begin(ada)
    for credential in with_junk(answer["credential"]):
        clock.advance(timedelta(hours=1))
        asked, _ = begin(ada)
        body = {"challenge_id": asked["challenge_id"], "credential": credential}
        found = house.browser().post("/signin/passkey/finish", body)
        assert found.status_code in {400, 401}, credential
    clock.advance(timedelta(hours=1))
    asked, _ = begin(ada)
    bad = {**answer["credential"]["response"], "userHandle": "A"}
    body = {"challenge_id": asked["challenge_id"], "credential": {**answer["credential"], "response": bad}}
    statuses = [house.browser().post("/signin/passkey/finish", body).status_code for _ in range(40)]
    assert statuses[0] == 401
    assert statuses[-1] == 429, "who sends junk waits like who guesses"


def test_a_registration_of_junk_is_refused(house: AccessHouse) -> None:
    ada, _ = house.first_operator()
    asked = ada.post("/me/passkeys/begin").json()
    made = SoftAuthenticator(ada.authenticator.origin).create(asked["options"])
    for credential in with_junk(made):
        body = {"challenge_id": asked["challenge_id"], "credential": credential, "label": "new"}
        found = ada.post("/me/passkeys/finish", body)
        assert found.status_code in {201, 400, 409}, credential


def test_an_old_assertion_does_not_answer_a_new_challenge(house: AccessHouse) -> None:
    ada, _ = house.first_operator()
    _, old = begin(ada)
    asked, _ = begin(ada)
    mixed = {"challenge_id": asked["challenge_id"], "credential": old["credential"]}
    assert house.browser().post("/signin/passkey/finish", mixed).status_code == 401


def test_a_counter_that_falls_back_is_refused_and_told_as_a_clone(house: AccessHouse) -> None:
    ada, _ = house.first_operator()
    for _ in range(3):
        house.sign_in(ada)
    clone = copy.deepcopy(ada.authenticator)
    clone.passkeys[-1].count = 1
    browser = house.browser(clone)
    _, answer = begin(browser)
    assert browser.post("/signin/passkey/finish", answer).status_code == 401
    assert [event.severity for event in house.events("access.passkey_cloned")] == ["critical"]
    house.sign_in(ada)


@pytest.mark.parametrize("change", ["origin", "unverified", "signature", "unknown", "handle"])
def test_an_assertion_that_does_not_verify_opens_nothing(house: AccessHouse, change: str) -> None:
    ada, _ = house.first_operator()
    authenticator = copy.deepcopy(ada.authenticator)
    if change == "origin":
        authenticator.origin = "https://localhost.evil.example"
    if change == "unverified":
        authenticator.is_verifying = False
    if change == "handle":
        authenticator.passkeys[-1].user_handle = bytes(32)
    browser = house.browser(authenticator)
    _, answer = begin(browser)
    if change == "signature":
        response = answer["credential"]["response"]
        data = bytearray(from_b64url(response["authenticatorData"]))
        data[-1] += 1
        response["authenticatorData"] = b64url(bytes(data))
    if change == "unknown":
        answer["credential"]["id"] = answer["credential"]["rawId"] = "AAAA"
    refused = browser.post("/signin/passkey/finish", answer)
    assert refused.status_code == 401
    assert len(house.events("access.sign_in_refused")) == 1


@pytest.mark.parametrize("credential", [{}, {"id": 1}, {"id": "x", "rawId": "y", "type": "public-key"}])
def test_junk_is_no_assertion(house: AccessHouse, credential: dict[str, Any]) -> None:
    asked = house.browser().post("/signin/passkey/begin").json()
    body = {"challenge_id": asked["challenge_id"], "credential": credential}
    assert house.browser().post("/signin/passkey/finish", body).status_code == 401
    body = {"challenge_id": "junk", "credential": credential}
    assert house.browser().post("/signin/passkey/finish", body).status_code == 400


def test_a_challenge_expires_after_five_minutes(house: AccessHouse, clock: ManualClock) -> None:
    ada, _ = house.first_operator()
    _, answer = begin(ada)
    clock.advance(timedelta(minutes=5))
    assert house.browser().post("/signin/passkey/finish", answer).status_code == 400


def test_a_registration_without_user_verification_is_refused(house: AccessHouse) -> None:
    browser = house.browser(SoftAuthenticator("https://localhost", is_verifying=False))
    who = {"token": house.setup_token(), "name": "ada"}
    offer = browser.post("/setup/begin", who).json()
    answer = browser.authenticator.create(offer["webauthn"])
    assert browser.post("/setup/finish", {**who, "passkey": answer}).status_code == 400


def test_password_and_code_sign_in_together_and_neither_alone(house: AccessHouse, clock: ManualClock) -> None:
    ada, _ = house.first_operator()
    _, totp, _ = house.join_by_password(house.invite(ada, "bob"))
    clock.advance(timedelta(seconds=30))
    code, browser = house.code(totp), house.browser()
    wrong = "000000" if code != "000000" else "000001"
    answers = [
        with_password(browser, "bob", PASSWORD, wrong),
        with_password(browser, "bob", PASSWORD, ""),
        with_password(browser, "bob", PASSWORD + "x", code),
        with_password(browser, "nobody", PASSWORD, code),
    ]
    assert {answer.status_code for answer in answers} == {401}
    assert len({answer.text for answer in answers}) == 1
    assert not browser.cookies
    assert with_password(browser, "bob", PASSWORD, code).status_code == 200


def test_an_account_with_a_password_and_no_code_app_stays_closed(house: AccessHouse) -> None:
    ada, _ = house.first_operator()
    assert ada.post("/me/password", {"password": PASSWORD}).status_code == 200
    for code in ("", "000000"):
        assert with_password(house.browser(), "ada", PASSWORD, code).status_code == 401


def test_a_code_used_once_is_refused_within_its_window(house: AccessHouse, clock: ManualClock) -> None:
    ada, _ = house.first_operator()
    _, totp, _ = house.join_by_password(house.invite(ada, "bob"))
    used_at_sign_up = house.code(totp)
    assert with_password(house.browser(), "bob", PASSWORD, used_at_sign_up).status_code == 401
    clock.advance(timedelta(seconds=30))
    code = house.code(totp)
    assert with_password(house.browser(), "bob", PASSWORD, code).status_code == 200
    assert with_password(house.browser(), "bob", PASSWORD, code).status_code == 401
    clock.advance(timedelta(seconds=30))
    assert with_password(house.browser(), "bob", PASSWORD, code).status_code == 401
    assert with_password(house.browser(), "bob", PASSWORD, house.code(totp)).status_code == 200


def test_argon2_runs_once_whether_or_not_the_account_exists(house: AccessHouse) -> None:
    ada, _ = house.first_operator()
    house.join_by_password(house.invite(ada, "bob"))
    with counting(house) as runs:
        with_password(house.browser(), "bob", "wrong", "123456")
        with_password(house.browser(), "nobody", "wrong", "123456")
        with_password(house.browser(), "ada", "wrong", "123456")
    assert [kept is not None for kept in runs] == [True, False, False]


def test_a_clock_that_is_set_back_makes_no_old_proof_fresh_and_locks_nobody_out(
    house: AccessHouse, clock: ManualClock
) -> None:
    ada, _ = house.first_operator()
    _, totp, _ = house.join_by_password(house.invite(ada, "bob"))
    clock.advance(timedelta(minutes=1))
    assert with_password(house.browser(), "bob", PASSWORD, house.code(totp)).status_code == 200
    house.sign_in(ada)
    assert ada.post("/me/totp/begin").status_code == 200
    clock.advance(timedelta(minutes=-10))
    assert ada.post("/me/totp/begin").json()["code"] == "step_up_required"
    code = house.code(totp)
    assert with_password(house.browser(), "bob", PASSWORD, code).status_code == 200
    assert with_password(house.browser(), "bob", PASSWORD, code).status_code == 401, "still good once"


def test_failures_hold_an_account_back_exponentially(house: AccessHouse, clock: ManualClock) -> None:
    ada, _ = house.first_operator()
    _, totp, _ = house.join_by_password(house.invite(ada, "bob"))
    for _ in range(4):
        assert with_password(house.browser(), "bob", "wrong", "000000").status_code == 401
    assert not house.events("access.sign_in_held_back")
    waits = []
    for _ in range(6):
        assert with_password(house.browser(), "bob", "wrong", "000000").status_code == 401
        held = with_password(house.browser(), "bob", PASSWORD, house.code(totp))
        assert held.status_code == 429
        waits.append(int(held.headers["retry-after"]))
        clock.advance(timedelta(seconds=waits[-1]))
    assert waits == [2, 4, 8, 16, 32, 64]
    assert len(house.events("access.sign_in_held_back")) == 6
    assert with_password(house.browser(), "bob", PASSWORD, house.code(totp)).status_code == 200


def test_guesses_sent_at_once_are_all_counted(house: AccessHouse) -> None:
    ada, _ = house.first_operator()
    house.join_by_password(house.invite(ada, "bob"))
    with ThreadPoolExecutor(8) as pool:
        guesses = pool.map(lambda n: with_password(house.browser(), "bob", f"wrong {n}", "0"), range(24))
        codes = [answer.status_code for answer in guesses]
    # Where checks are slow some guesses find no place in the queue: those are not looked at, nor counted.
    while codes.count(401) < 5:
        codes.append(with_password(house.browser(), "bob", "wrong", "0").status_code)
        assert codes[-1] == 401, "held back before five wrong ones"
    codes.append(with_password(house.browser(), "bob", "wrong", "0").status_code)
    assert (codes.count(401), codes[-1]) == (5, 429)
    assert set(codes) == {401, 429}


def test_unknown_accounts_are_held_back_alike(house: AccessHouse) -> None:
    ada, _ = house.first_operator()
    house.join_by_password(house.invite(ada, "bob"))

    def knock(name: str) -> list[tuple[int, str]]:
        answers = [with_password(house.browser(), name, "wrong", "000000") for _ in range(7)]
        return [(answer.status_code, answer.text) for answer in answers]

    assert knock("bob") == knock("nobody")
    told = [event.details for event in house.events("access.sign_in_refused")]
    assert {one["operator"] for one in told} == {"bob", None}


def test_a_right_sign_in_ends_the_count(house: AccessHouse, clock: ManualClock) -> None:
    ada, _ = house.first_operator()
    _, totp, _ = house.join_by_password(house.invite(ada, "bob"))
    for _ in range(6):
        for _ in range(3):
            assert with_password(house.browser(), "bob", "wrong", "000000").status_code == 401
        clock.advance(timedelta(seconds=30))
        assert with_password(house.browser(), "bob", PASSWORD, house.code(totp)).status_code == 200


def test_an_address_is_held_back_whoever_it_guesses(house: AccessHouse) -> None:
    house.first_operator()
    codes = [with_password(house.browser(), f"name-{n}", "wrong", "0").status_code for n in range(33)]
    assert codes[:31] == [401] * 31
    assert codes[-1] == 429


def test_being_held_back_survives_a_restart(house: AccessHouse, db: Database, tmp_path: Path) -> None:
    house.first_operator()
    for _ in range(6):
        with_password(house.browser(), "ada", "wrong", "0")
    again = make_house(db, tmp_path)
    assert with_password(again.browser(), "ada", "wrong", "0").status_code == 429


def test_a_recovery_code_opens_a_session_for_new_factors_only(house: AccessHouse) -> None:
    ada, codes = house.first_operator()
    ada.post("/me/password", {"password": PASSWORD})
    browser = house.browser()
    me = browser.keep(browser.post("/signin/recovery", {"name": "ada", "code": codes[0].lower()}))
    assert me["restricted"] is True
    assert me["permissions"] == {}
    assert [event.severity for event in house.events("access.recovery_code_used")] == ["critical"]
    for method, path in (
        ("GET", "/operators"), ("GET", "/me/sessions"), ("GET", "/tokens"), ("POST", "/me/recovery-codes"),
        ("POST", "/tokens"), ("POST", "/operators/invitations"), ("POST", "/device-codes/BCDF-GHJK/approve"),
    ):  # fmt: skip
        assert browser.ask(method, path, {"name": "x", "scopes": []}).status_code == 403, path
    asked = browser.post("/me/passkeys/begin").json()
    passkey = browser.authenticator.create(asked["options"])
    body = {"challenge_id": asked["challenge_id"], "credential": passkey, "label": "new phone"}
    assert browser.post("/me/passkeys/finish", body).status_code == 201
    assert browser.get("/operators").status_code == 403
    me = house.step_up(browser)
    assert (me["restricted"], browser.get("/operators").status_code) == (False, 200)


def test_a_recovery_code_works_once_and_for_its_owner(house: AccessHouse) -> None:
    ada, codes = house.first_operator()
    house.join_by_passkey(house.invite(ada, "bob"))

    def recover(name: str, code: str) -> int:
        return house.browser().post("/signin/recovery", {"name": name, "code": code}).status_code

    assert recover("bob", codes[0]) == 401
    assert recover("ada", codes[0]) == 200
    assert recover("ada", codes[0]) == 401
    assert recover("nobody", codes[1]) == 401
    assert ada.get("/me").json()["factors"]["recovery_codes_left"] == 9


def test_new_recovery_codes_end_the_old_ones(house: AccessHouse) -> None:
    ada, old = house.first_operator()
    new = ada.post("/me/recovery-codes").json()["recovery_codes"]
    assert not set(new) & set(old)
    assert house.browser().post("/signin/recovery", {"name": "ada", "code": old[0]}).status_code == 401
    assert house.browser().post("/signin/recovery", {"name": "ada", "code": new[0]}).status_code == 200


def test_a_disabled_operator_is_out_at_once_and_stays_out(house: AccessHouse, clock: ManualClock) -> None:
    ada, _ = house.first_operator()
    bob, totp, codes = house.join_by_password(house.invite(ada, "bob"))
    assert bob.get("/me").status_code == 200
    assert ada.post("/operators/bob/disable", {"reason": "left"}).json()["state"] == "disabled"
    assert bob.get("/me").status_code == 401
    clock.advance(timedelta(seconds=30))
    assert with_password(house.browser(), "bob", PASSWORD, house.code(totp)).status_code == 401
    assert house.browser().post("/signin/recovery", {"name": "bob", "code": codes[0]}).status_code == 401
    assert ada.post("/operators/bob/enable").json()["state"] == "active"
    clock.advance(timedelta(seconds=30))
    assert with_password(house.browser(), "bob", PASSWORD, house.code(totp)).status_code == 200


def test_the_last_administrator_cannot_be_disabled(house: AccessHouse) -> None:
    ada, _ = house.first_operator()
    refused = ada.post("/operators/ada/disable", {})
    assert refused.status_code == 409
    house.join_by_passkey(house.invite(ada, "bob", {"role": "administrator"}))
    assert ada.post("/operators/ada/disable", {}).status_code == 200


def test_every_secret_is_kept_as_a_hash_or_sealed(house: AccessHouse, db: Database) -> None:
    ada, codes = house.first_operator()
    invitation = house.invite(ada, "bob")
    bob, totp, more = house.join_by_password(invitation)
    made = ada.post("/tokens", {"name": "ci", "scopes": ["device.read"]}).json()
    began = house.begin_device_code()
    secrets = [*codes, *more, invitation, totp.secret, PASSWORD, made["token"], began["device_code"]]
    secrets += [*ada.cookies.values(), *bob.cookies.values(), ada.csrf, bob.csrf]
    tables = [one for one in metadata.sorted_tables if one.name.startswith(("access_", "audit_", "events"))]
    with db.read() as tx:
        rows = [str(tuple(row)) for table in tables for row in tx.conn.execute(table.select())]
    assert len(tables) > 10
    assert len(rows) > 10
    assert not [secret for secret in secrets for row in rows if secret in row]


def test_password_checks_wait_in_their_own_line_and_nobody_else_does(
    house: AccessHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More checks than routes have threads: what is over is refused at once, and other routes answer."""
    may_go_on = Event()
    monkeypatch.setattr(house.ctx.passwords, "verify", lambda *_: may_go_on.wait(60) and False)
    body = {"name": "ada", "password": PASSWORD, "totp": "123456"}

    async def ask(address: str, method: str, path: str, **more: Any) -> httpx.Response:
        transport = httpx.ASGITransport(house.app, client=(address, 123))
        async with httpx.AsyncClient(transport=transport, base_url="https://localhost") as client:
            return await client.request(method, f"/api/v1{path}", **more)

    def check(address: str) -> "asyncio.Task[httpx.Response]":
        return asyncio.create_task(ask(address, "POST", "/signin/password", json={**body, "name": address}))

    async def play() -> None:
        greedy = [check("10.0.0.1") for _ in range(20)]
        done, waiting = await asyncio.wait(greedy, timeout=1)
        while len(waiting) > 4:
            done, waiting = await asyncio.wait(greedy, timeout=1)
        assert {one.result().status_code for one in done} == {429}
        told = next(iter(done)).result().json()
        assert told["code"] == "rate_limited"
        assert "password checks: expected at most 4 at once of yours" in told["detail"]
        others = [check(f"10.0.1.{number}") for number in range(60)]
        done, waiting = await asyncio.wait(others, timeout=1)
        while len(waiting) > 12:
            done, waiting = await asyncio.wait(others, timeout=1)
        assert len(waiting) == 12
        assert {one.result().status_code for one in done} == {429}
        assert "at most 16 at once in all" in next(iter(done)).result().json()["detail"]
        assert (await ask("10.0.0.9", "GET", "/signin/options")).status_code == 200
        may_go_on.set()
        assert {one.status_code for one in await asyncio.gather(*greedy, *others)} == {401, 429}
        assert (await check("10.0.0.1")).status_code == 401, "its places are free again"

    asyncio.run(play())
