"""One platform, one browser and a few operators for the tests of a file.

Not of the whole run: Playwright's synchronous interface keeps its event loop as long as it lives, and others
in the same process have loops of their own.
"""

from collections.abc import Iterator
from importlib.resources import files

import pytest

from support.browser import Person, chromium, person, read_setup_link
from support.fleet import enroll
from support.harbour import Harbour, Invited, accepted, invite, publish
from support.platform import running_platform


@pytest.fixture(scope="module")
def harbour(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Harbour]:
    """A platform with a model, a device that has sent something, and a published release; no operator yet."""
    if not (files("fleetward.programs.server") / "console" / "index.html").is_file():
        pytest.skip("the console is not built: ./dev console")
    folder = tmp_path_factory.mktemp("harbour")
    with running_platform(folder) as platform, chromium() as browser:
        platform.api.post("/models", {"id": "buoy", "attestation": "none"})
        platform.api.post("/models", {"id": "camera", "attestation": "required", "min_tier": "tpm"})
        publish(platform, "2.3.0")
        yield Harbour(platform, browser, folder, enroll(platform, "buoy-1", "buoy", folder))


@pytest.fixture(scope="module")
def ada(harbour: Harbour) -> Iterator[Person]:
    """The first operator: through the setup link, with a passkey, as people do it."""
    with person(harbour.browser, harbour.platform) as found:
        found.add_authenticator()
        page = found.open(read_setup_link(harbour.platform))
        page.get_by_role("textbox", name="Name", exact=True).fill("ada")
        page.get_by_label("Display name").fill("Ada Lovelace")
        page.get_by_role("button", name="Continue").click()
        page.get_by_role("button", name="Create a passkey").click()
        page.get_by_role("heading", name="Keep your recovery codes").wait_for()
        assert page.locator(".codes li").count() == 10
        page.get_by_label("I have stored them").check()
        page.get_by_role("button", name="Continue").click()
        page.get_by_role("heading", name="Add your first device").first.wait_for()
        yield found


@pytest.fixture(scope="module")
def bo(harbour: Harbour, ada: Person) -> Iterator[Invited]:
    """A release manager who signs in with password and code."""
    with accepted(harbour, "bo", invite(ada, "bo", "release-manager")) as found:
        yield found


@pytest.fixture(scope="module")
def cy(harbour: Harbour, ada: Person) -> Iterator[Invited]:
    """A security officer who signs in with password and code."""
    with accepted(harbour, "cy", invite(ada, "cy", "security-officer")) as found:
        yield found


@pytest.fixture(scope="module")
def vi(harbour: Harbour, ada: Person) -> Iterator[Invited]:
    """A viewer."""
    with accepted(harbour, "vi", invite(ada, "vi", "viewer")) as found:
        yield found
