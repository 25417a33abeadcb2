"""Tokens of programs, and command lines signed in through a browser."""

import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from authlib.oauth2.base import OAuth2Error
from authlib.oauth2.client import OAuth2Client

from fleetward.base.db import Database
from fleetward.features.access.http import pages_router
from fleetward.features.access.http.oauth import DEVICE_GRANT
from fleetward.features.access.store import device_codes
from support.access import PASSWORD, AccessHouse, Browser, make_house
from support.asgi import AsgiClient
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
    began = house.begin_device_code("fleetward of ada on laptop")
    assert began["verification_uri_complete"] == f"https://localhost/activate?code={began['user_code']}"
    first = house.poll_device_code(began)
    assert (first.status_code, first.json()["error"]) == (400, "authorization_pending")
    assert house.poll_device_code(began).json()["error"] == "slow_down"
    shown = ada.get(f"/device-codes/{began['user_code'].lower()}").json()
    assert (shown["client"], shown["address"]) == ("fleetward of ada on laptop", "127.0.0.1")
    assert (shown["may"], shown["token_name"], shown["lifetime"]) == (None, None, "12h")
    assert ada.post(f"/device-codes/{began['user_code']}/approve").status_code == 204
    clock.advance(timedelta(seconds=10))
    answer = house.poll_device_code(began)
    assert (answer.headers["cache-control"], answer.headers["pragma"]) == ("no-store", "no-cache")
    token = answer.json()
    assert (token["operator"], token["token_type"], token["expires_in"]) == ("ada", "Bearer", 12 * 3600)
    assert token["access_token"].startswith("fwc_")
    assert with_token(house, token["access_token"], "GET", "/operators") == 200
    assert house.poll_device_code(began).json()["error"] == "expired_token"


def test_where_a_program_asks_from_is_shown_beside_where_one_is(house: AccessHouse) -> None:
    ada, _ = house.first_operator()
    far = house.oauth("device_authorization", "192.0.2.9", client_id="cli").json()["user_code"]
    near = house.begin_device_code()["user_code"]
    shown = [ada.get(f"/device-codes/{code}").json() for code in (far, near)]
    assert [(one["address"], one["is_near"]) for one in shown] == [("192.0.2.9", False), ("127.0.0.1", True)]


INVITE = {"name": "eve", "grants": [{"role": "viewer", "group": "*"}]}


def test_a_command_line_acts_dangerously_only_just_after_it_was_approved(
    house: AccessHouse, clock: ManualClock
) -> None:
    ada, _ = house.first_operator()
    token = sign_in_cli(house, ada)
    assert with_token(house, token, "POST", "/operators/invitations", INVITE) == 201
    clock.advance(timedelta(minutes=6))
    assert with_token(house, token, "POST", "/operators/invitations", INVITE) == 403
    assert with_token(house, token, "GET", "/tokens") == 200
    clock.advance(timedelta(hours=12))
    assert with_token(house, token, "GET", "/tokens") == 401


def test_freshness_counts_from_the_approval_whenever_the_token_is_fetched(
    house: AccessHouse, clock: ManualClock
) -> None:
    ada, _ = house.first_operator()
    began = house.begin_device_code()
    ada.post(f"/device-codes/{began['user_code']}/approve")
    clock.advance(timedelta(minutes=5, seconds=1))
    token = house.poll_device_code(began).json()["access_token"]
    assert with_token(house, token, "POST", "/operators/invitations", INVITE) == 403
    assert with_token(house, token, "GET", "/operators") == 200


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/me/passkeys/begin"),
        ("POST", "/me/passkeys/finish"),
        ("DELETE", "/me/passkeys/p"),
        ("POST", "/me/password"),
        ("POST", "/me/totp/begin"),
        ("POST", "/me/totp/finish"),
        ("POST", "/me/recovery-codes"),
        ("POST", "/tokens"),
        ("POST", "/device-codes/BCDF-GHJK/approve"),
    ],
)
def test_a_phished_code_is_no_way_in_that_stays(house: AccessHouse, method: str, path: str) -> None:
    """However fresh its approval: what outlives a command line's token is made in a browser alone."""
    ada, _ = house.first_operator()
    headers = {"Authorization": f"Bearer {sign_in_cli(house, ada)}"}
    body = {
        "/tokens": {"name": "ci", "scopes": ["device.read"]},
        "/me/password": {"password": PASSWORD},
        "/me/passkeys/finish": {"challenge_id": "x", "credential": {}},
        "/me/totp/finish": {"challenge_id": "x", "code": "123456"},
    }.get(path)
    refused = house.client.request(method, f"/api/v1{path}", headers=headers, json=body)
    assert (refused.status_code, refused.json()["code"]) == (403, "browser_required")


