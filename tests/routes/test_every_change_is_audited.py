"""Every operator route that changes something leaves an audit entry that names who caused it.

Each such route has a call below that succeeds; a new route fails until it has one too.
"""

import hashlib
import json
from collections.abc import AsyncGenerator, Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from fastapi import FastAPI, Request
from fastapi.routing import iter_route_contexts

from fleetward.base.clock import SystemClock
from fleetward.base.config import ServerConfig
from fleetward.base.layout import DataFolder
from fleetward.base.web import Edge, Principal
from fleetward.features.access.http import router as access_router
from fleetward.features.access.service import operators
from fleetward.features.access.store.operators import OperatorState
from fleetward.features.audit import service as audit
from fleetward.features.devices import service as devices
from fleetward.features.devices.model import AttestationPolicy, DeviceState, Model
from fleetward.features.enrollment import service as enrollment
from fleetward.features.enrollment.model import Factory
from fleetward.features.media.relay import MediaContext
from fleetward.features.messaging.http import MessagingContext
from fleetward.features.messaging.model import Presence
from fleetward.features.messaging.ports import WatchItem
from fleetward.features.pki import service as pki
from fleetward.programs.server.build import Rooms, build_console_app, build_rooms
from fleetward.programs.server.initialise import initialise
from fleetward.wire.shipment import ShipmentRow, render_manifest
from fleetward.wire.telemetry import Record
from support.asgi import AsgiClient
from support.dead_letters import KeptDeadLetters, make_letter
from support.hierarchy import make_csr
from support.tpm_vendor import Authority
from support.updates import SBOM

ACTOR = "operator:alice"
FACTORY = ed25519.Ed25519PrivateKey.generate()


@dataclass(frozen=True)
class Everybody:
    """Whoever asks is this operator, who may do everything."""

    name: str

    def authorize(self, request: Request, permission: str) -> Principal:
        del request, permission
        return Principal(f"operator:{self.name}", operator=self.name)


class NoMessages:
    """An engine in which nothing was ever said."""

    def read_last(self, device: str, kind: str, stream: str, limit: int) -> list[Record]:
        del device, kind, stream, limit
        return []

    def find_presence(self, device: str) -> Presence | None:
        return Presence(device)

    async def watch(self, device: str) -> AsyncGenerator[WatchItem, None]:
        yield WatchItem("presence", device, "", "", None)


@dataclass
class House:
    """A platform's operator application, without its processes."""

    rooms: Rooms
    app: FastAPI
    client: AsgiClient
    count: int = 0

    def ask(self, method: str, path: str, body: object = None, **more: Any) -> httpx.Response:
        if body is not None:
            more["json"] = body
        return self.client.request(method, f"/api/v1{path}", **more)

    def device(self, *, is_active: bool = False) -> str:
        self.count += 1
        device_id = f"cam-{self.count}"
        with self.rooms.db.write("system:test") as tx:
            devices.register(tx, device_id, "cam")
            if is_active:
                devices.transition(tx, device_id, DeviceState.ENROLLED, "test")
                devices.transition(tx, device_id, DeviceState.ACTIVE, "test")
                hour = timedelta(hours=1)
                pki.issue_device_certificate(tx, self.rooms.pki, device_id, make_csr(), hour)
        return device_id

    def actions_after(self, sequence: int) -> list[tuple[str, str]]:
        with self.rooms.db.read() as tx:
            return [(entry.actor, entry.action) for entry, _ in audit.search(tx, after=sequence)]

    @property
    def last(self) -> int:
        with self.rooms.db.read() as tx:
            return audit.read_head(tx).tree.size - 1


Call = Callable[[House], httpx.Response]


def lifecycle(verb: str) -> Call:
    def call(house: House) -> httpx.Response:
        device = house.device(is_active=True)
        if verb == "release":
            house.ask("POST", f"/devices/{device}/quarantine", {})
        return house.ask("POST", f"/devices/{device}/{verb}", {"reason": "a test"})

    return call


