"""Every route of access that changes something leaves an audit entry that names who caused it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pyotp
import pytest
from fastapi.routing import iter_route_contexts

from fleetward.base.clock import SystemClock
from fleetward.base.db import Database
from fleetward.features.access.http import router
from fleetward.features.audit import service as audit
from fleetward.migrations.runner import migrate
from support.access import LOCAL, PASSWORD, AccessHouse, Browser, make_house
from support.database import open_database

# These ask, or begin what a second request finishes.
ASK = {
    ("POST", "/setup/begin"),
    ("POST", "/signin/invitation/begin"),
    ("POST", "/signin/passkey/begin"),
    ("POST", "/oauth/device_authorization"),
    ("POST", "/me/step-up/begin"),
    ("POST", "/me/passkeys/begin"),
    ("POST", "/me/totp/begin"),
}
Call = Callable[[AccessHouse, Browser], httpx.Response]


def create_link(house: AccessHouse, _ada: Browser) -> httpx.Response:
    fresh = make_house(empty_database(house), Path(house.db.engine.url.database or "").parent)
    made = fresh.client.post("/api/v1/setup/link", headers=LOCAL)
    assert actions(fresh) == [("operator:admin", "access.setup_link_created")]
    fresh.db.close()
    return made


def answer_passkey(begin: str, finish: str) -> Call:
    def call(_house: AccessHouse, ada: Browser) -> httpx.Response:
        asked = ada.post(begin).json()
        answer = ada.authenticator.get(asked["options"])
        return ada.post(finish, {"challenge_id": asked["challenge_id"], "credential": answer})

    return call


def by_password(house: AccessHouse, ada: Browser) -> httpx.Response:
    bob, totp, _ = house.join_by_password(house.invite(ada, "bob"))
    with house.db.write("system:test") as tx:
        tx.conn.exec_driver_sql("UPDATE access_totp SET last_step = 0")
    body = {"name": "bob", "password": PASSWORD, "totp": house.code(totp)}
    return bob.post("/signin/password", body)


def by_recovery_code(house: AccessHouse, ada: Browser) -> httpx.Response:
    codes = ada.post("/me/recovery-codes").json()["recovery_codes"]
    return house.browser().post("/signin/recovery", {"name": "ada", "code": codes[0]})


def accept(house: AccessHouse, ada: Browser) -> httpx.Response:
    browser, token = house.browser(), house.invite(ada, "bob")
    offer = browser.post("/signin/invitation/begin", {"token": token}).json()
    passkey = browser.authenticator.create(offer["webauthn"])
    return browser.post("/signin/invitation/finish", {"token": token, "passkey": passkey})


def add_passkey(_house: AccessHouse, ada: Browser) -> httpx.Response:
    asked = ada.post("/me/passkeys/begin").json()
    answer = ada.authenticator.create(asked["options"])
    return ada.post("/me/passkeys/finish", {"challenge_id": asked["challenge_id"], "credential": answer})


def remove_passkey(house: AccessHouse, ada: Browser) -> httpx.Response:
    return ada.delete(f"/me/passkeys/{add_passkey(house, ada).json()['id']}")


def add_totp(house: AccessHouse, ada: Browser) -> httpx.Response:
    asked = ada.post("/me/totp/begin").json()
    code = house.code(pyotp.TOTP(asked["totp"]["secret"]))
    return ada.post("/me/totp/finish", {"challenge_id": asked["challenge_id"], "code": code})


def answer_code(verb: str) -> Call:
    def call(house: AccessHouse, ada: Browser) -> httpx.Response:
        began = house.begin_device_code()
        return ada.post(f"/device-codes/{began['user_code']}/{verb}")

    return call


def redeem_code(house: AccessHouse, ada: Browser) -> httpx.Response:
    began = house.begin_device_code()
    ada.post(f"/device-codes/{began['user_code']}/approve")
    return house.poll_device_code(began)


def create_token(_house: AccessHouse, ada: Browser) -> httpx.Response:
    return ada.post("/tokens", {"name": "ci", "scopes": ["device.read"]})


def revoke_token(house: AccessHouse, ada: Browser) -> httpx.Response:
    return ada.delete(f"/tokens/{create_token(house, ada).json()['id']}")


def end_session(_house: AccessHouse, ada: Browser) -> httpx.Response:
    return ada.delete(f"/me/sessions/{ada.get('/me').json()['session']['id']}")


def on_bob(method: str, path: str) -> Call:
    def call(house: AccessHouse, ada: Browser) -> httpx.Response:
        bob = house.join_by_passkey(house.invite(ada, "bob"))
        if path.endswith("enable"):
            ada.post("/operators/bob/disable", {})
        session = bob.get("/me").json().get("session") or {}
        return ada.ask(method, path.format(session=session.get("id")), {} if method == "POST" else None)

    return call


def invite(_house: AccessHouse, ada: Browser) -> httpx.Response:
    return ada.post("/operators/invitations", {"name": "carl", "grants": [{"role": "viewer"}]})


def give_to_bob(house: AccessHouse, ada: Browser) -> httpx.Response:
    house.join_by_passkey(house.invite(ada, "bob"))
    return ada.post("/operators/bob/grants", {"role": "viewer", "group": "lobby"})


def take_from_bob(house: AccessHouse, ada: Browser) -> httpx.Response:
    give_to_bob(house, ada)
    grants = ada.get("/operators/bob").json()["grants"]
    return ada.delete(f"/operators/bob/grants/{grants[0]['id']}")


def start_review(_house: AccessHouse, ada: Browser) -> httpx.Response:
    return ada.post("/reviews", {"title": "Spring"})


def decide(house: AccessHouse, ada: Browser) -> httpx.Response:
    review = start_review(house, ada).json()["id"]
    item = ada.get(f"/reviews/{review}").json()["items"][0]
    return ada.post(f"/reviews/{review}/items/{item['grant_id']}", {"decision": "keep", "note": "in use"})


def close_review(house: AccessHouse, ada: Browser) -> httpx.Response:
    decide(house, ada)
    return ada.post(f"/reviews/{ada.get('/reviews').json()[0]['id']}/close")


def ask_for_glass(_house: AccessHouse, ada: Browser) -> httpx.Response:
    return ada.post("/break-glass", {"reason": "cameras stream to a stranger"})


def with_officer(*verbs: str) -> Call:
    """Ada asks; Bob, a security officer, approves; then the verbs."""

    def call(house: AccessHouse, ada: Browser) -> httpx.Response:
        bob = house.join_by_passkey(house.invite(ada, "bob", {"role": "security-officer"}))
        glass = f"/break-glass/{ask_for_glass(house, ada).json()['id']}"
        answer = bob.post(f"{glass}/approve")
        if "end" in verbs:
            answer = ada.post(f"{glass}/end")
        if "review" in verbs:
            answer = bob.post(f"{glass}/review", {"findings": "nothing else was touched"})
        return answer

    return call


CALLS: dict[tuple[str, str], Call] = {
    ("POST", "/setup/link"): create_link,
    ("POST", "/signin/invitation/finish"): accept,
    ("POST", "/signin/passkey/finish"): answer_passkey("/signin/passkey/begin", "/signin/passkey/finish"),
    ("POST", "/signin/password"): by_password,
    ("POST", "/signin/recovery"): by_recovery_code,
    ("POST", "/oauth/token"): redeem_code,
    ("POST", "/signout"): lambda _house, ada: ada.post("/signout"),
    ("POST", "/me/step-up/finish"): answer_passkey("/me/step-up/begin", "/me/step-up/finish"),
    ("POST", "/me/passkeys/finish"): add_passkey,
    ("DELETE", "/me/passkeys/{passkey_id}"): remove_passkey,
    ("POST", "/me/password"): lambda _house, ada: ada.post("/me/password", {"password": PASSWORD}),
    ("POST", "/me/totp/finish"): add_totp,
    ("POST", "/me/recovery-codes"): lambda _house, ada: ada.post("/me/recovery-codes"),
    ("DELETE", "/me/sessions/{session_id}"): end_session,
    ("POST", "/device-codes/{user_code}/approve"): answer_code("approve"),
    ("POST", "/device-codes/{user_code}/deny"): answer_code("deny"),
    ("POST", "/tokens"): create_token,
    ("DELETE", "/tokens/{token_id}"): revoke_token,
    ("POST", "/operators/invitations"): invite,
    ("POST", "/operators/{name}/disable"): on_bob("POST", "/operators/bob/disable"),
    ("POST", "/operators/{name}/enable"): on_bob("POST", "/operators/bob/enable"),
    ("POST", "/operators/{name}/recover"): on_bob("POST", "/operators/bob/recover"),
    ("DELETE", "/operators/{name}/sessions"): on_bob("DELETE", "/operators/bob/sessions"),
    ("DELETE", "/operators/{name}/sessions/{session_id}"): on_bob(
        "DELETE", "/operators/bob/sessions/{session}"
    ),
    ("POST", "/operators/{name}/grants"): give_to_bob,
    ("DELETE", "/operators/{name}/grants/{grant_id}"): take_from_bob,
    ("POST", "/reviews"): start_review,
    ("POST", "/reviews/{review_id}/items/{grant_id}"): decide,
    ("POST", "/reviews/{review_id}/close"): close_review,
    ("POST", "/break-glass"): ask_for_glass,
    ("POST", "/break-glass/{glass_id}/approve"): with_officer(),
    ("POST", "/break-glass/{glass_id}/end"): with_officer("end"),
    ("POST", "/break-glass/{glass_id}/review"): with_officer("end", "review"),
}
BY_BOB = (
    ("POST", "/signin/invitation/finish"),
    ("POST", "/signin/password"),
    ("POST", "/break-glass/{glass_id}/approve"),
    ("POST", "/break-glass/{glass_id}/review"),
)


def empty_database(house: AccessHouse) -> Database:
    folder = Path(house.db.engine.url.database or "").parent
    db = open_database(f"sqlite:///{folder / 'empty.sqlite3'}", SystemClock())
    migrate(db)
    return db


def actions(house: AccessHouse, after: int = -1) -> list[tuple[str, str]]:
    with house.db.read() as tx:
        return [(entry.actor, entry.action) for entry, _ in audit.search(tx, after=after)]


@pytest.fixture
def house(tmp_path: Path) -> Any:
    db = open_database(f"sqlite:///{tmp_path / 'db.sqlite3'}", SystemClock())
    migrate(db)
    yield make_house(db, tmp_path)
    db.close()


def test_every_changing_route_of_access_is_listed_here() -> None:
    found = {(m, str(one.path)) for one in iter_route_contexts(router.routes) for m in one.methods or ()}
    changing = {(method, path) for method, path in found if method not in {"GET", "HEAD", "OPTIONS"}}
    assert changing - ASK == set(CALLS) | {("POST", "/setup/finish")}


@pytest.mark.parametrize("route", CALLS, ids=" ".join)
def test_a_change_is_audited_under_its_actor(house: AccessHouse, route: tuple[str, str]) -> None:
    ada, _ = house.first_operator()
    before = actions(house)
    answer = CALLS[route](house, ada)
    assert answer.status_code in (200, 201, 204), answer.text
    if route != ("POST", "/setup/link"):
        who = "operator:bob" if route in BY_BOB else "operator:ada"
        added = actions(house)[len(before) :]
        assert added
        assert added[-1][0] == who, added


def test_setting_up_is_audited_under_who_came_in(house: AccessHouse) -> None:
    house.first_operator()
    assert ("operator:ada", "access.session_opened") in actions(house)
