"""Every screen, in light and dark, wide and narrow: no barrier that axe knows, nothing the policy refuses."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import ViewportSize

from support.browser import Person, person
from support.fleet import fill_registry
from support.harbour import Harbour, Invited, publish

_SHOTS = Path(__file__).parents[2] / "build" / "screenshots"
_SIZES: dict[str, ViewportSize] = {
    "1440": {"width": 1440, "height": 900},
    "390": {"width": 390, "height": 844},
}
_DOORS = {
    "setup": "/setup#expired",
    "sign-in": "/signin",
    "recovery": "/recovery",
    "invitation": "/invitation",
}
_SCREENS = {
    "first-run": "/first-device",
    "today": "/",
    "devices": "/devices",
    "devices-none-match": "/devices?search=nothing-is-called-so",
    "device": "/devices/buoy-1",
    "device-certificates": "/devices/buoy-1?part=certificates",
    "device-firmware": "/devices/buoy-1?part=firmware",
    "device-telemetry": "/devices/buoy-1?part=telemetry",
    "device-log": "/devices/buoy-1?part=logs",
    "device-video": "/devices/buoy-1?part=video",
    "device-commands": "/devices/buoy-1?part=commands",
    "device-history": "/devices/buoy-1?part=history",
    "device-absent": "/devices/there-is-none",
    "releases": "/releases",
    "release-pending": "/releases/buoy/2.4.0",
    "operators": "/operators",
    "operators-roles": "/operators?part=roles",
    "operators-tokens": "/operators?part=tokens",
    "operators-reviews": "/operators?part=reviews",
    "operators-break-glass": "/operators?part=break-glass",
    "operator": "/operators/bo",
    "audit": "/audit",
    "settings": "/settings",
    "me": "/me",
    "activate": "/activate",
}
_FORBIDDEN = {"audit-forbidden": "/audit", "operators-forbidden": "/operators"}


@pytest.fixture(scope="module")
def busy(harbour: Harbour, ada: Person, bo: Invited) -> Person:
    """The harbour on a working day: 5,000 devices, telemetry, a log, a release that waits."""
    del bo
    fill_registry(harbour.platform, 5000)
    publish(harbour.platform, "2.4.0")
    readings = ({"celsius": 11 + n % 7 / 3, "battery": {"volts": 12.6 - n / 200}} for n in range(60))
    harbour.buoy.publish("t/climate", *readings)
    harbour.buoy.publish("log", *({"event": "lamp_checked", "lit": n % 9 > 0, "pass": n} for n in range(20)))
    return ada


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_screen_is_accessible_and_within_the_policy(busy: Person, vi: Invited, scheme: str) -> None:
    found = list(_walk(busy, _SCREENS, scheme)) + list(_walk(vi.person, _FORBIDDEN, scheme))
    assert "\n".join(found) == ""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_door_is_accessible_and_within_the_policy(harbour: Harbour, ada: Person, scheme: str) -> None:
    del ada
    with person(harbour.browser, harbour.platform) as stranger:
        assert "\n".join(_walk(stranger, _DOORS, scheme)) == ""


def test_every_answer_carries_the_policy(busy: Person) -> None:
    busy.go("/devices")
    assert len(busy.policies) > 50
    assert [url for url, policy in busy.policies if policy is None] == []
    policies = {policy for _, policy in busy.policies if policy}
    assert all("default-src 'none'" in one and "unsafe" not in one for one in policies)
    scripts = {one.partition("script-src ")[2].partition(";")[0] for one in policies}
    assert scripts <= {"'self'", ""}


def _walk(somebody: Person, screens: dict[str, str], scheme: str) -> Iterator[str]:
    """Take a picture of each screen; yield what is wrong with it."""
    _SHOTS.mkdir(parents=True, exist_ok=True)
    page = somebody.page
    page.set_viewport_size(_SIZES["1440"])
    somebody.open("/signin")
    page.evaluate("(scheme) => localStorage.setItem('mantine-color-scheme-value', scheme)", scheme)
    for name, path in screens.items():
        somebody.complaints.clear()
        page.set_viewport_size(_SIZES["1440"])
        somebody.go(path)
        for size, viewport in _SIZES.items():
            page.set_viewport_size(viewport)
            somebody.settle()
            page.screenshot(path=str(_SHOTS / f"{name}-{scheme}-{size}.png"), animations="disabled")
            if size == "1440" or scheme == "light":  # colours do not depend on the width
                yield from (f"{name} {scheme} {size}: {one}" for one in somebody.find_barriers())
            wider = page.evaluate("() => document.documentElement.scrollWidth - innerWidth")
            if wider > 0:
                yield f"{name} {scheme} {size}: {wider} px wider than the screen"
        yield from (
            f"{name} {scheme}: {one}" for one in somebody.complaints if "404" not in one and "403" not in one
        )
    page.set_viewport_size(_SIZES["1440"])
