"""Operators' sign-in in an app of its own: the real routes and services, and a browser that keeps cookies."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pyotp
from argon2 import PasswordHasher
from fastapi import FastAPI

from fleetward.base.db import Database
from fleetward.base.events import Event, list_events
from fleetward.base.web import BodyLimit, Edge, add_error_handlers
from fleetward.features.access.context import AccessContext, SingleSignOn, new_password_checks
from fleetward.features.access.http import router
from fleetward.features.access.http.oauth import DEVICE_GRANT
from fleetward.features.access.model.passwords import Passwords
from fleetward.features.access.service import signing_up
from fleetward.features.access.service.authenticating import OperatorAuthenticator
from fleetward.features.access.service.authorize import Decider, load_policies
from fleetward.features.access.service.identifying import Identifier
from fleetward.features.access.service.keys import ensure_sealer, load_common_passwords
from fleetward.features.devices import service as devices
from fleetward.programs.server.doors import CATALOGUE
from support.asgi import AsgiClient
from support.authenticator import SoftAuthenticator
from support.clock import ManualClock

ORIGIN = "https://localhost"
LOCAL_TOKEN = "local-token-of-the-tests-0123456789"
LOCAL = {"Authorization": f"Bearer {LOCAL_TOKEN}"}
PASSWORD = "correct horse battery staple 42"
COOKIE = "__Host-fleetward"
# Cheap on purpose: what argon2 costs is not what these tests ask.
QUICK = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)


@dataclass
class Browser:
    """One browser: cookies, the CSRF token it was told, and an authenticator."""

    client: AsgiClient
    authenticator: SoftAuthenticator
    origin: str = ORIGIN
    cookies: dict[str, str] = field(default_factory=dict)
    csrf: str = ""

    def ask(self, method: str, path: str, body: object = None, **more: Any) -> httpx.Response:
        headers = {"Origin": self.origin, "Sec-Fetch-Site": "same-origin", **more.pop("headers", {})}
        if self.csrf:
            headers.setdefault("X-Fleetward-CSRF", self.csrf)
        if self.cookies:
            headers["Cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        answer = self.client.request(method, f"/api/v1{path}", json=body, headers=headers, **more)
        for name, value in answer.cookies.items():
            self.cookies[name] = value
        self._forget_deleted(answer)
        return answer

    def get(self, path: str, **more: Any) -> httpx.Response:
        return self.ask("GET", path, **more)

    def post(self, path: str, body: object = None, **more: Any) -> httpx.Response:
        return self.ask("POST", path, body, **more)

    def delete(self, path: str, **more: Any) -> httpx.Response:
        return self.ask("DELETE", path, **more)

    def keep(self, answer: httpx.Response) -> Any:
        """Return the JSON of a sign-in and remember its CSRF token."""
        assert answer.status_code in (200, 201), answer.text
        body = answer.json()
        self.csrf = body["csrf"]
        return body

    def _forget_deleted(self, answer: httpx.Response) -> None:
        for header in answer.headers.get_list("set-cookie"):
            name, _, rest = header.partition("=")
            if "Max-Age=0" in rest:
                self.cookies.pop(name, None)


@dataclass
class AccessHouse:
    """The app, its database, and shortcuts through it."""

    app: FastAPI
    db: Database
    ctx: AccessContext

    @property
    def client(self) -> AsgiClient:
        return AsgiClient(self.app)

    def browser(self, authenticator: SoftAuthenticator | None = None) -> Browser:
        origin = self.ctx.console
        return Browser(self.client, authenticator or SoftAuthenticator(origin), origin)

    def setup_token(self) -> str:
        with self.db.write("operator:admin") as tx:
            return signing_up.create_setup_link(tx, self.ctx).url.partition("#")[2]

    def first_operator(self, name: str = "ada") -> tuple[Browser, list[str]]:
        """Set the platform up by a passkey; return the signed-in browser and the recovery codes."""
        browser = self.browser()
        who = {"token": self.setup_token(), "name": name, "display_name": name.title()}
        offer = browser.post("/setup/begin", who).json()
        passkey = browser.authenticator.create(offer["webauthn"])
        done = browser.keep(browser.post("/setup/finish", {**who, "passkey": passkey}))
        return browser, done["recovery_codes"]

    def invite(self, administrator: Browser, name: str, *grants: dict[str, str]) -> str:
        """Return the token of an invitation."""
        answer = administrator.post("/operators/invitations", {"name": name, "grants": list(grants)})
        assert answer.status_code == 201, answer.text
        return str(answer.json()["link"]).partition("#")[2]

    def join_by_password(self, token: str, password: str = PASSWORD) -> tuple[Browser, pyotp.TOTP, list[str]]:
        """Accept an invitation by password and code app."""
        browser = self.browser()
        offer = browser.post("/signin/invitation/begin", {"token": token}).json()
        totp = pyotp.TOTP(offer["totp"]["secret"])
        body = {"token": token, "password": password, "totp_code": self.code(totp)}
        done = browser.keep(browser.post("/signin/invitation/finish", body))
        return browser, totp, done["recovery_codes"]

    def join_by_passkey(self, token: str) -> Browser:
        browser = self.browser()
        offer = browser.post("/signin/invitation/begin", {"token": token}).json()
        passkey = browser.authenticator.create(offer["webauthn"])
        browser.keep(browser.post("/signin/invitation/finish", {"token": token, "passkey": passkey}))
        return browser

    def sign_in(self, browser: Browser) -> Any:
        """Sign in by the browser's passkey."""
        asked = browser.post("/signin/passkey/begin").json()
        answer = browser.authenticator.get(asked["options"])
        body = {"challenge_id": asked["challenge_id"], "credential": answer}
        return browser.keep(browser.post("/signin/passkey/finish", body))

    def step_up(self, browser: Browser) -> Any:
        asked = browser.post("/me/step-up/begin").json()
        answer = browser.authenticator.get(asked["options"])
        body = {"challenge_id": asked["challenge_id"], "credential": answer}
        return browser.keep(browser.post("/me/step-up/finish", body))

    def oauth(self, path: str, address: str = "127.0.0.1", **fields: str) -> httpx.Response:
        """Post a form as OAuth clients do."""
        return self.client.at(address).post(f"/api/v1/oauth/{path}", data=fields)

    def begin_device_code(self, client: str = "cli", **more: str) -> Any:
        """Return what a program that asks to be let in is told."""
        answer = self.oauth("device_authorization", client_id=client, **more)
        assert answer.status_code == 200, answer.text
        return {**answer.json(), "client_id": client}

    def poll_device_code(self, began: Any) -> httpx.Response:
        """Ask for the token of a sign-in that began."""
        return self.oauth(
            "token", grant_type=DEVICE_GRANT, device_code=began["device_code"], client_id=began["client_id"]
        )

    def code(self, totp: pyotp.TOTP) -> str:
        """Return the app's present code."""
        return totp.at(self.db.clock.now())

    def events(self, kind: str) -> list[Event]:
        with self.db.read() as tx:
            return [event for event in list_events(tx) if event.kind == kind]

    def pass_time(self, clock: ManualClock, **duration: float) -> None:
        clock.advance(timedelta(**duration))