def revoke_certificate(house: House) -> httpx.Response:
    device = house.device(is_active=True)
    (issued,) = house.ask("GET", f"/devices/{device}/certificates").json()
    path = f"/devices/{device}/certificates/{issued['serial']}/revoke"
    return house.ask("POST", path, {"reason": "a test"})


def import_devices(house: House) -> httpx.Response:
    with house.rooms.db.write("system:test") as tx:
        pem = FACTORY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
        enrollment.trust_factory(tx, Factory("plant", pem, ""))
    rows = [ShipmentRow("shipped-1", "cam", "tpm-ek", f"{1:064x}")]
    content = render_manifest(
        rows, FACTORY, factory="plant", batch="b-1", at=house.rooms.clock.now(), rows_format="jsonl"
    )
    return house.ask("POST", "/devices/import", content=content)


def trust_factory(house: House) -> httpx.Response:
    key = ed25519.Ed25519PrivateKey.generate().public_key()
    pem = key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    return house.ask("POST", "/factories", {"name": "works", "public_key": pem})


def add_reference(house: House) -> httpx.Response:
    house.count += 1
    digest = hashlib.sha256(b"boot stage %d" % house.count).hexdigest()
    return house.ask("POST", "/models/cam/references", {"kind": "boot_stage", "digest": digest})


def withdraw_reference(house: House) -> httpx.Response:
    digest = add_reference(house).json()["digest"]
    return house.ask("POST", f"/models/cam/references/{digest}/withdraw")


def add_ek_root(house: House) -> httpx.Response:
    return house.ask("POST", "/attestation/ek-roots", {"pem": Authority("Vendor").pem.decode()})


def withdraw_ek_root(house: House) -> httpx.Response:
    vendor = Authority("Another vendor")
    house.ask("POST", "/attestation/ek-roots", {"pem": vendor.pem.decode()})
    fingerprint = vendor.certificate.fingerprint(hashes.SHA256()).hex()
    return house.ask("POST", f"/attestation/ek-roots/{fingerprint}/withdraw")


def open_view(house: House) -> httpx.Response:
    return house.ask("POST", f"/devices/{house.device(is_active=True)}/views")


def close_view(house: House) -> httpx.Response:
    return house.ask("DELETE", f"/views/{open_view(house).json()['id']}")


def publish(house: House) -> httpx.Response:
    house.count += 1
    form = {"model": "cam", "version": f"1.0.{house.count}"}
    return house.ask("POST", "/releases", data=form, files={"image": b"firmware", "sbom": SBOM})


def withdraw_release(house: House) -> httpx.Response:
    version = publish(house).json()["version"]
    return house.ask("POST", f"/releases/cam/{version}/withdraw", {})


def acknowledge(house: House) -> httpx.Response:
    refused = house.client.post(
        "/api/v1/signin/password", json={"name": "nobody", "password": "x", "totp": "0"}
    )
    assert refused.status_code == 401
    events = house.ask("GET", "/events", params={"limit": 5000}).json()["events"]
    alert = next(one for one in events if one["severity"] in ("warning", "critical"))
    return house.ask("POST", f"/events/{alert['id']}/acknowledge", {"note": "seen"})


def save_filter(house: House) -> httpx.Response:
    house.count += 1
    return house.ask("POST", "/filters", {"name": f"f-{house.count}", "filter": {"state": "active"}})


def bulk_quarantine(house: House) -> httpx.Response:
    ids = [house.device(is_active=True)]
    return house.ask(
        "POST", "/devices/bulk", {"action": "quarantine", "ids": ids, "reason": "a test", "apply": True}
    )


def decide_release(verb: str) -> Call:
    """Have Bob publish, which waits now that there are operators, and decide as Alice. These come last."""

    def call(house: House) -> httpx.Response:
        with house.rooms.db.write("system:test") as tx:
            if not operators.any_exists(tx):
                for name in ("alice", "bob"):
                    operators.create(tx, name, name, OperatorState.ACTIVE)
        house.app.state.edge = Edge(house.rooms.db, Everybody("bob"))
        version = publish(house).json()["version"]
        house.app.state.edge = Edge(house.rooms.db, Everybody("alice"))
        return house.ask("POST", f"/releases/cam/{version}/{verb}", {"reason": "a test"})

    return call


