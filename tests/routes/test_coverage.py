"""Every route of both ports is listed here and asked by strangers; a new one fails until it is listed."""

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from fleetward.base.web import PROBLEM_TYPE
from fleetward.features.devices import service as devices
from fleetward.features.devices.model import DeviceState
from fleetward.wire import enroll, est
from fleetward.wire.evidence import EVIDENCE_PATH
from support.asgi import AsgiClient
from support.authority import Authority, make_certificate
from support.clock import ManualClock
from support.enrollment import Keypair, WithPeer
from support.operator_routes import ROWS
from support.real_apps import RealApps
from support.routes import permissions_of

PUBLIC = ""  # what anybody may read before they are somebody
CLAIM, CHIP, CERTIFICATE = "a claim", "a chip", "the device's certificate"
# Beside the API, whose routes `support.operator_routes` lists.
PAGES = {
    "WS /api/v1/media/view",
    "GET /api/v1/openapi.json",
    "HEAD /api/v1/openapi.json",
    "GET /.well-known/oauth-authorization-server",
    "GET /pki/ca/{name}.crt",
    "GET /pki/crl/device-ca.crl",
    "POST /pki/ocsp",
    "GET /pki/ocsp/{encoded:path}",
    "GET /static/media/{name}",
    "GET /watch/{device_id}",
    "GET /{path:path}",
    "HEAD /{path:path}",
}
DEVICES = {
    "GET /.well-known/est/cacerts": PUBLIC,
    "GET /.well-known/est/csrattrs": PUBLIC,
    "HEAD /.well-known/est/cacerts": PUBLIC,
    "HEAD /.well-known/est/csrattrs": PUBLIC,
    "POST /.well-known/est/simpleenroll": CLAIM,
    "POST /.well-known/est/simplereenroll": CERTIFICATE,
    "GET /pki/ca/{name}.crt": PUBLIC,
    "GET /pki/crl/device-ca.crl": PUBLIC,
    "POST /pki/ocsp": PUBLIC,
    "GET /pki/ocsp/{encoded:path}": PUBLIC,
    "POST /v1/attestation/evidence": CERTIFICATE,
    "GET /v1/attestation/nonce": CERTIFICATE,
    "POST /v1/enroll/tpm": CHIP,
    "POST /v1/enroll/tpm/{challenge_id}": CHIP,
    "WS /v1/media/ingest": CERTIFICATE,
    "GET /v1/time": PUBLIC,
    "GET /v1/tuf/{model}/metadata/{name}": CERTIFICATE,
    "GET /v1/tuf/{model}/targets/{name:path}": CERTIFICATE,
    "HEAD /v1/tuf/{model}/targets/{name:path}": CERTIFICATE,
}
GUARDED = sorted(f"{row.method} /api/v1{row.path}" for row in ROWS if row.who != "public")
BODIES = sorted(
    f"{row.method} /api/v1{row.path}" for row in ROWS if row.method in ("POST", "PUT") and row.who != "me"
)
UPLOADS = ["POST /api/v1/devices/import", "POST /api/v1/releases"]
BY_CERTIFICATE = sorted(name for name, proof in DEVICES.items() if proof is CERTIFICATE and "WS" not in name)
NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
VALUES = {
    "{number}": "1",
    "{model}": "cam",
    "{model_id}": "cam",
    "{name}": "timestamp.json",
    "{device_id}": "cam-1",
}


@pytest.fixture(scope="module")
def apps(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealApps]:
    made = RealApps(tmp_path_factory.mktemp("apps"), ManualClock(NOON))
    made.add_model("cam")
    made.add_model("lamp")
    yield made
    made.close()


def url_of(name: str) -> tuple[str, str]:
    """Return method and path of a route, its parameters filled in."""
    method, path = name.split(" ")
    return method, re.sub(r"{[^}]*}", lambda found: VALUES.get(found[0], "x"), path)


