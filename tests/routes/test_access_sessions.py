"""Sessions: what keeps one, what ends one, and what a page of somebody else cannot do with it."""

from datetime import timedelta
from pathlib import Path

import pytest

from fleetward.base.db import Database
from support.access import COOKIE, LOCAL, AccessHouse, make_house
from support.clock import ManualClock


@pytest.fixture
def house(db: Database, tmp_path: Path) -> AccessHouse:
    return make_house(db, tmp_path)


def test_a_session_planted_before_sign_in_is_not_the_one_opened(house: AccessHouse) -> None:
    ada, _ = house.first_operator()
    victim = house.browser(ada.authenticator)
    victim.cookies[COOKIE] = "planted-by-an-attacker-0123456789abcdefgh"
    house.sign_in(victim)
    assert victim.cookies[COOKIE] != "planted-by-an-attacker-0123456789abcdefgh"
    attacker = house.browser()
    attacker.cookies[COOKIE] = "planted-by-an-attacker-0123456789abcdefgh"
    assert attacker.get("/me").status_code == 401


def test_signing_in_ends_the_session_the_browser_had(house: AccessHouse) -> None:
    ada, _ = house.first_operator()
    old = house.browser()
    old.cookies[COOKIE] = ada.cookies[COOKIE]
    house.sign_in(ada)
    assert old.get("/me").status_code == 401
    assert ada.get("/me").status_code == 200


def test_step_up_gives_the_session_another_secret(house: AccessHouse, clock: ManualClock) -> None:
    ada, _ = house.first_operator()
    before, csrf = ada.cookies[COOKIE], ada.csrf
    session = ada.get("/me").json()["session"]["id"]
    clock.advance(timedelta(minutes=6))
    me = house.step_up(ada)
    assert me["session"]["id"] == session
    assert ada.cookies[COOKIE] != before
    assert ada.csrf != csrf
    old = house.browser()
    old.cookies[COOKIE] = before
    assert old.get("/me").status_code == 401


def test_dangerous_acts_ask_for_two_factors_anew_after_five_minutes(
    house: AccessHouse, clock: ManualClock
) -> None:
    ada, _ = house.first_operator()
    body = {"name": "ci", "scopes": ["device.read"]}
    assert ada.post("/tokens", body).status_code == 201
    clock.advance(timedelta(minutes=5, seconds=1))
    for path in ("/tokens", "/me/passkeys/begin", "/me/totp/begin", "/me/recovery-codes"):
        refused = ada.post(path, body)
        assert (refused.status_code, refused.json()["code"]) == (403, "step_up_required"), path
    assert ada.post("/me/password", {"password": "irrelevant"}).json()["code"] == "step_up_required"
    house.step_up(ada)
    assert ada.post("/tokens", body).status_code == 201


def test_step_up_takes_the_sessions_own_operator_only(house: AccessHouse) -> None:
    ada, _ = house.first_operator()
    bob = house.join_by_passkey(house.invite(ada, "bob"))
    asked = bob.post("/me/step-up/begin").json()
    options = {**asked["options"], "allowCredentials": []}
    body = {"challenge_id": asked["challenge_id"], "credential": ada.authenticator.get(options)}
    assert bob.post("/me/step-up/finish", body).status_code == 401
    signin = bob.post("/signin/passkey/begin").json()
    body = {"challenge_id": signin["challenge_id"], "credential": bob.authenticator.get(signin["options"])}
    assert bob.post("/me/step-up/finish", body).status_code == 400


def test_a_session_ends_when_unused_and_at_its_limit(house: AccessHouse, clock: ManualClock) -> None:
    ada, _ = house.first_operator()
    for _ in range(15):
        clock.advance(timedelta(minutes=29))
        assert ada.get("/me").status_code == 200
    clock.advance(timedelta(minutes=30))
    assert ada.get("/me").status_code == 401
    house.sign_in(ada)
    for _ in range(16):
        clock.advance(timedelta(minutes=29))
        ada.get("/me")
    clock.advance(timedelta(minutes=17))
    assert ada.get("/me").status_code == 401


def test_sessions_are_listed_and_revocable(house: AccessHouse) -> None:
    ada, _ = house.first_operator()
    phone = house.browser(ada.authenticator)
    house.sign_in(phone)
    found = ada.get("/me/sessions").json()
    assert [one["current"] for one in found].count(True) == 1
    other = next(one["id"] for one in found if not one["current"])
    assert ada.delete(f"/me/sessions/{other}").status_code == 204
    assert phone.get("/me").status_code == 401
    assert ada.get("/me").status_code == 200


