"""Tokens of programs, and command lines signed in through a browser."""

from datetime import timedelta
from pathlib import Path

import pytest

from fleetward.base.db import Database
from support.access import AccessHouse, Browser, make_house
from support.clock import ManualClock


@pytest.fixture
def house(db: Database, tmp_path: Path) -> AccessHouse:
    return make_house(db, tmp_path)


def with_token(house: AccessHouse, token: str, method: str, path: str, body: object = None) -> int:
    headers = {"Authorization": f"Bearer {token}"}
    return house.client.request(method, f"/api/v1{path}", headers=headers, json=body).status_code


def make_token(browser: Browser, *scopes: str, expires_in: str = "30d") -> tuple[str, str]:
    answer = browser.post("/tokens", {"name": "ci", "scopes": list(scopes), "expires_in": expires_in})
    assert answer.status_code == 201, answer.text
    return answer.json()["id"], answer.json()["token"]


def test_a_token_is_shown_once_and_its_use_is_recorded(house: AccessHouse) -> None:
    ada, _ = house.first_operator()
    token_id, token = make_token(ada, "operator.read")
    assert token.startswith("fwt_")
    before = ada.get("/tokens").json()
    assert [(one["id"], one["last_used_at"]) for one in before] == [(token_id, None)]
    assert with_token(house, token, "GET", "/operators") == 200
    after = ada.get("/tokens")
    assert after.json()[0]["last_used_at"] == "2026-06-01T12:00:00.000Z"
    assert token not in after.text


def test_a_token_does_what_its_scopes_name_and_nothing_else(house: AccessHouse) -> None:
    ada, _ = house.first_operator()
    _, token = make_token(ada, "operator.read")
    for method, path in (
        ("POST", "/operators/invitations"), ("POST", "/operators/ada/recover"), ("POST", "/tokens"),
        ("GET", "/operators/ada/sessions"), ("DELETE", "/operators/ada/sessions"), ("GET", "/tokens"),
        ("GET", "/me/sessions"),
        ("POST", "/me/passkeys/begin"), ("POST", "/me/password"), ("POST", "/me/recovery-codes"),
        ("POST", "/me/step-up/begin"), ("POST", "/device-codes/BCDF-GHJK/approve"), ("POST", "/setup/link"),
    ):  # fmt: skip
        body = {"name": "eve", "scopes": ["operator.invite"], "password": "a lighthouse full of geese"}
        assert with_token(house, token, method, path, body) == 403, path


def test_a_token_never_outlives_its_operators_right_to_come_in(house: AccessHouse) -> None:
    ada, _ = house.first_operator()
    bob = house.join_by_passkey(house.invite(ada, "bob", {"role": "administrator"}))
    _, token = make_token(bob, "operator.read")
    assert with_token(house, token, "GET", "/operators") == 200
    ada.post("/operators/bob/disable", {})
    assert with_token(house, token, "GET", "/operators") == 401


def test_a_token_ends_when_it_expires_or_is_revoked(house: AccessHouse, clock: ManualClock) -> None:
    ada, _ = house.first_operator()
    _, short = make_token(ada, "operator.read", expires_in="1d")
    kept_id, kept = make_token(ada, "operator.read", expires_in="90d")
    clock.advance(timedelta(days=1))
    assert with_token(house, short, "GET", "/operators") == 401
    assert with_token(house, kept, "GET", "/operators") == 200
    house.sign_in(ada)
    assert [one["id"] for one in ada.get("/tokens").json()] == [kept_id]
    assert ada.delete(f"/tokens/{kept_id}").status_code == 204
    assert with_token(house, kept, "GET", "/operators") == 401
    assert ada.delete(f"/tokens/{kept_id}").status_code == 404


def test_nobody_revokes_or_sees_a_token_of_somebody_else(house: AccessHouse) -> None:
    ada, _ = house.first_operator()
    bob = house.join_by_passkey(house.invite(ada, "bob"))
    token_id, _ = make_token(ada, "operator.read")
    assert bob.get("/tokens").json() == []
    assert bob.delete(f"/tokens/{token_id}").status_code == 404


@pytest.mark.parametrize(
    "body",
    [
        {"name": "ci", "scopes": []},
        {"name": "ci", "scopes": ["*"]},
        {"name": "ci", "scopes": ["device.read"], "expires_in": "91d"},
        {"name": "ci", "scopes": ["device.read"], "expires_in": "0d"},
        {"name": " ", "scopes": ["device.read"]},
        {"scopes": ["device.read"]},
    ],
)
def test_a_token_without_limits_is_refused(house: AccessHouse, body: dict[str, object]) -> None:
    ada, _ = house.first_operator()
    assert ada.post("/tokens", body).status_code == 400


