"""Operators at the web console: Debian's Chromium, each with an authenticator of their own."""

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, CDPSession, Page, sync_playwright

from support.broker import wait_for
from support.platform import Platform

PASSWORD = "a mooring line, wet and long"
_ARGUMENTS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip
_AUTHENTICATOR = {
    "protocol": "ctap2",
    "transport": "internal",
    "hasResidentKey": True,
    "hasUserVerification": True,
    "isUserVerified": True,
    "automaticPresenceSimulation": True,
}
_AXE = Path(__file__).parents[2] / "console" / "node_modules" / "axe-core" / "axe.min.js"
_RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


@contextmanager
def chromium() -> Iterator[Browser]:
    """Yield Debian's Chromium, headless."""
    program = shutil.which("chromium")
    if program is None:
        pytest.skip("Chromium is not installed")
    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=program, args=list(_ARGUMENTS))
        yield browser
        browser.close()


@dataclass
class Person:
    """Somebody before a browser.

    Attributes:
        policies: the content security policy of every answer of the platform's; None where one had none.
        complaints: what the browser said against the page, a refused style or script above all.
    """

    platform: Platform
    context: BrowserContext
    page: Page
    devtools: CDPSession
    policies: list[tuple[str, str | None]] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def open(self, path: str) -> Page:
        """Go to a path of the console, from its very beginning."""
        self.page.goto(f"{self.platform.ready['console']}{path}")
        return self.page

    def go(self, path: str) -> Page:
        """Open a path once its heading is there."""
        self.open(path)
        self.page.get_by_role("heading", level=1).wait_for()
        return self.page

    def add_authenticator(self) -> None:
        self.devtools.send("WebAuthn.enable")
        self.devtools.send("WebAuthn.addVirtualAuthenticator", {"options": _AUTHENTICATOR})

    def api(self, path: str) -> Any:
        """Return what the API answers this person's own session."""
        answer = self.context.request.get(f"{self.platform.ready['console']}/api/v1{path}")
        assert answer.ok, answer.text()
        return answer.json()

    def post(self, path: str, body: object) -> None:
        """Do over the API, in this person's own session, what the test needs done before it begins."""
        console = self.platform.ready["console"]
        headers = {"X-Fleetward-CSRF": self.api("/me")["csrf"], "Origin": console}
        answer = self.context.request.post(f"{console}/api/v1{path}", data=body, headers=headers)
        assert answer.ok, answer.text()

    def settle(self) -> None:
        """Wait until nothing on the page loads any more."""
        self.page.wait_for_function("() => document.querySelectorAll('.bars, .device-waits').length === 0")
        self.page.evaluate("() => document.fonts.ready")

    def find_barriers(self) -> list[str]:
        """Return what axe finds against the page: rule, element, why."""
        if not self.page.evaluate("() => 'axe' in window"):
            self.page.evaluate(_AXE.read_text())
        found = self.page.evaluate(
            "(tags) => axe.run(document, { runOnly: { type: 'tag', values: tags } })", _RULES
        )
        return [
            f"{one['id']}: {node['html'][:160]}: {node['failureSummary'][:300]}"
            for one in found["violations"]
            for node in one["nodes"]
        ]


@contextmanager
def person(browser: Browser, platform: Platform, **options: Any) -> Iterator[Person]:
    """Yield somebody new with a fresh browser profile."""
    context = browser.new_context(
        ignore_https_errors=True, viewport={"width": 1440, "height": 900}, reduced_motion="reduce", **options
    )
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    context.set_default_timeout(15_000)
    page = context.new_page()
    found = Person(platform, context, page, context.new_cdp_session(page))
    page.on("response", lambda answer: _note_policy(found, answer.url, answer.headers))
    page.on("console", lambda said: found.complaints.append(said.text) if said.type == "error" else None)
    page.on("pageerror", lambda error: found.complaints.append(str(error)))
    try:
        yield found
    finally:
        context.close()


def _note_policy(found: Person, url: str, headers: dict[str, str]) -> None:
    if url.startswith(found.platform.ready["console"]):
        found.policies.append((url, headers.get("content-security-policy")))


def read_setup_link(platform: Platform) -> str:
    """Return the path, with its fragment, that the platform printed for its first operator."""
    link = r"https://\S+(/setup#\S+)"
    return str(wait_for(lambda: re.findall(link, platform.log.read_text()))[-1])