# An OCSP request is a question in a body (RFC 6960 appendix A.1).
QUERIES = {("POST", "/pki/ocsp")}
# Who somebody is cannot be played by Alice: these have a table of their own, `test_access_audited`.
ACCESS = {
    (method, route.path)
    for route in iter_route_contexts(access_router.routes)
    for method in route.methods or ()
}
CALLS: dict[tuple[str, str], Call] = {
    ("POST", "/deadletters/{number}/replay"): lambda house: house.ask("POST", "/deadletters/1/replay"),
    ("DELETE", "/deadletters/{number}"): lambda house: house.ask("DELETE", "/deadletters/2"),
    ("POST", "/models"): lambda house: house.ask("POST", "/models", {"id": "meter"}),
    ("POST", "/devices"): lambda house: house.ask("POST", "/devices", {"id": "new-1", "model": "cam"}),
    ("POST", "/devices/import"): import_devices,
    ("POST", "/devices/{device_id}/claims"): lambda house: house.ask(
        "POST", f"/devices/{house.device()}/claims", {}
    ),
    ("POST", "/devices/{device_id}/quarantine"): lifecycle("quarantine"),
    ("POST", "/devices/{device_id}/release"): lifecycle("release"),
    ("POST", "/devices/{device_id}/revoke"): lifecycle("revoke"),
    ("POST", "/devices/{device_id}/retire"): lifecycle("retire"),
    ("POST", "/devices/{device_id}/certificates/{serial}/revoke"): revoke_certificate,
    ("PUT", "/devices/{device_id}/shadow/desired"): lambda house: house.ask(
        "PUT", f"/devices/{house.device()}/shadow/desired", {"state": {"led": "on"}}
    ),
    ("POST", "/devices/{device_id}/commands"): lambda house: house.ask(
        "POST", f"/devices/{house.device(is_active=True)}/commands", {"name": "ping"}
    ),
    ("POST", "/devices/{device_id}/views"): open_view,
    ("DELETE", "/views/{view_id}"): close_view,
    ("POST", "/factories"): trust_factory,
    ("POST", "/models/{model_id}/references"): add_reference,
    ("POST", "/models/{model_id}/references/{digest}/withdraw"): withdraw_reference,
    ("POST", "/attestation/ek-roots"): add_ek_root,
    ("POST", "/attestation/ek-roots/{fingerprint}/withdraw"): withdraw_ek_root,
    ("POST", "/devices/bulk"): bulk_quarantine,
    ("POST", "/events/{number}/acknowledge"): acknowledge,
    ("POST", "/filters"): save_filter,
    ("DELETE", "/filters/{filter_id}"): lambda house: house.ask(
        "DELETE", f"/filters/{save_filter(house).json()['id']}"
    ),
    ("POST", "/releases"): publish,
    ("POST", "/releases/{model}/{version}/withdraw"): withdraw_release,
    ("POST", "/releases/{model}/{version}/approve"): decide_release("approve"),
    ("POST", "/releases/{model}/{version}/reject"): decide_release("reject"),
}


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    folder = DataFolder(tmp_path_factory.mktemp("platform") / "data")
    clock = SystemClock()
    made = initialise(
        folder, ServerConfig("fleet.test"), passphrase_file=None, clock=clock, tell=lambda _text: None
    )
    rooms = build_rooms(folder, made.config, made.config.ports, clock)
    engine = NoMessages()
    messaging = MessagingContext(engine, engine, engine, KeptDeadLetters(make_letter(1), make_letter(2)))
    media = MediaContext(rooms.db, bus=None, console="", origins=frozenset())  # type: ignore[arg-type]  # no view is played
    app = build_console_app(rooms, messaging, media, lambda _: None)
    app.state.edge = Edge(rooms.db, Everybody("alice"))
    with rooms.db.write("system:test") as tx:
        devices.add_model(tx, Model("cam", attestation=AttestationPolicy.NONE))
    yield House(rooms, app, AsgiClient(app))
    rooms.db.close()


