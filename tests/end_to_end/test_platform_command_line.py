"""The command contract, against a platform started as users start it."""

import ipaddress
import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fleetward.base.errors import UnavailableError
from fleetward.base.layout import DataFolder
from fleetward.outside.http.platform import Api, _local_address, find_platform
from support.platform import Platform, running_platform


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    with running_platform(tmp_path_factory.mktemp("platform")) as started:
        yield started


def test_ready_names_every_listener(platform: Platform) -> None:
    ready, base = platform.ready, platform.port_base
    assert ready["console"] == f"https://localhost:{base}"
    assert ready["devices"] == f"https://localhost:{base + 1}"
    assert ready["mqtt"] == f"localhost:{base + 2}"
    assert ready["dtls"] == f"localhost:{base + 4}"
    assert Path(ready["ca_file"]).read_bytes().startswith(b"-----BEGIN CERTIFICATE-----")


@pytest.mark.parametrize(
    ("listen", "address"),
    [("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "127.0.0.1"), ("::", "::1"), ("10.9.8.7", "10.9.8.7")],  # noqa: S104
)
def test_the_local_address_is_that_of_the_listener(tmp_path: Path, listen: str, address: str) -> None:
    folder = DataFolder(tmp_path)
    folder.config.write_text(f'listen = "{listen}"')
    assert _local_address(folder) == address


def test_a_data_folder_leads_to_its_listener_whatever_dns_says(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolve = socket.getaddrinfo

    def no_names(host: str, *more: Any, **further: Any) -> Any:
        ipaddress.ip_address(host)  # raises for a name
        return resolve(host, *more, **further)

    monkeypatch.setattr(socket, "getaddrinfo", no_names)
    assert find_platform(platform.data).get("/health")["status"] == "ok"
    token = (platform.data / "admin.token").read_text().strip()
    other = Api(f"https://other.test:{platform.port_base}", token, platform.ca_file, address="127.0.0.1")
    with pytest.raises(UnavailableError, match="expected a certificate"):
        other.get("/health")


def test_secrets_are_readable_by_the_owner_alone(platform: Platform) -> None:
    open_to_others = [
        path
        for path in platform.data.rglob("*")
        if path.is_file() and path.stat().st_mode & 0o077 and path.parent.name != "ca"
        and path.suffix in {".pem", ".key", ".seed", ".token", ".toml"}
    ]  # fmt: skip
    assert open_to_others == []
    assert platform.data.stat().st_mode & 0o077 == 0


def test_a_device_is_added_shown_and_audited(platform: Platform) -> None:
    platform.run_json("model", "add", "meter", "--attestation", "none")
    added = platform.run_json("device", "add", "meter-1", "--model", "meter")
    assert added["id"] == "meter-1"
    assert len(added["claim"]) >= 32
    assert added["est_url"].endswith("/.well-known/est")
    assert Path(added["ca_file"]).is_file()
    assert platform.run_json("device", "show", "meter-1")["state"] == "registered"
    events = [
        json.loads(line)
        for line in platform.run("events", "--device", "meter-1", "--json").stdout.splitlines()
    ]
    assert events[0]["kind"] == "device.registered"
    assert set(events[0]) >= {"time", "kind", "device", "severity", "message", "details"}
    assert platform.run_json("audit", "verify")["verified"] is True


def test_a_command_that_was_not_done_exits_with_one_and_says_why(platform: Platform) -> None:
    platform.run_json("model", "add", "away", "--attestation", "none")
    platform.run_json("device", "add", "away-1", "--model", "away")
    for as_json in ((), ("--json",)):
        found = platform.run("device", "command", "away-1", "ping", "--timeout", "1", *as_json, check=False)
        assert found.returncode == 1
        assert "device" in found.stdout
    assert "did not answer in time" in platform.run(
        "device", "command", "away-1", "ping", "--timeout", "1", check=False
    ).stdout  # fmt: skip


def test_many_devices_are_listed_explained_and_acted_on(platform: Platform) -> None:
    platform.run_json("model", "add", "lamp", "--attestation", "none")
    for number in range(3):
        platform.run_json("device", "add", f"lamp-{number}", "--model", "lamp", "--group", "hall")
    listed = platform.run_json("device", "list", "--group", "hall", "--sort", "-id", "--limit", "2")
    assert [one["id"] for one in listed] == ["lamp-2", "lamp-1"]
    questions = platform.run_json("device", "why", "lamp-0")["questions"]
    assert questions[0]["code"] == "never_enrolled"
    assert platform.run_json("device", "firmware", "lamp-0")["running"] is None
    shown = platform.run_json("device", "bulk", "retire", "--group", "hall", "--reason", "sold")
    assert (shown["will_change"], shown["applied"]) == (3, False)
    done = platform.run_json("device", "bulk", "retire", "--group", "hall", "--reason", "sold", "--apply")
    assert (done["will_change"], done["applied"]) == (3, True)
    assert platform.run_json("device", "show", "lamp-1")["state_reason"] == "sold"
    assert platform.run("device", "bulk", "retire", check=False).returncode == 2, "all needs --all"


def test_an_alert_leaves_today_once_it_is_acknowledged(platform: Platform) -> None:
    platform.run_json("model", "add", "bell", "--attestation", "none")
    platform.run_json("device", "add", "bell-1", "--model", "bell")
    platform.run_json("device", "revoke", "bell-1", "--reason", "lost")

    def alerts() -> list[int]:
        cards = platform.run_json("today")["cards"]
        items = [item for card in cards if card["kind"] == "alerts" for item in card["items"]]
        return [item["event"] for item in items if item["device"] == "bell-1"]

    numbers = alerts()
    assert numbers
    platform.run("events", "ack", *map(str, numbers), "--note", "found again", "--json")
    assert alerts() == []
    found = {one["id"]: one for one in platform.run_json("checklist")}
    assert found["files_private"]["state"] == "ok"
    assert found["root_key_offline"]["state"] == "warn"
    for people in (
        ("today",),
        ("checklist",),
        ("device", "why", "bell-1"),
        ("device", "list", "--state", "revoked"),
    ):
        assert platform.run(*people).stdout.strip()


def test_the_claim_is_in_no_log_and_no_event(platform: Platform) -> None:
    platform.run_json("model", "add", "quiet", "--attestation", "none")
    claim = platform.run_json("device", "add", "quiet-1", "--model", "quiet")["claim"]
    assert claim not in platform.log.read_text()
    assert claim not in json.dumps(platform.events())
    assert claim not in platform.run("audit", "search", "--json").stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("device", "show", "nobody"), "nobody"),
        (("device", "add", "a.b", "--model", "meter"), "device id"),
        (("device", "add", "x", "--model", "nothing"), "model nothing"),
        (("model", "add", "m", "--cert-lifetime", "1y"), "cert_lifetime"),
    ],
)
def test_an_error_is_one_clear_line(platform: Platform, arguments: tuple[str, ...], said: str) -> None:
    failed = platform.run(*arguments, check=False)
    assert failed.returncode == 1
    assert said in failed.stderr
    assert "Traceback" not in failed.stderr


def test_a_stranger_gets_nothing(platform: Platform) -> None:
    command = [
        sys.executable, "-m", "fleetward", "--server", platform.ready["console"], "--ca-file",
        str(platform.ca_file),
        "--token", "x" * 43, "device", "list", "--json",
    ]  # fmt: skip
    failed = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert failed.returncode == 1
    assert json.loads(failed.stderr)["error"]["code"] == "unauthenticated"
    assert any(event["kind"] == "access.refused" for event in platform.events())


def test_a_second_platform_on_the_folder_is_refused(platform: Platform) -> None:
    command = [sys.executable, "-m", "fleetward", "up", "--data", str(platform.data), "--no-demo"]
    failed = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert failed.returncode == 1
    assert "found one" in failed.stderr
    assert "Traceback" not in failed.stderr


def test_init_leaves_a_running_platform_alone(platform: Platform) -> None:
    before = {path: path.read_bytes() for path in (platform.data / "keys").iterdir()}
    failed = platform.run("init", "--json", check=False)
    assert failed.returncode == 1
    assert json.loads(failed.stderr)["error"]["code"] == "conflict"
    assert {path: path.read_bytes() for path in (platform.data / "keys").iterdir()} == before
