"""A day's work at the console, each act against the real platform behind it."""

import re

import pyotp
from playwright.sync_api import Page, expect

from support.broker import wait_for
from support.browser import PASSWORD, Person, person
from support.harbour import Harbour, Invited, prove, publish


def test_signing_out_ends_the_session_and_a_passkey_opens_another(ada: Person) -> None:
    page = ada.go("/")
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    assert ada.context.request.get(f"{ada.platform.ready['console']}/api/v1/me").status == 401
    page.get_by_role("button", name="Sign in with a passkey").click()
    expect(page.get_by_role("heading", name="Today")).to_be_visible()


def test_whoever_is_sent_to_sign_in_comes_back_to_where_they_were(harbour: Harbour, bo: Invited) -> None:
    with person(harbour.browser, harbour.platform) as again:
        page = again.open("/devices?search=buoy-1")
        _sign_in(page, "bo", PASSWORD, bo.next_code())
        expect(page).to_have_url(re.compile(r"/devices\?search=buoy-1$"))
        expect(page.get_by_role("link", name="buoy-1", exact=True)).to_be_visible()


def test_the_device_page_follows_the_device(harbour: Harbour, ada: Person) -> None:
    page = ada.go("/devices/buoy-1")
    lead = page.get_by_test_id("device-lead")
    expect(lead.get_by_text("not connected")).to_be_visible()
    with harbour.buoy.connected():
        expect(lead.get_by_text("connected", exact=True)).to_be_visible()
    expect(lead.get_by_text("not connected")).to_be_visible()


def test_telemetry_is_plotted_as_it_arrives(harbour: Harbour, ada: Person) -> None:
    page = ada.go("/devices/buoy-1?part=telemetry")
    harbour.buoy.publish("t/wind", {"knots": 11}, {"knots": 14})
    expect(page.get_by_role("heading", name="wind knots")).to_be_visible()
    expect(page.get_by_role("img", name=re.compile("2 readings between 11 and 14"))).to_be_visible()


def test_quarantine_from_the_console_cuts_the_session(harbour: Harbour, ada: Person) -> None:
    page = ada.go("/devices/buoy-1")
    expect(page.locator("[data-line=live]")).to_be_visible()
    with harbour.buoy.connected() as session:
        page.get_by_role("button", name="Quarantine").click()
        dialog = page.get_by_role("dialog")
        expect(dialog.get_by_text("Its open session ends within a second.")).to_be_visible()
        dialog.get_by_label("Reason").fill("drifting")
        dialog.get_by_role("button", name="Quarantine buoy-1").click()
        expect(dialog).to_be_hidden()
        expect(page.get_by_text("No session", exact=True)).to_be_visible()
        harbour.platform.wait_for_event("session.closed", device="buoy-1")
        wait_for(lambda: session.is_refused)
    expect(page.get_by_text("Device buoy-1 is quarantined, not active.", exact=True)).to_be_visible()
    expect(page.get_by_text("quarantined: drifting,")).to_be_visible()
    page.get_by_role("button", name="Release").click()
    page.get_by_role("dialog").get_by_role("button", name="Release buoy-1").click()
    expect(page.get_by_text("May hold a session")).to_be_visible()


def test_a_release_waits_for_two_who_did_not_write_it(
    harbour: Harbour, ada: Person, bo: Invited, cy: Invited
) -> None:
    """Cy's proof of identity is too old for it: the console asks for a fresh one and goes on."""
    publish(harbour.platform, "3.0.0")
    state = "/releases/buoy/3.0.0"
    assert ada.api(state)["state"] == "pending"
    for one, left in ((bo, "pending"), (cy, "published")):
        page = one.person.go(state)
        if one is cy:
            cy.age_proof()
        page.get_by_role("button", name="Approve 3.0.0").click()
        if one is cy:
            prove(page, cy)
        expect(page.get_by_text(f"{one.name} approved")).to_be_visible()
        assert ada.api(state)["state"] == left


def test_a_viewer_is_told_what_they_lack_and_offered_nothing_else(vi: Invited) -> None:
    page = vi.person.go("/audit")
    expect(page.get_by_role("heading", name="You may not see the audit log")).to_be_visible()
    expect(page.get_by_role("navigation", name="Places").get_by_text("Audit log")).to_have_count(0)


def test_an_access_review_removes_what_is_not_needed(ada: Person, cy: Invited, vi: Invited) -> None:
    """Cy decides over all but their own right; Ada over that, and closes the review."""
    del vi
    page = cy.person.go("/operators?part=reviews")
    page.get_by_role("button", name="Start a review").click()
    page.get_by_label("Title").fill("Spring review")
    page.get_by_role("button", name="Start", exact=True).click()
    expect(page.get_by_role("heading", name="Spring review")).to_be_visible()
    item = page.locator(".review-item", has_text="vi: viewer")
    item.get_by_role("textbox").fill("left the harbour")
    item.get_by_role("button", name="Remove").click()
    expect(item.get_by_text("remove, says cy")).to_be_visible()
    _keep_the_rest(page)
    expect(page.get_by_text("Somebody else decides over your own right.")).to_be_visible()
    page = ada.go(cy.person.page.url.removeprefix(ada.platform.ready["console"]))
    _keep_the_rest(page)
    page.get_by_role("button", name="Close the review").click()
    expect(page.get_by_text("closed", exact=True)).to_be_visible()
    assert ada.api("/operators/vi")["grants"] == []


def test_the_log_verifies_from_the_console(ada: Person) -> None:
    page = ada.go("/audit")
    page.get_by_role("button", name="Verify the log").click()
    expect(page.get_by_text(re.compile(r"Verified: \d+ entries, none altered"))).to_be_visible()


def test_a_wrong_or_a_used_code_opens_nothing(harbour: Harbour, bo: Invited) -> None:
    """The last test: what fails here slows down every sign-in from this address."""
    with person(harbour.browser, harbour.platform) as again:
        page = again.open("/signin")
        _sign_in(page, "bo", PASSWORD, bo.next_code())
        page.get_by_role("button", name="Sign out").click()
        used = pyotp.TOTP(bo.secret).generate_otp(bo.last_step)
        for code in (used, "000000"):
            _sign_in(page, "bo", PASSWORD, code)
            expect(page.get_by_role("alert")).to_be_visible()
        assert again.context.request.get(f"{harbour.platform.ready['console']}/api/v1/me").status == 401


def _sign_in(page: Page, name: str, password: str, code: str) -> None:
    page.get_by_role("textbox", name="Name", exact=True).fill(name)
    page.get_by_role("textbox", name="Password", exact=True).fill(password)
    page.get_by_label("Code from your authenticator app").fill(code)
    page.get_by_role("button", name="Sign in with password and code").click()


def _keep_the_rest(page: Page) -> None:
    expect(page.locator(".review-item")).to_have_count(4)
    keep = page.get_by_role("button", name="Keep", exact=True)
    while left := keep.count():
        keep.first.click()
        expect(keep).to_have_count(left - 1)
