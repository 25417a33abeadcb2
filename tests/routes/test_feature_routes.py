"""The operators' routes of devices, releases, views, audit and events, and the devices' update routes."""

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from fleetward.base.web import PROBLEM_TYPE
from fleetward.features.media import service as media
from fleetward.features.media.model import TicketRefusedError
from support.asgi import AsgiClient
from support.clock import ManualClock
from support.real_apps import RealApps
from support.small_disk import small_disk
from support.updates import SBOM

IMAGE = bytes(range(256)) * 512
REASON = {"reason": "odd"}


@pytest.fixture
def apps(tmp_path: Path, clock: ManualClock) -> Iterator[RealApps]:
    made = RealApps(tmp_path, clock)
    made.add_model("cam")
    yield made
    made.close()


def assert_problem(answer: httpx.Response, status: int, code: str) -> None:
    """Pass when the answer is the problem document (RFC 9457) with this status and code."""
    assert (answer.status_code, answer.headers["content-type"]) == (status, PROBLEM_TYPE), answer.text
    body = answer.json()
    assert (body["status"], body["code"]) == (status, code)
    assert body["type"] == f"urn:fleetward:problem:{code}"


def add(apps: RealApps, device_id: str) -> None:
    assert apps.operator("POST", "/devices", json={"id": device_id, "model": "cam"}).status_code == 201


def publish(apps: RealApps, version: str = "1.0.0", **changed: Any) -> httpx.Response:
    fields = {"model": "cam", "version": version}
    files = {"sbom": ("s.json", SBOM), "image": ("i.bin", IMAGE)} | changed.pop("files", {})
    return apps.operator("POST", "/releases", data=fields | changed, files=files)


def test_a_model_is_added_once_and_listed(apps: RealApps) -> None:
    body = {"id": "vault", "attestation": "required", "min_tier": "tpm", "cert_lifetime": "15m"}
    added = apps.operator("POST", "/models", json=body)
    assert added.status_code == 201
    assert added.json() == {**body, "appraisal_lifetime": "6h"}
    assert [one["id"] for one in apps.operator("GET", "/models").json()] == ["cam", "vault"]
    assert_problem(apps.operator("POST", "/models", json={**body, "min_tier": "software"}), 409, "conflict")


@pytest.mark.parametrize(
    "change",
    [
        {"id": "a.b"},
        {"min_tier": "paper"},
        {"attestation": "maybe"},
        {"cert_lifetime": "1y"},
        {"colour": "red"},
    ],
)
def test_a_bad_model_is_refused(apps: RealApps, change: dict[str, str]) -> None:
    assert_problem(apps.operator("POST", "/models", json={"id": "m", **change}), 400, "invalid_input")


def test_devices_are_listed_by_page_and_filter(apps: RealApps) -> None:
    for number in range(5):
        add(apps, f"cam-{number}")
    first = apps.operator("GET", "/devices?limit=3").json()
    rest = apps.operator("GET", f"/devices?limit=3&after={first['next_after']}").json()
    assert [one["id"] for one in first["devices"] + rest["devices"]] == [f"cam-{n}" for n in range(5)]
    assert rest["next_after"] is None
    assert apps.operator("GET", "/devices?state=active").json()["devices"] == []
    assert [one["id"] for one in apps.operator("GET", "/devices?search=m-3").json()["devices"]] == ["cam-3"]
    for query in ("limit=0", "limit=9999", "state=odd", "search=" + "x" * 65):
        assert_problem(apps.operator("GET", f"/devices?{query}"), 400, "invalid_input")


def test_a_device_goes_through_its_life_by_the_routes(apps: RealApps) -> None:
    apps.enroll("cam-1", "cam")
    seen = [
        apps.operator("POST", f"/devices/cam-1/{verb}", json=REASON).json()["state"]
        for verb in ("quarantine", "release", "revoke", "retire")
    ]
    assert seen == ["quarantined", "active", "revoked", "retired"]
    for verb in ("quarantine", "release", "revoke"):
        assert apps.operator("POST", f"/devices/cam-1/{verb}", json=REASON).status_code == 409


@pytest.mark.parametrize("verb", ["quarantine", "release", "revoke", "retire"])
def test_verbs_are_refused_by_name(apps: RealApps, verb: str) -> None:
    assert_problem(apps.operator("POST", f"/devices/ghost/{verb}", json=REASON), 404, "not_found")
    add(apps, "cam-1")
    for body in ({"reason": ""}, {"reason": "x" * 201}, {"why": "x"}):
        assert_problem(apps.operator("POST", f"/devices/cam-1/{verb}", json=body), 400, "invalid_input")


