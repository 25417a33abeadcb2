"""What all tests of the console play with: a platform, a browser, people who come in by their links."""

import json
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pyotp
from playwright.sync_api import Browser, Page, expect

from fleetward.base.clock import SystemClock
from fleetward.base.layout import DataFolder
from support.browser import PASSWORD, Person, person
from support.fleet import FleetDevice
from support.platform import Platform


def _now_s() -> int:
    return int(SystemClock().now().timestamp())


@dataclass
class Harbour:
    """A platform with a device and a release, and a browser."""

    platform: Platform
    browser: Browser
    folder: Path
    buoy: FleetDevice


@dataclass
class Invited:
    """Somebody who signs in with password and code."""

    name: str
    person: Person
    secret: str
    last_step: int

    def next_code(self) -> str:
        """Return a code that was not used yet; the platform takes each once, and one step ahead of time."""
        otp, step = pyotp.TOTP(self.secret), self.last_step + 1
        self.last_step = max(step, _now_s() // otp.interval)
        while _now_s() // otp.interval < self.last_step - 1:
            time.sleep(0.5)
        return otp.generate_otp(self.last_step)

    def age_proof(self) -> None:
        """Let ten minutes pass since they last proved who they are."""
        age_proof(self.person.platform, self.name)


def age_proof(platform: Platform, operator: str) -> None:
    """Let ten minutes pass since an operator last proved who they are."""
    with closing(sqlite3.connect(DataFolder(platform.data).database, timeout=30)) as db, db:
        ten_minutes_us = 600 * 1_000_000
        db.execute(
            "UPDATE access_sessions SET mfa_at = mfa_at - ? WHERE operator = ?", (ten_minutes_us, operator)
        )


def prove(page: Page, who: Invited) -> None:
    """Give the fresh proof of identity that the page asks for."""
    dialog = page.get_by_role("dialog", name="Is it still you?")
    dialog.get_by_role("textbox", name="Password", exact=True).fill(PASSWORD)
    dialog.get_by_label("Code from your authenticator app").fill(who.next_code())
    dialog.get_by_role("button", name="Confirm with password and code").click()
    expect(dialog).to_be_hidden()


def publish(platform: Platform, version: str) -> None:
    sbom = {"bomFormat": "CycloneDX", "specVersion": "1.6", "version": 1, "components": []}
    fields = {
        "model": "buoy",
        "version": version,
        "sbom": ("sbom.json", json.dumps(sbom).encode(), "application/vnd.cyclonedx+json"),
        "image": ("buoy.img", f"firmware {version}".encode() * 4000, "application/octet-stream"),
    }
    platform.api.post_multipart("/releases", fields)


def invite(ada: Person, name: str, role: str) -> str:
    """Have Ada invite somebody in the console; return the path of the link."""
    page = ada.go("/operators")
    page.get_by_role("button", name="Invite an operator").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("textbox", name="Name", exact=True).fill(name)
    dialog.get_by_role("combobox", name="Role").or_(dialog.get_by_role("textbox", name="Role")).click()
    page.get_by_role("option", name=role, exact=True).click()
    dialog.get_by_role("button", name="Invite", exact=True).click()
    link = dialog.locator("code", has_text="/invitation#")
    link.wait_for()
    parts = urlsplit(link.inner_text())
    return f"{parts.path}#{parts.fragment}"


@contextmanager
def accepted(harbour: Harbour, name: str, link: str) -> Iterator[Invited]:
    """Yield whoever accepts an invitation, by password and code."""
    with person(harbour.browser, harbour.platform) as found:
        page = found.open(link)
        page.get_by_role("button", name="No authenticator here?").click()
        page.get_by_role("textbox", name="Password", exact=True).fill(PASSWORD)
        secret = page.locator("p", has_text="Type this secret").locator("code").inner_text()
        invited = Invited(name, found, secret, _now_s() // 30 - 1)
        page.get_by_label("Code from your authenticator app").fill(invited.next_code())
        page.get_by_role("button", name="Continue").click()
        page.get_by_label("I have stored them").check()
        page.get_by_role("button", name="Continue").click()
        page.get_by_role("navigation", name="Places").wait_for()
        yield invited