def changing_routes(app: FastAPI) -> set[tuple[str, str]]:
    return (
        {
            (method.upper(), path.removeprefix("/api/v1"))
            for path, methods in app.openapi()["paths"].items()
            for method in methods
            if method not in {"get", "head", "options"}
        }
        - QUERIES
        - ACCESS
    )


def test_every_changing_route_is_listed_here(house: House) -> None:
    assert changing_routes(house.app) == set(CALLS)


@pytest.mark.parametrize("route", CALLS, ids=" ".join)
def test_a_change_is_audited_under_its_actor(house: House, route: tuple[str, str]) -> None:
    before = house.last
    answer = CALLS[route](house)
    assert answer.status_code in (200, 201, 204), answer.text
    actors = [actor for actor, _ in house.actions_after(before)]
    assert ACTOR in actors, house.actions_after(before)


def test_the_log_of_all_this_holds(house: House) -> None:
    for call in list(CALLS)[-2:]:
        CALLS[call](house)
    verdict = house.ask("GET", "/audit/verify").json()
    assert (verdict["verified"], verdict["entries"]) == (True, house.last + 1)


def test_one_verification_runs_at_a_time(house: House) -> None:
    with house.rooms.audit.verifying:
        answer = house.ask("GET", "/audit/verify")
    assert (answer.status_code, answer.json()["code"]) == (429, "rate_limited")
    assert house.ask("GET", "/audit/verify").json()["verified"]


def test_a_proof_of_an_entry_comes_with_its_signed_note(house: House) -> None:
    proof = house.ask("GET", "/audit/proof/inclusion", params={"sequence": 0}).json()
    assert proof["entry"]["action"] == "platform.initialised"
    assert proof["note"].startswith("fleet.test/audit\n")
    growth = house.ask("GET", "/audit/proof/consistency", params={"from": 1}).json()
    assert (growth["first_size"], growth["second_size"]) == (1, house.last + 1)
    assert growth["second_root"] == proof["root"]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/audit/proof/inclusion?sequence=999999", 404),
        ("/audit/proof/inclusion?sequence=0&size=999999", 404),
        ("/audit/proof/inclusion?sequence=-1", 400),
        ("/audit/proof/consistency?from=5&to=2", 404),
        ("/audit/proof/consistency", 400),
        ("/audit/entries?since=yesterday", 400),
        ("/audit/entries?actor=%00", 400),
        ("/audit/entries?after=99999999999999999999", 400),
    ],
)
def test_a_question_without_an_answer_is_refused(house: House, path: str, status: int) -> None:
    answer = house.ask("GET", path)
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")


def test_entries_are_found_by_device_and_time(house: House) -> None:
    device = house.device()
    house.ask("POST", f"/devices/{device}/claims", {})
    found = house.ask("GET", "/audit/entries", params={"device": device}).json()["entries"]
    assert [entry["action"] for entry in found] == ["device.registered", "claim.created"]
    later = house.ask("GET", "/audit/entries", params={"since": "2999-01-01T00:00:00Z"}).json()
    assert later == {"entries": [], "next_after": None}


def test_a_tampered_log_is_a_problem_that_names_the_entry(house: House) -> None:
    with house.rooms.db.engine.begin() as conn:
        conn.exec_driver_sql("UPDATE audit_entries SET actor = 'nobody' WHERE sequence = 1")
    answer = house.ask("GET", "/audit/verify")
    problem = json.loads(answer.content)
    with house.rooms.db.engine.begin() as conn:
        conn.exec_driver_sql("UPDATE audit_entries SET actor = 'system:test' WHERE sequence = 1")
    assert (problem["code"], problem["entry"]) == ("audit_tampered", 1)