def test_a_release_is_published_read_back_and_withdrawn(apps: RealApps) -> None:
    published = publish(apps)
    assert published.status_code == 201
    at = "/releases/cam/1.0.0"
    assert apps.operator("GET", at).json() == published.json()
    assert apps.operator("GET", f"{at}/image").content == IMAGE
    assert apps.operator("GET", f"{at}/sbom").content == SBOM
    assert json.loads(apps.operator("GET", f"{at}/manifest").content)["payloadType"]
    assert [one["version"] for one in apps.operator("GET", "/releases?model=cam").json()] == ["1.0.0"]
    assert set(apps.operator("GET", "/trust/updates").json()) == {"tuf_root", "firmware_keys"}
    withdrawn = apps.operator("POST", f"{at}/withdraw", json={"reason": "bricks"}).json()
    assert (withdrawn["state"], withdrawn["withdrawn_reason"]) == ("withdrawn", "bricks")


def test_a_release_that_is_not_there_is_said_to_be(apps: RealApps) -> None:
    for path in ("", "/image", "/sbom", "/manifest"):
        assert_problem(apps.operator("GET", f"/releases/cam/9.9.9{path}"), 404, "not_found")
    assert_problem(apps.operator("POST", "/releases/cam/9.9.9/withdraw", json=REASON), 404, "not_found")


def test_a_version_never_gets_another_image(apps: RealApps) -> None:
    assert publish(apps).status_code == publish(apps).status_code == 201
    assert_problem(publish(apps, files={"image": ("i.bin", b"other")}), 409, "release_conflict")


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"model": "ghost"}, 404), ({"version": "a/b"}, 400), ({"security_counter": "-1"}, 400),
        ({"colour": "red"}, 400), ({"files": {"sbom": ("s", b"[" * 90_000)}}, 400),
        ({"files": {"image": ("i", b"")}}, 400), ({"model": "x" * 300}, 413),
    ],
)  # fmt: skip
def test_a_bad_form_is_refused_and_leaves_no_upload(
    apps: RealApps, change: dict[str, Any], status: int
) -> None:
    answer = publish(apps, **change)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == PROBLEM_TYPE
    assert list(apps.rooms.updates.uploads.iterdir()) == []
    assert apps.operator("GET", "/releases").json() == []


@pytest.mark.parametrize("kept", [0, 40, 200, 3_000, 100_000])
def test_an_upload_cut_short_is_refused_and_leaves_nothing(apps: RealApps, kept: int) -> None:
    files = {"sbom": ("s.json", SBOM), "image": ("i.bin", IMAGE)}
    whole = httpx.Request("POST", "https://x", data={"model": "cam", "version": "1.0.0"}, files=files)
    headers = {"Content-Type": whole.headers["content-type"]}
    answer = apps.operator("POST", "/releases", content=whole.read()[:kept], headers=headers)
    assert_problem(answer, 400, "invalid_input")
    assert list(apps.rooms.updates.uploads.iterdir()) == []
    assert apps.operator("GET", "/releases").json() == []


def test_an_upload_without_room_is_refused_and_can_be_repeated(apps: RealApps) -> None:
    with small_disk(apps.rooms.updates.uploads, kib=64):
        refused = publish(apps)
        assert_problem(refused, 503, "unavailable")
        assert "disk space" in refused.json()["hint"]
        assert list(apps.rooms.updates.uploads.iterdir()) == []
    assert publish(apps).status_code == 201


def test_a_device_reads_its_models_metadata_and_artifacts_in_pieces(apps: RealApps) -> None:
    sha256 = publish(apps).json()["sha256"]
    peer = apps.enroll("cam-1", "cam")
    fresh = apps.device(peer, "GET", "/v1/tuf/cam/metadata/timestamp.json")
    assert fresh.json()["signed"]["_type"] == "timestamp"
    known = {"If-None-Match": fresh.headers["etag"]}
    assert apps.device(peer, "GET", "/v1/tuf/cam/metadata/timestamp.json", headers=known).status_code == 304
    target = f"/v1/tuf/cam/targets/cam/1.0.0/{sha256}.image"
    assert apps.device(peer, "GET", target).content == IMAGE
    head = apps.device(peer, "HEAD", target)
    assert (head.status_code, head.headers["content-length"], head.content) == (200, str(len(IMAGE)), b"")
    part = apps.device(peer, "GET", target, headers={"Range": "bytes=100-"})
    assert (part.status_code, part.content) == (206, IMAGE[100:])
    assert part.headers["content-range"] == f"bytes 100-{len(IMAGE) - 1}/{len(IMAGE)}"
    outside = apps.device(peer, "GET", target, headers={"Range": f"bytes={len(IMAGE)}-"})
    assert outside.status_code == 416


@pytest.mark.parametrize(
    "path",
    [
        "/v1/tuf/cam/metadata/9.root.json", "/v1/tuf/cam/metadata/..%2f..%2fkeys%2faudit.pem",
        "/v1/tuf/cam/metadata/root.json", "/v1/tuf/cam/targets/../../keys/audit.pem",
        f"/v1/tuf/cam/targets/cam/1.0.0/{'0' * 64}.image", "/v1/tuf/cam/targets/" + "x" * 5000,
    ],
)  # fmt: skip
def test_what_was_not_published_is_not_there(apps: RealApps, path: str) -> None:
    assert_problem(apps.device(apps.enroll("cam-1", "cam"), "GET", path), 404, "not_found")


