"""The first minutes: a link, a passkey, recovery codes, a device that appears by itself."""

from playwright.sync_api import expect

from support.browser import Person, person, read_setup_link
from support.fleet import enroll
from support.harbour import Harbour


def test_the_first_operator_is_an_administrator_with_a_passkey(ada: Person) -> None:
    me = ada.api("/me")
    assert (me["name"], me["factors"]["passkeys"], me["factors"]["recovery_codes_left"]) == ("ada", 1, 10)
    assert me["grants"][0]["role"] == "administrator"


def test_the_first_device_appears_while_one_looks(harbour: Harbour, ada: Person) -> None:
    page = ada.go("/first-device")
    expect(page.locator("[data-line=live]")).to_be_visible()
    device = enroll(harbour.platform, "sensor-1", "buoy", harbour.folder)
    with device.connected():
        expect(page.locator("[data-done=true]")).to_have_count(3)
    expect(page.get_by_text("sensor-1 is connected")).to_be_visible()


def test_the_link_works_for_nobody_once_there_is_an_operator(harbour: Harbour, ada: Person) -> None:
    with person(harbour.browser, harbour.platform) as stranger:
        stranger.open(read_setup_link(harbour.platform))
        expect(stranger.page.get_by_role("heading", name="This platform is set up")).to_be_visible()
        assert "#" not in stranger.page.url
    assert ada.api("/setup") == {"open": False}