def assert_problem(answer: httpx.Response, status: int, code: str | None = None) -> None:
    """Pass when the answer is a problem document (RFC 9457) with our code, and no more than that."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == PROBLEM_TYPE
    body = answer.json()
    assert body["status"] == status
    assert body["type"] == f"urn:fleetward:problem:{body['code']}"
    assert body["detail"]
    assert body["title"]
    assert code in (None, body["code"])
    assert "Traceback" not in answer.text


def test_every_route_of_the_operators_port_is_listed(apps: RealApps) -> None:
    listed = {f"{row.method} /api/v1{row.path}" for row in ROWS}
    assert set(permissions_of(apps.console)) == listed | PAGES


def test_every_device_route_is_listed_with_its_proof(apps: RealApps) -> None:
    assert set(permissions_of(apps.devices)) == set(DEVICES)


@pytest.mark.parametrize(
    "credential",
    [
        None,
        "Bearer",
        "Bearer ",
        "Bearer " + "x" * 43,
        "Basic YWRtaW46YWRtaW4=",
        "bearer\t" + "x" * 43,
        "x" * 9000,
    ],
    ids=["none", "no token", "empty token", "wrong token", "basic", "tab", "huge"],
)
@pytest.mark.parametrize("name", GUARDED)
def test_a_stranger_is_refused_on_every_operator_route(
    apps: RealApps, name: str, credential: str | None
) -> None:
    method, path = url_of(name)
    headers = {} if credential is None else {"Authorization": credential}
    body: dict[str, Any] = {} if method in ("GET", "DELETE") else {"json": {}}
    answer = AsgiClient(apps.console).request(method, path, headers=headers, **body)
    assert_problem(answer, 401, "unauthenticated")
    assert answer.headers["www-authenticate"].startswith("Bearer")


@pytest.mark.parametrize("name", GUARDED)
def test_a_devices_certificate_opens_no_operator_route(
    apps: RealApps, name: str, peer: x509.Certificate
) -> None:
    method, path = url_of(name)
    body: dict[str, Any] = {} if method in ("GET", "DELETE") else {"json": {}}
    assert_problem(AsgiClient(WithPeer(apps.console, peer)).request(method, path, **body), 401)


@pytest.mark.parametrize("name", UPLOADS)
def test_a_strangers_upload_is_not_read(apps: RealApps, name: str) -> None:
    """Who may not send is refused before their gigabytes are held."""
    sent = []

    async def endless() -> AsyncIterator[bytes]:
        for number in range(64):
            sent.append(number)
            yield b"x" * 65_536

    headers = {"Content-Type": "application/octet-stream"}
    answer = AsgiClient(apps.console).request(*url_of(name), content=endless(), headers=headers)
    assert_problem(answer, 401)
    assert len(sent) <= 1


@pytest.fixture(scope="module")
def peer(apps: RealApps) -> x509.Certificate:
    return apps.enroll("cam-1", "cam")


FORM = "application/x-www-form-urlencoded"


@pytest.mark.parametrize("kind", ["application/json", "application/octet-stream"])
def test_evidence_that_is_no_json_is_told_whatever_it_calls_itself(apps: RealApps, kind: str) -> None:
    """The devices' port refuses nothing before the route that tells of it."""
    device = f"cam-{kind.rpartition('/')[2]}"
    peer = apps.enroll(device, "cam")
    answer = apps.device(peer, "POST", EVIDENCE_PATH, content=b"{", headers={"Content-Type": kind})
    assert_problem(answer, 400)
    told = apps.operator("GET", f"/events?device={device}").json()["events"]
    assert "attestation.failed" in [one["kind"] for one in told]


BOMBS = {
    "deep": b"[" * 200_000,
    "deep objects": b'{"id":' * 50_000,
    "cut short": b'{"id": "cam-1"',
    "no text": b"\xff\xfe\x00",
    "not a number": b'{"timeout_s": NaN, "id": 1e999999}',
    "a list": b"[]",
    "null": b"null",
    "a long number": b'{"id": ' + b"9" * 50_000 + b"}",
}


@pytest.mark.parametrize("bomb", BOMBS)
@pytest.mark.parametrize("name", BODIES)
def test_a_body_that_is_none_is_a_clear_refusal_on_every_route(apps: RealApps, name: str, bomb: str) -> None:
    method, path = url_of(name)
    headers = {"Content-Type": FORM if is_oauth(path) else "application/json"}
    answer = apps.operator(method, path.removeprefix("/api/v1"), content=BOMBS[bomb], headers=headers)
    if is_oauth(path):
        assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")
    elif not takes_no_body(apps, name):
        assert_problem(answer, 400, "shipment_refused" if path.endswith("/import") else "invalid_input")
    assert answer.status_code < 500