@pytest.mark.parametrize(
    ("host", "is_ours"), [("fleet.test", True), ("evil.example", False), ("", False), ("fleet.test:1", False)]
)
def test_a_links_host_is_a_name_of_ours(apps: RealApps, host: str, is_ours: bool) -> None:
    apps.enroll("cam-1", "cam")
    url = apps.operator("POST", "/devices/cam-1/views", headers={"Host": host}).json()["url"]
    console = "https://fleet.test" if is_ours else apps.rooms.addresses.console
    assert url.startswith(f"{console}/watch/cam-1#")


@pytest.mark.parametrize("path", ["/api/v1/devices/", "/api/v1/health/", "/watch/cam-1/"])
def test_no_redirect_leads_where_a_request_says(apps: RealApps, path: str) -> None:
    found = AsgiClient(apps.console).request("GET", path, headers={"Host": "evil.example"})
    assert "evil.example" not in found.headers.get("location", "")
    device = AsgiClient(apps.devices).request(
        "GET", "/.well-known/est/cacerts/", headers={"Host": "evil.example"}
    )
    assert device.status_code == 404


def test_a_view_is_granted_by_a_ticket_that_works_once_and_closed(apps: RealApps) -> None:
    apps.enroll("cam-1", "cam")
    granted = apps.operator("POST", "/devices/cam-1/views")
    assert granted.status_code == 201
    view = granted.json()
    assert view["url"].endswith(f"/watch/cam-1#{view['ticket']}")
    with apps.rooms.db.write("t") as tx:
        assert media.redeem_ticket(tx, view["ticket"]).id == view["id"]
    with pytest.raises(TicketRefusedError, match="used"), apps.rooms.db.write("t") as tx:
        media.redeem_ticket(tx, view["ticket"])
    for _ in range(2):
        assert apps.operator("DELETE", f"/views/{view['id']}").status_code == 204
    assert_problem(apps.operator("DELETE", "/views/view_nobody"), 404, "not_found")


def test_views_that_ended_long_ago_are_forgotten(apps: RealApps, clock: ManualClock) -> None:
    apps.enroll("cam-1", "cam")
    for _ in range(2):
        assert apps.operator("POST", "/devices/cam-1/views").status_code == 201
    with apps.rooms.db.write("t") as tx:
        assert media.forget_old(tx) == 0
    clock.advance(timedelta(days=31))
    with apps.rooms.db.write("t") as tx:
        assert media.forget_old(tx) == 2


def test_no_view_of_a_device_without_a_verified_session(apps: RealApps) -> None:
    apps.enroll("cam-1", "cam")
    apps.operator("POST", "/devices/cam-1/quarantine", json=REASON)
    refused = apps.operator("POST", "/devices/cam-1/views")
    assert refused.status_code == 409
    assert refused.json()["reason"]
    assert_problem(apps.operator("POST", "/devices/ghost/views"), 404, "not_found")


def test_the_page_is_served_with_a_strict_policy_and_names_are_checked(apps: RealApps) -> None:
    console = AsgiClient(apps.console)
    page = console.get("/watch/cam-1")
    assert page.status_code == 200
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert console.get("/static/media/watch.js").status_code == 200
    assert_problem(console.get("/static/media/..%2frelay.py"), 404, "not_found")
    assert_problem(console.get("/watch/a.b"), 400, "invalid_input")


def test_the_audit_log_is_searched_and_its_checkpoints_signed(apps: RealApps) -> None:
    add(apps, "cam-1")
    found = apps.operator("GET", "/audit/entries?action=device.registered").json()["entries"]
    assert [(one["actor"], one["subject"]) for one in found] == [("operator:admin", "device:cam-1")]
    page = apps.operator("GET", "/audit/entries?limit=1").json()
    assert page["next_after"] == 0
    log = apps.operator("GET", "/audit/checkpoints").json()
    assert log["head"]["note"].startswith("fleet.test/audit\n")
    for query in ("limit=0", "limit=99999", "after=x"):
        assert_problem(apps.operator("GET", f"/audit/entries?{query}"), 400, "invalid_input")


def test_events_are_read_by_device_time_and_page(apps: RealApps) -> None:
    for number in (1, 2):
        add(apps, f"cam-{number}")
    found = apps.operator("GET", "/events?device=cam-1").json()["events"]
    assert found[0]["kind"] == "device.registered"
    assert {one["device"] for one in found} == {"cam-1"}
    page = apps.operator("GET", "/events?limit=1").json()
    assert page["next_after"] == page["events"][0]["id"]
    assert apps.operator("GET", "/events?since=2099-01-01T00:00:00Z").json()["events"] == []
    for query in ("since=yesterday", "limit=0", "after=x"):
        assert_problem(apps.operator("GET", f"/events?{query}"), 400, "invalid_input")