def test_nobody_ends_a_session_of_somebody_else_as_their_own(house: AccessHouse) -> None:
    ada, _ = house.first_operator()
    bob = house.join_by_passkey(house.invite(ada, "bob"))
    session = ada.get("/me").json()["session"]["id"]
    assert bob.delete(f"/me/sessions/{session}").status_code == 404
    assert bob.delete(f"/operators/ada/sessions/{session}").status_code == 403
    assert ada.get("/me").status_code == 200
    bobs = bob.get("/me").json()["session"]["id"]
    assert [one["id"] for one in ada.get("/operators/bob/sessions").json()] == [bobs]
    assert ada.delete("/operators/bob/sessions").status_code == 204
    assert bob.get("/me").status_code == 401


def test_signing_out_ends_the_session_on_the_server(house: AccessHouse) -> None:
    ada, _ = house.first_operator()
    kept = ada.cookies[COOKIE]
    assert ada.post("/signout").status_code == 204
    assert COOKIE not in ada.cookies
    again = house.browser()
    again.cookies[COOKIE] = kept
    assert again.get("/me").status_code == 401


@pytest.mark.parametrize(
    "headers",
    [
        {"X-Fleetward-CSRF": ""},
        {"X-Fleetward-CSRF": "guessed"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://localhost"},
        {"Origin": "https://localhost:8444"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_another_sites_page_changes_nothing(house: AccessHouse, headers: dict[str, str]) -> None:
    ada, _ = house.first_operator()
    refused = ada.post("/operators/invitations", {"name": "eve"}, headers=headers)
    assert (refused.status_code, refused.json()["code"]) == (403, "csrf_refused")
    assert ada.get("/operators/eve").status_code == 404
    assert [event.severity for event in house.events("access.csrf_refused")] == ["warning"]


def test_the_csrf_token_of_one_session_does_not_serve_another(house: AccessHouse) -> None:
    ada, _ = house.first_operator()
    bob = house.join_by_passkey(house.invite(ada, "bob"))
    refused = ada.post("/signout", headers={"X-Fleetward-CSRF": bob.csrf})
    assert refused.json()["code"] == "csrf_refused"


def test_factors_can_be_added_and_removed_but_never_the_last(house: AccessHouse) -> None:
    ada, _ = house.first_operator()
    only = ada.get("/me/passkeys").json()[0]["id"]
    assert ada.delete(f"/me/passkeys/{only}").status_code == 409
    asked = ada.post("/me/passkeys/begin").json()
    assert asked["options"]["excludeCredentials"]
    body = {"challenge_id": asked["challenge_id"], "credential": ada.authenticator.create(asked["options"])}
    assert ada.post("/me/passkeys/finish", {**body, "label": "spare key"}).json()["label"] == "spare key"
    assert ada.delete(f"/me/passkeys/{only}").status_code == 204
    house.sign_in(ada)


def test_a_registration_answers_its_own_operators_challenge(house: AccessHouse) -> None:
    ada, _ = house.first_operator()
    bob = house.join_by_passkey(house.invite(ada, "bob"))
    asked = ada.post("/me/passkeys/begin").json()
    body = {"challenge_id": asked["challenge_id"], "credential": bob.authenticator.create(asked["options"])}
    assert bob.post("/me/passkeys/finish", body).status_code == 400


def test_a_new_password_ends_the_other_sessions_and_says_why_it_is_refused(house: AccessHouse) -> None:
    ada, _ = house.first_operator()
    phone = house.browser(ada.authenticator)
    house.sign_in(phone)
    refused = ada.post("/me/password", {"password": "Password123"})
    assert (refused.status_code, refused.json()["code"]) == (400, "weak_password")
    assert "breaches" in refused.json()["detail"]
    assert ada.post("/me/password", {"password": "a lighthouse full of geese"}).status_code == 200
    assert phone.get("/me").status_code == 401
    assert ada.get("/me").status_code == 200


def test_the_local_token_works_from_this_machine_alone(house: AccessHouse) -> None:
    assert house.client.get("/api/v1/me", headers=LOCAL).json()["via"] == "local"
    remote = house.client.at("192.0.2.7")
    refused = remote.get("/api/v1/me", headers=LOCAL)
    assert refused.status_code == 401
    assert house.events("access.refused")


def test_the_local_token_is_told_once_an_operator_exists(
    house: AccessHouse, db: Database, tmp_path: Path
) -> None:
    house.client.get("/api/v1/me", headers=LOCAL)
    assert not house.events("access.local_token_used")
    again = make_house(db, tmp_path)
    house.first_operator()
    again.client.get("/api/v1/me", headers=LOCAL)
    assert len(house.events("access.local_token_used")) == 1


@pytest.mark.parametrize("authorization", ["Bearer wrong", "Bearer fwt_wrong", "Basic YTpi", "Bearer"])
def test_a_wrong_token_opens_nothing_even_beside_a_session(house: AccessHouse, authorization: str) -> None:
    ada, _ = house.first_operator()
    answer = ada.get("/me", headers={"Authorization": authorization})
    assert answer.status_code == (200 if authorization == "Bearer" else 401)