@pytest.mark.parametrize("name", [name for name in BODIES if name not in UPLOADS])
def test_a_body_over_the_limit_is_refused_whether_or_not_it_says_so(apps: RealApps, name: str) -> None:
    method, path = url_of(name)

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(40):
            yield b" " * 65_536

    headers = {"Content-Type": FORM if is_oauth(path) else "application/json"}
    for content in (chunks(), b" " * (2 * 1024 * 1024)):
        answer = apps.operator(method, path.removeprefix("/api/v1"), content=content, headers=headers)
        if not takes_no_body(apps, name):
            assert_problem(answer, 413, "too_large")
        assert answer.status_code < 500


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/devices/cam-1/shadow/desired", b'{"state": {}, "expected_version": "1"}'),
        ("/devices/cam-1/shadow/desired", b'{"state": {}, "expected_version": false}'),
        ("/devices/cam-1/shadow/desired", b'{"state": {"led": NaN}}'),
        ("/devices/cam-1/shadow/desired", b'{"state": {"led": 1e400}}'),
        ("/devices/cam-1/shadow/desired", b'{"state": {"led": "\\ud800"}}'),
        ("/devices/cam-1/commands", b'{"name": "ping", "timeout_s": "30"}'),
        ("/devices/cam-1/commands", b'{"name": "ping", "timeout_s": 30.5}'),
        ("/devices/bulk", b'{"action": "quarantine", "ids": ["cam-1"], "apply": "yes"}'),
        ("/devices/bulk", b'{"action": "quarantine", "ids": ["cam-1"], "apply": 1}'),
        ("/operators/invitations", b'{"name": "eve", "role": "administrator"}'),
        ("/operators/invitations", b'{"name": "eve", "display_name": "\\udfff"}'),
        ("/tokens", b'{"name": "ci", "scopes": ["device.read"], "lifetime": "1d"}'),
        ("/signin/password", b'{"name": "ada", "password": "x", "totp": "1", "remember": true}'),
        ("/signin/password", b'{"name": "ada", "password": 1, "totp": "1"}'),
    ],
)
def test_nothing_is_taken_for_what_it_is_not(apps: RealApps, path: str, body: bytes) -> None:
    method = "PUT" if path.endswith("desired") else "POST"
    answer = apps.operator(method, path, content=body, headers={"Content-Type": "application/json"})
    assert_problem(answer, 400, "invalid_input")


def is_oauth(path: str) -> bool:
    """Whether a route's errors have the form of RFC 6749."""
    return path.startswith("/api/v1/oauth/")


def takes_no_body(apps: RealApps, name: str) -> bool:
    method, path = name.split(" ")
    described = apps.console.openapi()["paths"][path.replace(":path}", "}")][method.lower()]
    return "requestBody" not in described


def foreign_certificate(apps: RealApps) -> x509.Certificate:
    """Return one that names our device and that another authority has signed."""
    name = x509.UniformResourceIdentifier("spiffe://fleet.test/device/cam-1")
    return make_certificate(
        "cam-1", Keypair().key.public_key(), Authority("Another").as_issuer(),
        usage=ExtendedKeyUsageOID.CLIENT_AUTH, at=apps.rooms.clock.now(), names=[name],
    )  # fmt: skip


@pytest.mark.parametrize("name", BY_CERTIFICATE)
def test_a_stranger_is_refused_on_every_device_route(apps: RealApps, name: str) -> None:
    method, path = url_of(name)
    for who in (None, foreign_certificate(apps)):
        answer = apps.device(who, method, path, content=est_body("cam-1"))
        if method == "HEAD":
            assert answer.status_code == 401
        else:
            assert_problem(answer, 401)


@pytest.mark.parametrize("name", BY_CERTIFICATE)
def test_an_operators_token_is_no_device(apps: RealApps, name: str) -> None:
    method, path = url_of(name)
    answer = apps.device(None, method, path, headers=apps.authorization, content=est_body("cam-1"))
    assert answer.status_code == 401


@pytest.mark.parametrize("state", [DeviceState.REVOKED, DeviceState.RETIRED])
def test_a_device_whose_life_has_ended_is_refused_on_every_route(apps: RealApps, state: DeviceState) -> None:
    ended = apps.enroll(f"cam-{state}", "cam")
    with apps.rooms.db.write("operator:test") as tx:
        devices.end(tx, f"cam-{state}", state, "stolen")
    for name in BY_CERTIFICATE:
        method, path = url_of(name)
        assert apps.device(ended, method, path, content=est_body(f"cam-{state}")).status_code in (401, 403)
    assert not is_let_in(apps, ended)


@pytest.mark.parametrize("name", [name for name in BY_CERTIFICATE if "/v1/tuf/" in name])
def test_a_device_of_another_model_finds_nothing(apps: RealApps, name: str, other: x509.Certificate) -> None:
    method, path = url_of(name)
    for asked in (path, path.replace("/cam/", "/ghost/")):
        assert apps.device(other, method, asked).status_code == 404


def test_another_device_renews_no_certificate_but_its_own(apps: RealApps, other: x509.Certificate) -> None:
    answer = apps.device(other, "POST", f"{est.PATH}/simplereenroll", content=est_body("cam-1"))
    assert answer.status_code in (400, 403)
    assert_problem(answer, answer.status_code)