def make_access(folder: Path, *, sso: SingleSignOn | None = None) -> AccessContext:
    folder.mkdir(exist_ok=True)
    return AccessContext(
        console=ORIGIN,
        rp_id="localhost",
        origins=frozenset({ORIGIN}),
        idle=timedelta(minutes=30),
        absolute=timedelta(hours=8),
        sealer=ensure_sealer(folder),
        passwords=Passwords(QUICK),
        password_checks=new_password_checks(),
        common_passwords=load_common_passwords(),
        decider=Decider(load_policies(CATALOGUE), devices),
        sso=sso,
    )


def make_house(db: Database, folder: Path, *, sso: SingleSignOn | None = None) -> AccessHouse:
    """Return the routes of access over `db`; the policies decide."""
    ctx = make_access(folder / "keys", sso=sso)
    app = FastAPI()
    add_error_handlers(app)
    app.add_middleware(BodyLimit, default_bytes=64 * 1024)
    identifier = Identifier(db, ctx, LOCAL_TOKEN)
    app.state.access = ctx
    app.state.edge = Edge(db, OperatorAuthenticator(db, identifier, ctx.decider.decide))
    app.include_router(router, prefix="/api/v1")
    return AccessHouse(app, db, ctx)


@contextmanager
def counting(house: AccessHouse) -> Iterator[list[str | None]]:
    """Yield the list of kept hashes that argon2 was run over inside the block."""
    seen: list[str | None] = []

    class Counting(Passwords):
        def verify(self, kept: str | None, password: str) -> bool:
            seen.append(kept)
            return super().verify(kept, password)

    before = house.ctx
    house.app.state.access = replace(before, passwords=Counting(QUICK))
    yield seen
    house.app.state.access = before