def test_signing_a_command_line_out_revokes_its_token(house: AccessHouse) -> None:
    ada, _ = house.first_operator()
    token = sign_in_cli(house, ada)
    assert with_token(house, token, "POST", "/signout") == 204
    assert with_token(house, token, "GET", "/me") == 401


def test_a_denied_or_late_sign_in_gets_no_token(house: AccessHouse, clock: ManualClock) -> None:
    ada, _ = house.first_operator()
    denied = house.begin_device_code()
    assert ada.post(f"/device-codes/{denied['user_code']}/deny").status_code == 204
    answer = house.poll_device_code(denied)
    assert (answer.status_code, answer.json()["error"]) == (400, "access_denied")
    late = house.begin_device_code()
    clock.advance(timedelta(minutes=10))
    assert ada.post(f"/device-codes/{late['user_code']}/approve").json()["code"] == "step_up_required"
    house.step_up(ada)
    assert ada.post(f"/device-codes/{late['user_code']}/approve").status_code == 404
    assert house.poll_device_code(late).json()["error"] == "expired_token"


def test_approval_needs_a_persons_session_of_their_own(house: AccessHouse) -> None:
    ada, _ = house.first_operator()
    path = f"/device-codes/{house.begin_device_code()['user_code']}/approve"
    assert house.browser().post(path).status_code == 401
    _, token = make_token(ada, "operator.read")
    assert with_token(house, token, "POST", path) == 403


def test_a_program_is_given_a_token_of_its_own_where_that_was_approved(house: AccessHouse) -> None:
    ada, _ = house.first_operator()
    began = house.begin_device_code(token_name="ci", scope="device.read model.read", token_lifetime="7d")
    shown = ada.get(f"/device-codes/{began['user_code']}").json()
    assert shown["may"] == ["device.read", "model.read"]
    assert (shown["token_name"], shown["lifetime"]) == ("ci", "7d")
    ada.post(f"/device-codes/{began['user_code']}/approve")
    made = house.poll_device_code(began).json()
    assert made["access_token"].startswith("fwt_")
    assert (made["scope"], made["name"], made["expires_in"]) == ("device.read model.read", "ci", 7 * 86_400)
    assert [one["id"] for one in ada.get("/tokens").json()] == [made["id"]]
    assert with_token(house, made["access_token"], "GET", "/operators") == 403


def test_a_command_line_may_ask_for_less_than_its_operator_may(house: AccessHouse) -> None:
    ada, _ = house.first_operator()
    began = house.begin_device_code(scope="operator.read")
    ada.post(f"/device-codes/{began['user_code']}/approve")
    token = house.poll_device_code(began).json()
    assert (token["access_token"][:4], token["scope"]) == ("fwc_", "operator.read")
    assert with_token(house, token["access_token"], "GET", "/operators") == 200
    assert with_token(house, token["access_token"], "GET", "/tokens") == 403


def test_who_may_make_no_tokens_approves_none(house: AccessHouse) -> None:
    ada, _ = house.first_operator()
    bob = house.join_by_passkey(house.invite(ada, "bob"))
    began = house.begin_device_code(token_name="ci", scope="device.read")
    refused = bob.post(f"/device-codes/{began['user_code']}/approve")
    assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")
    plain = house.begin_device_code()
    assert bob.post(f"/device-codes/{plain['user_code']}/approve").status_code == 204


@pytest.mark.parametrize(
    ("path", "fields", "error"),
    [
        ("device_authorization", {}, "invalid_request"),
        ("device_authorization", {"client_id": ""}, "invalid_request"),
        ("device_authorization", {"client_id": "c", "scope": "everything"}, "invalid_scope"),
        ("device_authorization", {"client_id": "c", "token_name": "ci"}, "invalid_scope"),
        ("device_authorization", {"client_id": "c", "scope": "device.read", "token_name": "\n"},
         "invalid_request"),
        ("device_authorization",
         {"client_id": "c", "scope": "device.read", "token_name": "ci", "token_lifetime": "91d"},
         "invalid_request"),
        ("device_authorization", {"client_id": "c" * 4097}, "invalid_request"),
        ("device_authorization", {f"f{number}": "1" for number in range(33)}, "invalid_request"),
        ("token", {}, "invalid_request"),
        ("token", {"grant_type": "password", "username": "ada"}, "unsupported_grant_type"),
        ("token", {"grant_type": DEVICE_GRANT, "client_id": "c"}, "invalid_request"),
        ("token", {"grant_type": DEVICE_GRANT, "device_code": "x"}, "invalid_request"),
        ("token", {"grant_type": DEVICE_GRANT, "device_code": "x" * 43, "client_id": "c"}, "expired_token"),
    ],
)  # fmt: skip
def test_errors_are_those_of_rfc_6749(
    house: AccessHouse, path: str, fields: dict[str, str], error: str
) -> None:
    answer = house.oauth(path, **fields)
    assert (answer.status_code, answer.json()["error"]) == (400, error)
    assert answer.headers["cache-control"] == "no-store"
    assert set(answer.json()) == {"error", "error_description"}
    assert re.fullmatch(r"[\x20-\x21\x23-\x5b\x5d-\x7e]+", answer.json()["error_description"])


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b'{"client_id": "c"}', "application/json"),
        (b"client_id=c&client_id=d", "application/x-www-form-urlencoded"),
        (b"client_id=%ff", "application/x-www-form-urlencoded"),
        (b"client_id=\xff", "application/x-www-form-urlencoded"),
    ],
)
def test_what_is_no_form_is_refused(house: AccessHouse, content: bytes, kind: str) -> None:
    answer = house.client.post(
        "/api/v1/oauth/device_authorization", content=content, headers={"Content-Type": kind}
    )
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")


