"""The ways in that are not a name and a password: a code, an invitation, a token, a provider."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import urllib3
from playwright.sync_api import Page, expect

from fleetward.base.layout import DataFolder
from support.browser import Person, person
from support.harbour import Harbour, age_proof, invite
from support.openid_provider import CLIENT_ID, CLIENT_SECRET, RunningProvider, running_provider

_GRACE: dict[str, Any] = {"sub": "u-7", "preferred_username": "grace", "name": "Grace Hopper", "amr": ["mfa"]}


def test_a_code_approved_in_the_browser_signs_a_command_line_in(ada: Person, tmp_path: Path) -> None:
    """Ada's proof of identity is too old for it: her passkey gives a fresh one."""
    with _login(ada, tmp_path) as (terminal, code):
        age_proof(ada.platform, "ada")
        page = ada.go(f"/activate?code={code}")
        expect(page.locator("main").get_by_text(code, exact=True)).to_be_visible()
        page.get_by_role("button", name="Approve").click()
        page.get_by_role("dialog", name="Is it still you?").get_by_role("button", name="passkey").click()
        expect(page.get_by_text("The command line is signed in")).to_be_visible()
        said, complaint = terminal.communicate(timeout=30)
    assert (terminal.returncode, "as ada" in said) == (0, True), complaint
    me = subprocess.run(
        _command(ada, "whoami"), capture_output=True, text=True, check=True, env=_home(tmp_path), timeout=30
    )
    assert "ada (Ada Lovelace)" in me.stdout


def test_a_code_typed_and_refused_in_the_browser_ends_the_command_line(ada: Person, tmp_path: Path) -> None:
    with _login(ada, tmp_path) as (terminal, code):
        page = ada.go("/activate")
        page.get_by_label("The code your terminal shows").fill(code.lower())
        page.get_by_role("button", name="Continue").click()
        page.get_by_role("button", name="Refuse").click()
        expect(page.get_by_text("Refused", exact=True)).to_be_visible()
        said, complaint = terminal.communicate(timeout=30)
    assert (terminal.returncode != 0, said) == (True, "")
    assert "Traceback" not in complaint
    assert "expected approval in the browser, found it denied" in complaint
    assert list(tmp_path.iterdir()) == []


def test_an_invitation_is_accepted_with_a_passkey(harbour: Harbour, ada: Person) -> None:
    link = invite(ada, "pia", "viewer")
    with person(harbour.browser, harbour.platform) as pia:
        pia.add_authenticator()
        page = pia.open(link)
        page.get_by_role("button", name="Create a passkey").click()
        _keep_codes(page)
        expect(page.get_by_role("heading", name="Today")).to_be_visible()
        me = pia.api("/me")
        assert (me["name"], me["factors"]["passkeys"], me["factors"]["password"]) == ("pia", 1, False)
        page.get_by_role("button", name="Sign out").click()
        page.get_by_role("button", name="Sign in with a passkey").click()
        expect(page.get_by_role("heading", name="Today")).to_be_visible()
    with person(harbour.browser, harbour.platform) as late:
        page = late.open(link)
        expect(page.get_by_role("alert")).to_be_visible()


def test_a_recovery_code_opens_nothing_but_the_way_back(harbour: Harbour, ada: Person) -> None:
    link = invite(ada, "rob", "viewer")
    with person(harbour.browser, harbour.platform) as rob:
        rob.add_authenticator()
        page = rob.open(link)
        page.get_by_role("button", name="Create a passkey").click()
        code = _keep_codes(page)
        expect(page.get_by_role("heading", name="Today")).to_be_visible()
    with person(harbour.browser, harbour.platform) as again:
        again.add_authenticator()
        page = again.open("/signin")
        page.get_by_role("link", name="Use a recovery code").click()
        page.get_by_role("textbox", name="Name", exact=True).fill("rob")
        page.get_by_label("Recovery code").fill(code)
        page.get_by_role("button", name="Continue").click()
        expect(page.get_by_text("You came in with a recovery code")).to_be_visible()
        again.go("/devices")
        expect(page).to_have_url(re.compile("/me$"))
        console = harbour.platform.ready["console"]
        assert again.context.request.get(f"{console}/api/v1/devices").status == 403
        page.get_by_label("Name of the new passkey").fill("spare key")
        page.get_by_role("button", name="Add a passkey").click()
        expect(page.get_by_role("cell", name="spare key", exact=True)).to_be_visible()
        assert again.find_barriers() == []
        page.get_by_role("button", name="Sign out").click()
        page.get_by_role("button", name="Sign in with a passkey").click()
        expect(page.get_by_role("heading", name="Today")).to_be_visible()
        me = again.api("/me")
        assert (me["restricted"], me["factors"]["recovery_codes_left"]) == (False, 9)


def test_a_token_works_until_it_is_revoked(harbour: Harbour, ada: Person) -> None:
    page = ada.go("/operators?part=tokens")
    page.get_by_role("button", name="Create a token").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("textbox", name="Name", exact=True).fill("dashboard")
    dialog.get_by_role("checkbox", name="device.read", exact=True).check()
    dialog.get_by_role("button", name="Create the token").click()
    shown = dialog.locator("code", has_text="FLEETWARD_TOKEN=")
    token = shown.inner_text().partition("=")[2]
    page.keyboard.press("Escape")
    expect(shown).to_have_count(0)
    status, listed = _ask(harbour, token, "/devices")
    assert (status, [one["id"] for one in listed["devices"]]) == (200, ["buoy-1"])
    assert _ask(harbour, token, "/operators")[0] == 403
    ada.go("/operators?part=tokens")
    assert token not in page.content()
    revoke = page.get_by_role("button", name="Revoke dashboard")
    revoke.click()
    expect(revoke).to_have_count(0)
    status, problem = _ask(harbour, token, "/devices")
    assert (status, problem["code"]) == (401, "unauthenticated")