def test_another_devices_claim_is_refused(apps: RealApps) -> None:
    claim = apps.operator("POST", "/devices", json={"id": "cam-9", "model": "cam"}).json()["claim"]
    answer = apps.device(
        None, "POST", f"{est.PATH}/simpleenroll", content=est_body("cam-1"), auth=("cam-1", claim)
    )
    assert answer.status_code in (401, 403)
    assert_problem(answer, answer.status_code)


@pytest.mark.parametrize("path", [enroll.PATH, f"{enroll.PATH}/chal_unknown"])
def test_nobody_enrolls_a_chip_without_one(apps: RealApps, path: str) -> None:
    for body in (b"", b"{}", b"[" * 100_000, b"null", b'"x"', b"{" + b'"a":{' * 5000):
        answer = apps.device(None, "POST", path, content=body)
        assert answer.status_code in (400, 401, 403, 404, 413, 429), answer.text
        assert_problem(answer, answer.status_code)


@pytest.mark.parametrize("name", [name for name in DEVICES if name.startswith("GET /.well-known")])
def test_what_is_public_on_the_devices_port_asks_for_nothing(apps: RealApps, name: str) -> None:
    assert apps.device(None, *url_of(name)).status_code == 200


def test_a_camera_line_is_opened_for_a_verified_session_alone(apps: RealApps, peer: x509.Certificate) -> None:
    assert not is_let_in(apps, None)
    assert not is_let_in(apps, foreign_certificate(apps))
    with pytest.raises(AssertionError, match="reach NATS"):
        is_let_in(apps, peer)


def test_a_view_is_opened_from_our_own_page_alone(apps: RealApps) -> None:
    for origin in (b"https://evil.example", b"null", b"http://localhost:8443"):
        sent = converse(apps.console, "/api/v1/media/view", [(b"origin", origin)])
        assert [message["type"] for message in sent] == ["websocket.close"]


def test_a_ticket_nobody_gave_opens_no_view(apps: RealApps) -> None:
    origin = (b"origin", apps.rooms.addresses.console.encode())
    sent = converse(apps.console, "/api/v1/media/view", [origin], said="x" * 100_000)
    assert [message["type"] for message in sent] == ["websocket.accept", "websocket.close"]
    assert sent[-1]["code"] == 4403


@pytest.mark.parametrize(("app", "path"), [("console", "/api/v1/nothing"), ("devices", "/nothing/here")])
def test_what_is_not_there_is_a_problem_document(apps: RealApps, app: str, path: str) -> None:
    client = AsgiClient(getattr(apps, app))
    assert_problem(client.get(path), 404, "not_found")
    assert_problem(client.request("PATCH", "/pki/ocsp"), 405, "method_not_allowed")


@pytest.mark.parametrize(
    ("app", "path", "methods"),
    [
        ("console", "/api/v1/devices", "GET, POST"),
        ("console", "/api/v1/devices/cam-1/certificates", "GET"),
        ("console", "/pki/ocsp", "POST"),
        ("devices", "/.well-known/est/cacerts", "GET, HEAD"),
        ("devices", "/.well-known/est/simpleenroll", "POST"),
        ("devices", "/pki/ocsp", "POST"),
    ],
)
def test_a_wrong_method_is_told_all_right_ones(apps: RealApps, app: str, path: str, methods: str) -> None:
    answer = AsgiClient(getattr(apps, app)).request("PATCH", path)
    assert answer.status_code == 405
    assert answer.headers["allow"] == methods


@pytest.fixture(scope="module")
def other(apps: RealApps) -> x509.Certificate:
    return apps.enroll("lamp-1", "lamp")


def est_body(device_id: str) -> bytes:
    return est.render_csr(Keypair().csr_for(device_id).public_bytes(Encoding.DER))


def is_let_in(apps: RealApps, peer: x509.Certificate | None) -> bool:
    """Say whether a camera's line is accepted."""
    sent = converse(WithPeer(apps.devices, peer), "/v1/media/ingest", [])
    return any(message["type"] == "websocket.accept" for message in sent)


def converse(
    app: Any, path: str, headers: list[tuple[bytes, bytes]], *, said: str | None = None
) -> list[dict[str, Any]]:
    """Open a WebSocket, say one thing if there is one, hang up; return what the application sent."""
    scope = {
        "type": "websocket", "path": path, "raw_path": path.encode(), "query_string": b"", "root_path": "",
        "headers": headers, "subprotocols": [], "scheme": "wss", "client": ("127.0.0.1", 1),
        "server": ("localhost", 8443), "extensions": {},
    }  # fmt: skip
    waiting: list[dict[str, Any]] = [{"type": "websocket.connect"}]
    if said is not None:
        waiting.append({"type": "websocket.receive", "text": said})
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return waiting.pop(0) if waiting else {"type": "websocket.disconnect", "code": 1001}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    asyncio.run(app(scope, receive, send))
    return sent
