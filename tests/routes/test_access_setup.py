"""How the first operator and invited ones come in."""

from datetime import timedelta
from pathlib import Path

import pyotp
import pytest

from fleetward.base.db import Database
from support.access import LOCAL, PASSWORD, AccessHouse, make_house
from support.clock import ManualClock


@pytest.fixture
def house(db: Database, tmp_path: Path) -> AccessHouse:
    return make_house(db, tmp_path)


def test_the_setup_link_leads_to_a_passkey_recovery_codes_and_a_session(house: AccessHouse) -> None:
    assert house.client.get("/api/v1/setup").json() == {"open": True}
    browser, codes = house.first_operator()
    assert len(set(codes)) == 10
    me = browser.get("/me").json()
    assert (me["name"], me["display_name"], me["via"]) == ("ada", "Ada", "session")
    assert [(one["role"], one["group"]) for one in me["grants"]] == [("administrator", "*")]
    assert me["factors"] == {"passkeys": 1, "totp": False, "password": False, "recovery_codes_left": 10}
    assert house.client.get("/api/v1/setup").json() == {"open": False}


def test_the_first_operator_may_use_a_password_and_a_code_instead(house: AccessHouse) -> None:
    browser = house.browser()
    who = {"token": house.setup_token(), "name": "ada", "display_name": ""}
    offer = browser.post("/setup/begin", who).json()
    assert offer["password_rules"] == {"min_length": 15, "min_score": 4}
    assert offer["totp"]["qr_svg"].startswith("<svg")
    assert offer["totp"]["secret"] in offer["totp"]["uri"]
    code = house.code(pyotp.TOTP(offer["totp"]["secret"]))
    answer = browser.post("/setup/finish", {**who, "password": PASSWORD, "totp_code": code})
    assert answer.status_code == 201
    assert "Secure" in (cookie := answer.headers["set-cookie"])
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert cookie.startswith("__Host-fleetward=")
    assert "Domain" not in cookie


@pytest.mark.parametrize(
    "factors",
    [{}, {"password": PASSWORD}, {"totp_code": "123456"}, {"password": PASSWORD, "totp_code": "000000"}],
)
def test_a_password_alone_is_not_enough_to_come_in(house: AccessHouse, factors: dict[str, str]) -> None:
    browser = house.browser()
    who = {"token": house.setup_token(), "name": "ada"}
    browser.post("/setup/begin", who)
    answer = browser.post("/setup/finish", {**who, **factors})
    assert answer.status_code == 400
    assert house.client.get("/api/v1/setup").json() == {"open": True}


def test_a_setup_link_expires_after_thirty_minutes(house: AccessHouse, clock: ManualClock) -> None:
    who = {"token": house.setup_token(), "name": "ada"}
    clock.advance(timedelta(minutes=29))
    assert house.browser().post("/setup/begin", who).status_code == 200
    clock.advance(timedelta(minutes=1))
    assert house.browser().post("/setup/begin", who).status_code == 404


def test_a_newer_setup_link_voids_the_older(house: AccessHouse) -> None:
    older, newer = house.setup_token(), house.setup_token()
    assert house.browser().post("/setup/begin", {"token": older, "name": "ada"}).status_code == 404
    assert house.browser().post("/setup/begin", {"token": newer, "name": "ada"}).status_code == 200


def test_setup_is_void_once_an_operator_exists(house: AccessHouse) -> None:
    token = house.setup_token()
    browser = house.browser()
    who = {"token": token, "name": "ada"}
    offer = browser.post("/setup/begin", who).json()
    passkey = browser.authenticator.create(offer["webauthn"])
    assert browser.post("/setup/finish", {**who, "passkey": passkey}).status_code == 201
    eve = {"token": token, "name": "eve"}
    for path, body in (("/setup/begin", eve), ("/setup/finish", {**eve, "passkey": passkey})):
        assert house.browser().post(path, body).status_code == 404
    refused = house.client.post("/api/v1/setup/link", headers=LOCAL)
    assert refused.status_code == 409
    assert refused.json()["code"] == "conflict"


def test_the_local_token_prints_a_fresh_link_while_nobody_exists(house: AccessHouse) -> None:
    made = house.client.post("/api/v1/setup/link", headers=LOCAL)
    assert made.status_code == 201
    assert made.json()["link"].startswith("https://localhost/setup#")


@pytest.mark.parametrize("name", ["admin", "Ada", "", "a b", "system", "x" * 65, "a.b"])
def test_a_name_that_does_not_do_is_refused(house: AccessHouse, name: str) -> None:
    answer = house.browser().post("/setup/begin", {"token": house.setup_token(), "name": name})
    assert answer.status_code == 400


