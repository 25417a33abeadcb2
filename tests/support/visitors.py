"""People who administer a running platform, each with a browser's session and a passkey, over real HTTPS."""

import re
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from support.authenticator import SoftAuthenticator
from support.platform import Platform


@dataclass
class Person:
    """A browser at the console's address, with its authenticator."""

    platform: Platform
    http: httpx.Client
    authenticator: SoftAuthenticator
    csrf: str = ""

    def post(self, path: str, body: object = None, status: int = 200) -> Any:
        headers = {"Origin": self.platform.ready["console"], "X-Fleetward-CSRF": self.csrf}
        answer = self.http.post(f"/api/v1{path}", json=body, headers=headers)
        assert answer.status_code == status, answer.text
        found = answer.json() if answer.content else {}
        self.csrf = found.get("csrf", self.csrf) if isinstance(found, dict) else self.csrf
        return found

    def accept(self, link: str, name: str = "") -> Any:
        """Follow a setup link or invitation to a passkey; return what was shown once."""
        page, _, token = link.partition("#")
        kind = "/setup" if page.endswith("/setup") else "/signin/invitation"
        who = {"token": token, "name": name} if name else {"token": token}
        offer = self.post(f"{kind}/begin", who)
        passkey = self.authenticator.create(offer["webauthn"])
        return self.post(f"{kind}/finish", {**who, "passkey": passkey}, 201)

    def set_up(self, name: str) -> Any:
        """Become the first operator by the link that the platform printed."""
        link = re.search(r"https://\S+/setup#\S+", self.platform.log.read_text())
        assert link is not None, self.platform.log.read_text()
        return self.accept(link[0], name)


@contextmanager
def person(platform: Platform) -> Iterator[Person]:
    """Yield a person's browser, signed in to nothing yet."""
    console = platform.ready["console"]
    context = ssl.create_default_context(cafile=str(platform.ca_file))
    with httpx.Client(base_url=console, verify=context) as http:
        yield Person(platform, http, SoftAuthenticator(console))
