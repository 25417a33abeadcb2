"""Single sign-on against an OpenID provider that runs as a process of its own, over TLS."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from fleetward.base.clock import SystemClock
from fleetward.features.access.context import SingleSignOn
from fleetward.features.access.model.roles import Role
from fleetward.migrations.runner import migrate
from fleetward.outside.oidc.client import OidcProvider, ProviderSettings
from support.access import COOKIE, AccessHouse, Browser, make_house
from support.database import open_database
from support.openid_provider import CLIENT_ID, CLIENT_SECRET, RunningProvider, running_provider
from support.people import add_operator

ADA: dict[str, Any] = {"sub": "u-1", "preferred_username": "Ada.L@example.com", "name": "Ada Lovelace"}
ADMINS: dict[str, Any] = {"groups": ["fleet-admins", "staff"], "amr": ["pwd", "mfa"]}


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningProvider]:
    with running_provider(tmp_path_factory.mktemp("oidc") / "provider") as found:
        yield found


@pytest.fixture
def house(tmp_path: Path, provider: RunningProvider) -> Iterator[AccessHouse]:
    db = open_database(f"sqlite:///{tmp_path / 'db.sqlite3'}", SystemClock())
    migrate(db)
    settings = ProviderSettings(
        provider.issuer, CLIENT_ID, CLIENT_SECRET, ("openid", "profile"), "groups", provider.ca_file
    )
    sso = SingleSignOn(
        client=OidcProvider(settings, SystemClock()),
        name="Example",
        roles={
            "fleet-admins": ((Role.ADMINISTRATOR, "*"),),
            "lab": ((Role.OPERATOR, "lab"), (Role.VIEWER, "*")),
        },
        mfa_amr=frozenset({"mfa"}),
        mfa_acr=frozenset({"urn:two-factors"}),
    )
    yield make_house(db, tmp_path, sso=sso)
    db.close()


def sign_in(browser: Browser, provider: RunningProvider, *, next_path: str = "/devices") -> str:
    """Go to the provider and back; return where the browser ends."""
    out = browser.get("/signin/oidc/start", params={"next": next_path})
    assert out.status_code == 302
    return come_back(browser, provider.visit(out.headers["location"]))


def come_back(browser: Browser, url: str) -> str:
    parts = urlsplit(url)
    assert parts.path == "/api/v1/signin/oidc/callback"
    back = browser.get("/signin/oidc/callback", params=parse_qs(parts.query))
    assert back.status_code == 302
    return str(back.headers["location"])


def test_a_person_with_a_mapped_group_signs_in_with_its_role(
    house: AccessHouse, provider: RunningProvider
) -> None:
    provider.say(ADA | ADMINS)
    browser = house.browser()
    assert sign_in(browser, provider) == "https://localhost/devices"
    me = browser.get("/me").json()
    assert (me["name"], me["display_name"], me["restricted"]) == ("ada-l", "Ada Lovelace", False)
    assert me["mfa_at"] is not None
    assert [(one["role"], one["group"], one["given_by"]) for one in me["grants"]] == [
        ("administrator", "*", "system:oidc")
    ]
    browser.csrf = me["csrf"]
    listed = browser.get("/operators").json()
    assert [(one["name"], one["sso"]) for one in listed] == [("ada-l", True)]


def test_roles_follow_the_providers_groups_at_every_sign_in(
    house: AccessHouse, provider: RunningProvider
) -> None:
    with house.db.write("operator:test") as tx:
        add_operator(tx, "bea", Role.ADMINISTRATOR)
    for groups, expected in (
        (["fleet-admins"], [("administrator", "*")]),
        (["lab"], [("operator", "lab"), ("viewer", "*")]),
    ):
        provider.say({**ADA, "groups": groups, "amr": ["mfa"]})
        browser = house.browser()
        sign_in(browser, provider)
        held = browser.get("/me").json()["grants"]
        assert [(one["role"], one["group"]) for one in held] == expected
    provider.say({**ADA, "groups": ["staff"], "amr": ["mfa"]})
    browser = house.browser()
    assert "error=sign_in_refused" in sign_in(browser, provider)
    assert COOKIE not in browser.cookies


def test_the_last_administrator_stays_one_against_the_provider(
    house: AccessHouse, provider: RunningProvider
) -> None:
    provider.say({**ADA, "groups": ["fleet-admins"], "amr": ["mfa"]})
    sign_in(house.browser(), provider)
    provider.say({**ADA, "groups": ["lab"], "amr": ["mfa"]})
    browser = house.browser()
    sign_in(browser, provider)
    held = {(one["role"], one["group"]) for one in browser.get("/me").json()["grants"]}
    assert held == {("administrator", "*"), ("operator", "lab"), ("viewer", "*")}
    assert len(house.events("access.last_administrator_kept")) == 1


def test_a_person_without_a_mapped_group_is_refused_and_told(
    house: AccessHouse, provider: RunningProvider
) -> None:
    provider.say({**ADA, "groups": ["staff"], "amr": ["mfa"]})
    browser = house.browser()
    assert sign_in(browser, provider) == "https://localhost/signin?error=sign_in_refused"
    assert [event.details["subject"] for event in house.events("access.sign_in_refused")] == ["u-1"]


def test_acr_proves_two_factors_as_agreed(house: AccessHouse, provider: RunningProvider) -> None:
    provider.say({**ADA, "groups": ["fleet-admins"], "acr": "urn:two-factors"})
    browser = house.browser()
    sign_in(browser, provider)
    assert browser.get("/me").json()["restricted"] is False


def test_without_two_factors_at_the_provider_a_local_one_is_asked_for(
    house: AccessHouse, provider: RunningProvider
) -> None:
    provider.say({**ADA, "groups": ["fleet-admins"], "amr": ["pwd"]})
    browser = house.browser()
    sign_in(browser, provider)
    me = browser.get("/me").json()
    assert (me["restricted"], me["mfa_at"], me["permissions"]) == (True, None, {})
    assert browser.get("/operators").status_code == 403
    browser.csrf = me["csrf"]
    asked = browser.post("/me/passkeys/begin").json()
    passkey = browser.authenticator.create(asked["options"])
    body = {"challenge_id": asked["challenge_id"], "credential": passkey}
    assert browser.post("/me/passkeys/finish", body).status_code == 201
    assert house.step_up(browser)["restricted"] is False
    assert browser.get("/operators").status_code == 200


def test_a_stolen_provider_password_adds_no_factor_to_an_account_that_has_one(
    house: AccessHouse, provider: RunningProvider
) -> None:
    test_without_two_factors_at_the_provider_a_local_one_is_asked_for(house, provider)
    thief = house.browser()
    sign_in(thief, provider)
    thief.csrf = thief.get("/me").json()["csrf"]
    for path in ("/me/passkeys/begin", "/me/totp/begin"):
        assert thief.post(path).status_code == 403
    assert thief.post("/me/password", {"password": "a lighthouse full of geese"}).status_code == 403


@pytest.mark.parametrize(
    "lie",
    [
        "nonce",
        "no nonce",
        "issuer",
        "audience",
        "expired",
        "signature",
        "alg none",
        "kid list",
        "no token",
        "deep",
    ],
)
def test_an_id_token_that_lies_opens_nothing(house: AccessHouse, provider: RunningProvider, lie: str) -> None:
    provider.say(ADA | ADMINS, lie=lie)
    browser = house.browser()
    assert sign_in(browser, provider) == "https://localhost/signin?error=sign_in_refused"
    assert COOKIE not in browser.cookies


@pytest.mark.parametrize(
    "claims",
    [
        {"exp": "soon"}, {"exp": [1]}, {"exp": None}, {"exp": {"a": 1}}, {"iat": "now"},
        {"nbf": {}}, {"aud": {"a": 1}}, {"aud": [[1]]}, {"aud": None}, {"iss": ["x"]}, {"nonce": [1]},
        {"at_hash": 7}, {"sub": [1]}, {"azp": [1]}, {"auth_time": "x"}, {"sub": ""}, {"sub": None},
    ],
)  # fmt: skip
def test_a_signed_token_of_odd_claims_opens_nothing(
    house: AccessHouse, provider: RunningProvider, claims: dict[str, Any]
) -> None:
    provider.say(ADA | ADMINS | claims)
    browser = house.browser()
    assert sign_in(browser, provider) == "https://localhost/signin?error=sign_in_refused"
    assert COOKIE not in browser.cookies


def test_an_answer_is_good_in_the_browser_that_asked_and_once(
    house: AccessHouse, provider: RunningProvider
) -> None:
    provider.say(ADA | ADMINS)
    attacker, victim = house.browser(), house.browser()
    url = provider.visit(attacker.get("/signin/oidc/start").headers["location"])
    assert "error=sign_in_refused" in come_back(victim, url)
    victim.get("/signin/oidc/start")
    assert "error=sign_in_refused" in come_back(victim, url)
    assert COOKIE not in victim.cookies
    visit = dict(attacker.cookies)
    assert come_back(attacker, url) == "https://localhost/"
    replay = house.browser()
    replay.cookies.update(visit)
    assert "error=sign_in_refused" in come_back(replay, url)


@pytest.mark.parametrize(
    "next_path", ["https://evil.example/", "//evil.example", "/\\evil.example", "javascript:alert(1)"]
)
def test_next_leads_to_no_other_site(house: AccessHouse, provider: RunningProvider, next_path: str) -> None:
    provider.say(ADA | ADMINS)
    assert sign_in(house.browser(), provider, next_path=next_path) == "https://localhost/"


@pytest.mark.parametrize(
    ("claims", "said"),
    [
        ({}, "none"),
        ({"amr": ["pwd"]}, "amr pwd"),
        ({"amr": ["pwd", "mfa"], "acr": "silver"}, "amr mfa, amr pwd, acr silver"),
    ],
)
def test_what_the_provider_said_of_factors_is_told(
    house: AccessHouse, provider: RunningProvider, claims: dict[str, Any], said: str
) -> None:
    provider.say({**ADA, "groups": ["fleet-admins"], **claims})
    sign_in(house.browser(), provider)
    [event] = house.events("access.session_opened")
    assert event.details["provider_proof"] == said


@pytest.mark.parametrize("kid", ["key-2", "key-1", ""])
def test_the_providers_new_key_counts_at_once_and_its_old_one_no_more(
    house: AccessHouse, provider: RunningProvider, kid: str
) -> None:
    """Under a new name, under that of the one before, under none: beside keys of kinds we do not know."""
    provider.say(ADA | ADMINS)
    assert sign_in(house.browser(), provider) == "https://localhost/devices"
    provider.say(ADA | ADMINS, rotate=kid)
    assert sign_in(house.browser(), provider) == "https://localhost/devices"
    provider.say(ADA | ADMINS, lie="withdrawn key")
    assert "error=sign_in_refused" in sign_in(house.browser(), provider)


def test_claims_that_the_id_token_lacks_are_asked_for(house: AccessHouse, provider: RunningProvider) -> None:
    kept = {"sub": "u-1", "preferred_username": "ada-l", "groups": ["fleet-admins"], "amr": ["mfa"]}
    provider.say({"sub": "u-1", "amr": ["pwd"]}, userinfo=kept)
    browser = house.browser()
    assert sign_in(browser, provider) == "https://localhost/devices"
    me = browser.get("/me").json()
    assert me["name"] == "ada-l"
    assert [one["role"] for one in me["grants"]] == ["administrator"]
    assert me["restricted"], "what the signed token says of factors is not replaced"


def test_claims_of_somebody_else_are_refused(house: AccessHouse, provider: RunningProvider) -> None:
    provider.say({"sub": "u-1"}, userinfo={"sub": "u-2", "groups": ["fleet-admins"]})
    assert "error=sign_in_refused" in sign_in(house.browser(), provider)


def test_userinfo_is_not_asked_where_the_id_token_says_all(
    house: AccessHouse, provider: RunningProvider
) -> None:
    provider.say(ADA | ADMINS, userinfo={"sub": "u-2"})
    assert sign_in(house.browser(), provider) == "https://localhost/devices"


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("Ada.L@example.com", "ada-l"),
        ("Zoë.Müller@example.com", "zoe-muller"),
        ("李雷@example.com", r"sso-[0-9a-f]{12}"),
        ("@", r"sso-[0-9a-f]{12}"),
        ("a" * 63 + "-b@example.com", "a" * 63),
    ],
)
def test_everybody_gets_a_name_that_an_operator_can_have(
    house: AccessHouse, provider: RunningProvider, given: str, name: str
) -> None:
    provider.say({"sub": "u-1", "preferred_username": given, **ADMINS})
    browser = house.browser()
    assert sign_in(browser, provider) == "https://localhost/devices"
    assert re.fullmatch(name, browser.get("/me").json()["name"])


def test_a_name_that_is_taken_is_not_given_to_a_stranger(
    house: AccessHouse, provider: RunningProvider
) -> None:
    house.first_operator("ada-l")
    provider.say(ADA | ADMINS)
    assert sign_in(house.browser(), provider) == "https://localhost/signin?error=sign_in_refused"


def test_a_provider_that_is_away_is_said_to_be(house: AccessHouse, tmp_path: Path) -> None:
    settings = ProviderSettings("https://localhost:1", "x", "y", ("openid",), "groups", None)
    sso = SingleSignOn(OidcProvider(settings, SystemClock()), "Gone", {}, frozenset(), frozenset())
    other = make_house(house.db, tmp_path, sso=sso)
    assert other.browser().get("/signin/oidc/start").status_code == 503


def test_without_a_provider_there_is_no_single_sign_on(house: AccessHouse, tmp_path: Path) -> None:
    assert house.browser().get("/signin/options").json()["oidc"] == {"name": "Example"}
    other = make_house(house.db, tmp_path)
    assert other.browser().get("/signin/options").json()["oidc"] is None
    assert other.browser().get("/signin/oidc/start").status_code == 404
