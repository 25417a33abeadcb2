"""The list of devices, with a hundred thousand of them."""

import re

import pytest
from playwright.sync_api import expect

from support.browser import Person
from support.fleet import fill_registry
from support.harbour import Harbour

_COUNT = 100_000


@pytest.fixture(scope="module")
def fleet(harbour: Harbour, ada: Person) -> Person:
    harbour.platform.api.post("/models", {"id": "lantern", "attestation": "none"})
    fill_registry(harbour.platform, _COUNT, model="lantern")
    return ada


def test_a_hundred_thousand_rows_are_walked_by_keyboard_with_few_requests(fleet: Person) -> None:
    asked: list[str] = []
    fleet.page.on("request", lambda request: asked.append(request.url))
    page = fleet.go("/devices?model=lantern")
    grid = page.get_by_role("grid", name="Devices")
    expect(grid).to_have_attribute("aria-rowcount", str(_COUNT + 1))
    first = page.get_by_role("link", name="lantern-000000")
    first.focus()
    page.keyboard.press("End")
    expect(page.get_by_role("link", name=f"lantern-{_COUNT - 1:06d}")).to_be_focused()
    page.keyboard.press("ArrowUp")
    expect(page.get_by_role("link", name=f"lantern-{_COUNT - 2:06d}")).to_be_focused()
    page.keyboard.press("Home")
    expect(first).to_be_focused()
    assert page.locator("[data-index]").count() < 60
    assert len([url for url in asked if "/api/v1/devices?" in url]) < 12


def test_filters_are_saved_and_stand_in_the_address(fleet: Person) -> None:
    page = fleet.go("/devices?model=lantern")
    page.get_by_role("button", name=re.compile("quarantined")).click()
    expect(page.get_by_text("5,000 devices match")).to_be_visible()
    expect(page).to_have_url(re.compile("state=quarantined"))
    expect(page.get_by_text("fleetward device list --model lantern --state quarantined")).to_be_visible()
    page.get_by_role("button", name="Saved filters").click()
    page.get_by_role("menuitem", name="Save this filter").click()
    page.get_by_role("dialog").get_by_role("textbox").fill("dark lanterns")
    page.get_by_role("dialog").get_by_role("button", name="Save").click()
    expect(page.get_by_role("dialog")).to_be_hidden()
    fleet.go("/devices")
    page.get_by_role("button", name="Saved filters").click()
    page.get_by_role("menuitem", name="dark lanterns", exact=True).click()
    expect(page.get_by_text("5,000 devices match")).to_be_visible()


def test_a_bulk_act_shows_its_effect_first(fleet: Person) -> None:
    page = fleet.go("/devices?model=lantern&search=00001")
    page.get_by_role("checkbox", name="Select all that match").check()
    page.get_by_role("region", name="Selected devices").get_by_role("button", name="Quarantine").click()
    dialog = page.get_by_role("dialog")
    will = dialog.get_by_role("button", name=re.compile(r"Quarantine [\d,]+ device"))
    expect(will).to_be_enabled()
    number = int(re.sub(r"\D", "", will.inner_text()))
    assert 0 < number < fleet.api("/devices/counts?model=lantern&search=00001")["total"]
    before = fleet.api("/devices/counts?model=lantern")["by_state"]["quarantined"]
    dialog.get_by_label("Reason").fill("storm")
    will.click()
    expect(dialog).to_be_hidden()
    assert fleet.api("/devices/counts?model=lantern")["by_state"]["quarantined"] == before + number