@pytest.fixture(scope="module")
def provider(
    harbour: Harbour, ada: Person, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningProvider]:
    """An OpenID provider that the platform, started again, trusts."""
    del ada
    platform, folder = harbour.platform, tmp_path_factory.mktemp("provider")
    with running_provider(folder / "provider") as found:
        secret = folder / "client-secret"
        secret.touch(0o600)
        secret.write_text(CLIENT_SECRET)
        config = DataFolder(platform.data).config
        config.write_text(
            f"{config.read_text()}\n[oidc]\nissuer = '{found.issuer}'\nclient_id = '{CLIENT_ID}'\n"
            f"client_secret_file = '{secret}'\nca_file = '{found.ca_file}'\nname = 'Example'\n"
            "[[oidc.roles]]\nprovider_group = 'crew'\nrole = 'viewer'\n"
        )
        platform.stop()
        platform.start()
        yield found


def test_single_sign_on_brings_people_in_by_the_providers_groups(
    harbour: Harbour, provider: RunningProvider
) -> None:
    with person(harbour.browser, harbour.platform) as grace:
        page = grace.open("/devices?search=buoy-1")
        provider.say({**_GRACE, "groups": ["passers-by"]})
        page.get_by_role("link", name="Sign in with Example").click()
        expect(page.get_by_role("alert")).to_contain_text("Example did not let you in")
        assert grace.find_barriers() == []
        provider.say({**_GRACE, "groups": ["crew"]})
        grace.open("/devices?search=buoy-1")
        page.get_by_role("link", name="Sign in with Example").click()
        expect(page).to_have_url(re.compile(r"/devices\?search=buoy-1$"))
        expect(page.get_by_role("link", name="buoy-1", exact=True)).to_be_visible()
        me = grace.api("/me")
        assert (me["name"], [one["role"] for one in me["grants"]]) == ("grace", ["viewer"])


def test_whoever_has_no_factor_here_is_told_where_to_register_one(
    harbour: Harbour, provider: RunningProvider
) -> None:
    """Their provider asked for two factors, but too long ago for this act."""
    with person(harbour.browser, harbour.platform) as grace:
        provider.say({**_GRACE, "groups": ["crew"]})
        page = grace.open("/signin")
        page.get_by_role("link", name="Sign in with Example").click()
        expect(page.get_by_role("heading", name="Today")).to_be_visible()
        age_proof(harbour.platform, "grace")
        grace.go("/me")
        page.get_by_role("button", name="Make new codes").click()
        dialog = page.get_by_role("dialog", name="Is it still you?")
        expect(dialog.get_by_text("You have nothing here to confirm it with")).to_be_visible()
        assert grace.find_barriers() == []
        dialog.get_by_role("link", name="Go to your own page").click()
        expect(dialog).to_be_hidden()
        expect(page).to_have_url(re.compile("/me$"))
        expect(page.get_by_role("alert")).to_contain_text("two factors")


def test_whoever_a_provider_lets_in_by_one_factor_confirms_with_one_of_ours(
    harbour: Harbour, provider: RunningProvider
) -> None:
    with person(harbour.browser, harbour.platform) as hal:
        hal.add_authenticator()
        said = {"sub": "u-8", "preferred_username": "hal", "name": "Hal", "amr": ["pwd"], "groups": ["crew"]}
        provider.say(said)
        page = hal.open("/signin")
        page.get_by_role("link", name="Sign in with Example").click()
        title = page.get_by_text("Your provider did not ask for a second factor")
        expect(title).to_be_visible()
        expect(page).to_have_url(re.compile("/me$"))
        page.get_by_label("Name of the new passkey").fill("spare key")
        page.get_by_role("button", name="Add a passkey").click()
        confirm = page.get_by_role("button", name="Confirm with a passkey")
        expect(confirm).to_be_visible()
        assert hal.find_barriers() == []
        confirm.click()
        expect(title).to_have_count(0)
        page.get_by_role("link", name="Devices").click()
        expect(page.get_by_role("link", name="buoy-1", exact=True)).to_be_visible()
        assert hal.api("/me")["restricted"] is False


@contextmanager
def _login(who: Person, home: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Yield a terminal that waits to be signed in, and the code it shows."""
    with subprocess.Popen(
        _command(who, "login"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=_home(home)
    ) as terminal:
        try:
            assert terminal.stderr is not None
            line = terminal.stderr.readline()
            found = re.search(r"the code ([A-Z0-9-]+):", line)
            assert found is not None, line
            yield terminal, found[1]
        finally:
            terminal.kill()


def _command(who: Person, verb: str) -> list[str]:
    server, ca_file = who.platform.ready["console"], str(who.platform.ca_file)
    return [sys.executable, "-m", "fleetward", "--server", server, "--ca-file", ca_file, verb]


def _home(folder: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("FLEETWARD_")}
    return {**kept, "XDG_CONFIG_HOME": str(folder)}


def _keep_codes(page: Page) -> str:
    """Put the recovery codes away; return one."""
    code = page.locator(".codes li").first.inner_text()
    page.get_by_label("I have stored them").check()
    page.get_by_role("button", name="Continue").click()
    return code


def _ask(harbour: Harbour, token: str, path: str) -> tuple[int, Any]:
    """Ask the API as a program does."""
    pool = urllib3.PoolManager(ca_certs=str(harbour.platform.ca_file))
    url = f"{harbour.platform.ready['console']}/api/v1{path}"
    answer = pool.request("GET", url, headers={"Authorization": f"Bearer {token}"})
    return answer.status, answer.json()