def test_factors_belong_to_the_name_they_were_offered_to(house: AccessHouse) -> None:
    browser, token = house.browser(), house.setup_token()
    offer = browser.post("/setup/begin", {"token": token, "name": "ada"}).json()
    passkey = browser.authenticator.create(offer["webauthn"])
    other = browser.post("/setup/finish", {"token": token, "name": "eve", "passkey": passkey})
    assert other.status_code == 400
    assert house.client.get("/api/v1/setup").json() == {"open": True}


def test_a_made_up_link_is_no_link(house: AccessHouse) -> None:
    house.setup_token()
    made_up = {"token": "x" * 43}
    for path, body in (("/setup/begin", {**made_up, "name": "ada"}), ("/signin/invitation/begin", made_up)):
        assert house.browser().post(path, body).status_code == 404


def test_guessed_links_are_told_and_held_back(house: AccessHouse) -> None:
    body = {"token": "x" * 43, "name": "ada"}
    codes = [house.browser().post("/setup/begin", body).status_code for _ in range(33)]
    assert codes[0] == 404
    assert codes[-1] == 429
    assert house.events("access.sign_in_refused")[0].details["method"] == "link"


def test_trying_passwords_out_at_the_link_is_not_held_back(house: AccessHouse) -> None:
    browser, who = house.browser(), {"token": house.setup_token(), "name": "ada"}
    browser.post("/setup/begin", who)
    weak = {**who, "password": "Password123", "totp_code": "000000"}
    assert {browser.post("/setup/finish", weak).json()["code"] for _ in range(35)} == {"weak_password"}


def test_an_invitation_works_once_and_for_a_day(house: AccessHouse, clock: ManualClock) -> None:
    ada, _ = house.first_operator()
    token = house.invite(ada, "bob", {"role": "viewer", "group": "lab"})
    bob = house.join_by_passkey(token)
    assert [(one["role"], one["group"]) for one in bob.get("/me").json()["grants"]] == [("viewer", "lab")]
    assert house.browser().post("/signin/invitation/begin", {"token": token}).status_code == 404
    late = house.invite(ada, "eve")
    clock.advance(timedelta(hours=24))
    assert house.browser().post("/signin/invitation/begin", {"token": late}).status_code == 404


def test_inviting_again_voids_the_first_invitation(house: AccessHouse) -> None:
    ada, _ = house.first_operator()
    first, second = house.invite(ada, "bob"), house.invite(ada, "bob")
    assert house.browser().post("/signin/invitation/begin", {"token": first}).status_code == 404
    house.join_by_passkey(second)
    again = ada.post("/operators/invitations", {"name": "bob"})
    assert again.status_code == 409


def test_an_invitation_does_not_open_the_setup_nor_the_setup_link_an_invitation(house: AccessHouse) -> None:
    setup = house.setup_token()
    assert house.browser().post("/signin/invitation/begin", {"token": setup}).status_code == 404
    ada, _ = house.first_operator()
    token = house.invite(ada, "bob")
    assert house.browser().post("/setup/begin", {"token": token, "name": "bob"}).status_code == 404


def test_a_recovery_link_replaces_every_factor_and_ends_every_session(house: AccessHouse) -> None:
    ada, _ = house.first_operator()
    bob = house.join_by_passkey(house.invite(ada, "bob"))
    made = ada.post("/operators/bob/recover")
    assert made.status_code == 200
    assert [event.severity for event in house.events("operator.recovered")] == ["critical"]
    assert bob.get("/me").status_code == 401
    fresh = house.join_by_passkey(made.json()["link"].partition("#")[2])
    assert fresh.get("/me").json()["factors"]["passkeys"] == 1
    asked = bob.post("/signin/passkey/begin").json()
    body = {"challenge_id": asked["challenge_id"], "credential": bob.authenticator.get(asked["options"])}
    assert bob.post("/signin/passkey/finish", body).status_code == 401


def test_setting_up_is_told_and_audited_without_a_secret(house: AccessHouse, db: Database) -> None:
    browser, codes = house.first_operator()
    assert len(house.events("access.setup_finished")) == 1
    with db.read() as tx:
        texts = [str(row) for row in tx.conn.exec_driver_sql("SELECT details FROM audit_entries")]
        texts += [str(row) for row in tx.conn.exec_driver_sql("SELECT details || message FROM events")]
    secrets = [*codes, browser.csrf, *browser.cookies.values()]
    assert not [secret for secret in secrets for text in texts if secret in text]
