"""Breaking the glass between two people, and the dialogs that ask for a reason or a proof."""

import re
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Response, expect

from support.browser import Person
from support.harbour import Harbour, Invited, accepted, age_proof, invite, prove


@pytest.fixture(scope="module")
def op(harbour: Harbour, ada: Person) -> Iterator[Invited]:
    """An operator of devices."""
    with accepted(harbour, "op", invite(ada, "op", "operator")) as found:
        yield found


def test_an_emergency_is_asked_for_agreed_ended_and_reviewed(op: Invited, cy: Invited) -> None:
    """The one who asks sees the rights come and go without loading the page again."""
    asks, agrees = op.person.go("/operators?part=break-glass"), cy.person.go("/operators?part=break-glass")
    audit = asks.get_by_role("navigation", name="Places").get_by_role("link", name="Audit log")
    expect(audit).to_have_count(0)
    expect(asks.locator("[data-line=live]")).to_be_visible()
    asks.get_by_role("button", name="Ask for emergency access").click()
    dialog = asks.get_by_role("dialog")
    dialog.get_by_label("Reason").fill("the lock gate does not answer")
    dialog.get_by_role("button", name="Ask", exact=True).click()
    expect(dialog).to_be_hidden()
    expect(asks.get_by_text("requested", exact=True)).to_be_visible()
    expect(asks.get_by_role("button", name="Agree")).to_have_count(0)
    expect(agrees.get_by_text("the lock gate does not answer")).to_be_visible()
    cy.age_proof()
    agrees.get_by_role("button", name="Agree").click()
    prove(agrees, cy)
    expect(agrees.get_by_text("active", exact=True)).to_be_visible()
    expect(asks.get_by_text("active", exact=True)).to_be_visible()
    expect(audit).to_be_visible()
    assert "device.revoke_bulk" in op.person.api("/me")["permissions"]
    assert op.person.find_barriers() == []
    asks.get_by_role("button", name="End it now").click()
    expect(asks.get_by_text("ended", exact=True)).to_be_visible()
    expect(audit).to_have_count(0)
    assert "device.revoke_bulk" not in op.person.api("/me")["permissions"]
    agrees.get_by_role("button", name="Review it").click()
    dialog = agrees.get_by_role("dialog", name="What was found?")
    dialog.get_by_role("textbox").fill("the gate was opened by hand")
    dialog.get_by_role("button", name="Close with these findings").click()
    expect(dialog).to_be_hidden()
    expect(agrees.get_by_text("Review: the gate was opened by hand")).to_be_visible()
    expect(asks.get_by_text("reviewed", exact=True)).to_be_visible()


def test_two_acts_that_wait_for_one_proof_both_go_on(harbour: Harbour, ada: Person, op: Invited) -> None:
    """Both are refused before the proof is given; it is asked for once."""
    for group in ("north", "south"):
        ada.post(f"/operators/{op.name}/grants", {"role": "viewer", "group": group})
    page = ada.go(f"/operators/{op.name}")
    remove = page.get_by_role("button", name=re.compile("Remove viewer in (north|south)"))
    expect(remove).to_have_count(2)
    age_proof(harbour.platform, "ada")
    grants = ada.api(f"/operators/{op.name}")["grants"]
    first, second = (one["id"] for one in grants if one["role"] == "viewer")
    with page.expect_response(_refused(first)), page.expect_response(_refused(second)):
        remove.evaluate_all("(buttons) => buttons.forEach((one) => one.click())")
    dialog = page.get_by_role("dialog", name="Is it still you?")
    dialog.get_by_role("button", name="passkey").click()
    expect(dialog).to_be_hidden()
    expect(remove).to_have_count(0)
    assert [one["role"] for one in ada.api(f"/operators/{op.name}")["grants"]] == ["operator"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_dialogs_and_a_review_have_no_barriers(cy: Invited, scheme: str) -> None:
    who, page = cy.person, cy.person.page
    page.evaluate("(scheme) => localStorage.setItem('mantine-color-scheme-value', scheme)", scheme)
    who.go("/devices/buoy-1")
    page.get_by_role("button", name="Quarantine").click()
    expect(page.get_by_role("dialog").get_by_label("Reason")).to_be_focused()
    found = [f"reason: {one}" for one in who.find_barriers()]
    cy.age_proof()
    who.go("/operators?part=break-glass")
    page.get_by_role("button", name="Ask for emergency access").click()
    page.get_by_role("dialog").get_by_label("Reason").fill("a drill")
    page.get_by_role("dialog").get_by_role("button", name="Ask", exact=True).click()
    expect(page.get_by_role("dialog", name="Is it still you?")).to_be_visible()
    found += [f"step-up: {one}" for one in who.find_barriers()]
    who.go("/operators?part=reviews")
    page.get_by_role("button", name="Start a review").click()
    page.get_by_label("Title").fill(f"Review by {scheme}")
    page.get_by_role("button", name="Start", exact=True).click()
    expect(page.get_by_role("heading", name=f"Review by {scheme}")).to_be_visible()
    page.locator(".review-item").first.wait_for()
    found += [f"review: {one}" for one in who.find_barriers()]
    assert found == []


def _refused(grant: str) -> Callable[[Response], bool]:
    return lambda answer: answer.url.endswith(f"/grants/{grant}") and answer.status == 403