def test_a_code_is_its_own_clients(house: AccessHouse) -> None:
    ada, _ = house.first_operator()
    began = house.begin_device_code("cli")
    ada.post(f"/device-codes/{began['user_code']}/approve")
    assert house.poll_device_code({**began, "client_id": "other"}).json()["error"] == "expired_token"
    assert house.poll_device_code(began).status_code == 200


class Wire:
    """What carries an OAuth client's requests; how it proves itself goes into the body before."""

    def __init__(self, client: AsgiClient) -> None:
        self._client = client

    def post(self, url: str, *, auth: object, **more: Any) -> httpx.Response:
        del auth
        return self._client.post(url, **more)


def test_an_ordinary_oauth_client_gets_a_token(house: AccessHouse, clock: ManualClock) -> None:
    """Authlib, which knows nothing of us but the address."""
    ada, _ = house.first_operator()
    began = house.begin_device_code("tool")
    url = "https://localhost/api/v1/oauth/token"
    asked = {"grant_type": DEVICE_GRANT, "device_code": began["device_code"], "client_id": "tool"}
    client = OAuth2Client(Wire(house.client), "tool", token_endpoint_auth_method="none")
    with pytest.raises(OAuth2Error, match="authorization_pending"):
        client.fetch_token(url, **asked)
    ada.post(f"/device-codes/{began['user_code']}/approve")
    clock.advance(timedelta(seconds=3))
    token = client.fetch_token(url, **asked)
    assert token["token_type"] == "Bearer"
    assert with_token(house, token["access_token"], "GET", "/me") == 200


def test_the_server_describes_itself_as_rfc_8414_says(house: AccessHouse) -> None:
    house.app.include_router(pages_router)
    found = house.client.get("/.well-known/oauth-authorization-server").json()
    assert found["issuer"] == "https://localhost"
    assert found["token_endpoint"] == "https://localhost/api/v1/oauth/token"
    assert found["device_authorization_endpoint"] == "https://localhost/api/v1/oauth/device_authorization"
    assert found["grant_types_supported"] == [DEVICE_GRANT]
    assert "device.read" in found["scopes_supported"]


def test_strangers_cannot_begin_sign_ins_without_end(house: AccessHouse) -> None:
    """Of one network: of an IPv6 address, its /64."""

    def begin(address: str) -> int:
        return house.oauth("device_authorization", address, client_id="c").status_code

    assert [begin(f"2001:db8::{number:x}") for number in range(12)] == [200] * 10 + [429] * 2
    assert begin("2001:db8:0:1::1") == 200, "the network beside it"
    refused = house.oauth("device_authorization", "2001:db8::1", client_id="c")
    assert refused.headers["retry-after"] == "60"
    assert refused.json()["error"] == "temporarily_unavailable"


def test_no_number_of_strangers_holds_an_honest_one_out(
    house: AccessHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When all have too many, the oldest of whoever has most gives way."""
    monkeypatch.setattr("fleetward.features.access.service.device_codes._MAX_PENDING", 12)
    ada, _ = house.first_operator()
    honest = house.begin_device_code()
    for network in range(6):
        for _ in range(10):
            answer = house.oauth("device_authorization", f"10.0.{network}.1", client_id="c")
            assert answer.status_code in (200, 429)
    with house.db.read() as tx:
        assert device_codes.count_pending(tx) == 12
    assert ada.post(f"/device-codes/{honest['user_code']}/approve").status_code == 204
    assert house.poll_device_code(honest).status_code == 200


def test_what_a_program_calls_itself_is_cut_and_cleaned(house: AccessHouse) -> None:
    ada, _ = house.first_operator()
    began = house.begin_device_code("cli\x1b[31m\n")
    assert ada.get(f"/device-codes/{began['user_code']}").json()["client"] == "cli[31m"
    assert house.poll_device_code(began).json()["error"] == "authorization_pending"


def sign_in_cli(house: AccessHouse, approver: Browser) -> str:
    began = house.begin_device_code()
    assert approver.post(f"/device-codes/{began['user_code']}/approve").status_code == 204
    return str(house.poll_device_code(began).json()["access_token"])