def test_a_command_line_signs_in_through_the_browser(house: AccessHouse, clock: ManualClock) -> None:
    ada, _ = house.first_operator()
    stranger = house.browser()
    began = stranger.post("/signin/device-code", {"client": "fleetward of ada on laptop"}).json()
    assert began["verification_uri_complete"] == f"https://localhost/activate?code={began['user_code']}"
    poll = {"device_code": began["device_code"]}
    first = stranger.post("/signin/device-code/token", poll)
    assert (first.status_code, first.json()["code"]) == (400, "authorization_pending")
    hasty = stranger.post("/signin/device-code/token", poll)
    assert hasty.json()["code"] == "slow_down"
    shown = ada.get(f"/device-codes/{began['user_code'].lower()}").json()
    assert (shown["client"], shown["address"]) == ("fleetward of ada on laptop", "127.0.0.1")
    assert ada.post(f"/device-codes/{began['user_code']}/approve").status_code == 204
    clock.advance(timedelta(seconds=10))
    token = stranger.post("/signin/device-code/token", poll).json()
    assert token["operator"] == "ada"
    assert token["token"].startswith("fwc_")
    assert with_token(house, token["token"], "GET", "/operators") == 200
    again = stranger.post("/signin/device-code/token", poll)
    assert again.json()["code"] == "expired_token"


def test_a_command_line_acts_dangerously_only_just_after_it_was_approved(
    house: AccessHouse, clock: ManualClock
) -> None:
    ada, _ = house.first_operator()
    token = sign_in_cli(house, ada)
    body = {"name": "ci", "scopes": ["device.read"]}
    assert with_token(house, token, "POST", "/tokens", body) == 201
    clock.advance(timedelta(minutes=6))
    assert with_token(house, token, "POST", "/tokens", body) == 403
    assert with_token(house, token, "GET", "/tokens") == 200
    clock.advance(timedelta(hours=12))
    assert with_token(house, token, "GET", "/tokens") == 401


def test_signing_a_command_line_out_revokes_its_token(house: AccessHouse) -> None:
    ada, _ = house.first_operator()
    token = sign_in_cli(house, ada)
    assert with_token(house, token, "POST", "/signout") == 204
    assert with_token(house, token, "GET", "/me") == 401


def test_a_denied_or_late_sign_in_gets_no_token(house: AccessHouse, clock: ManualClock) -> None:
    ada, _ = house.first_operator()
    stranger = house.browser()
    denied = stranger.post("/signin/device-code", {}).json()
    assert ada.post(f"/device-codes/{denied['user_code']}/deny").status_code == 204
    answer = stranger.post("/signin/device-code/token", {"device_code": denied["device_code"]})
    assert (answer.status_code, answer.json()["code"]) == (400, "access_denied")
    late = stranger.post("/signin/device-code", {}).json()
    clock.advance(timedelta(minutes=10))
    assert ada.post(f"/device-codes/{late['user_code']}/approve").json()["code"] == "step_up_required"
    house.step_up(ada)
    assert ada.post(f"/device-codes/{late['user_code']}/approve").status_code == 404
    answer = stranger.post("/signin/device-code/token", {"device_code": late["device_code"]})
    assert answer.json()["code"] == "expired_token"


def test_approval_needs_a_persons_session_of_their_own(house: AccessHouse) -> None:
    ada, _ = house.first_operator()
    began = house.browser().post("/signin/device-code", {}).json()
    path = f"/device-codes/{began['user_code']}/approve"
    assert house.browser().post(path).status_code == 401
    _, token = make_token(ada, "operator.read")
    assert with_token(house, token, "POST", path) == 403


def test_an_unknown_device_code_tells_nothing(house: AccessHouse) -> None:
    answer = house.browser().post("/signin/device-code/token", {"device_code": "x" * 43})
    assert (answer.status_code, answer.json()["code"]) == (400, "expired_token")


def test_strangers_cannot_begin_sign_ins_without_end(house: AccessHouse) -> None:
    codes = [house.browser().post("/signin/device-code", {}).status_code for _ in range(12)]
    assert codes == [200] * 10 + [429] * 2


def test_what_a_program_calls_itself_is_cut_and_cleaned(house: AccessHouse) -> None:
    ada, _ = house.first_operator()
    began = house.browser().post("/signin/device-code", {"client": "cli\x1b[31m\n"}).json()
    assert ada.get(f"/device-codes/{began['user_code']}").json()["client"] == "cli[31m"


def sign_in_cli(house: AccessHouse, approver: Browser) -> str:
    stranger = house.browser()
    began = stranger.post("/signin/device-code", {"client": "cli"}).json()
    assert approver.post(f"/device-codes/{began['user_code']}/approve").status_code == 204
    answer = stranger.post("/signin/device-code/token", {"device_code": began["device_code"]})
    return str(answer.json()["token"])
