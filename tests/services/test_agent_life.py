"""Whole agents as processes, on a small platform: enroll, connect, hand over, renew, be killed, come back."""

import itertools
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from fleetward.base.agent_config import Pkcs11Keys, render_agent_config
from fleetward.base.clock import SystemClock, parse_time
from fleetward.features.pki import service as pki
from fleetward.programs.agent.run import EXIT_REBOOT
from fleetward.programs.cli.main import cli
from support.agent_platform import AgentHost, SmallPlatform, small_platform, wait_for
from support.clock import OffsetClock
from support.softhsm import make_token

_names = (f"cam-{number}" for number in itertools.count(1))


@dataclass(kw_only=True)
class Host(AgentHost):
    """A device of the small platform."""

    platform: SmallPlatform


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SmallPlatform]:
    with small_platform(tmp_path_factory.mktemp("platform")) as started:
        yield started


@pytest.fixture
def host(platform: SmallPlatform, tmp_path: Path) -> Iterator[Host]:
    made = Host(platform.where, next(_names), tmp_path, platform=platform)
    yield made
    made.kill()


def enroll(host: Host, *, lifetime_s: int = 86_400) -> None:
    host.give_claim(host.platform.add_device(host.device_id, lifetime_s=lifetime_s))
    host.start()
    wait_connected(host)


def wait_connected(host: Host) -> None:
    wait_for(lambda: host.status.get("session", {}).get("connected"), "a session")


def readings(host: Host, stream: str) -> list[Any]:
    """Return what came of a stream, each message once, in order."""
    seen: dict[str, Any] = {}
    for envelope in host.platform.published(f"d/{host.device_id}/t/{stream}"):
        seen.setdefault(envelope["id"], envelope["value"])
    return list(seen.values())


def certificates(host: Host) -> list[Any]:
    with host.platform.db.read() as tx:
        return pki.list_certificates(tx, host.device_id)


def test_a_claim_leads_to_a_session_and_its_file_is_gone(host: Host) -> None:
    enroll(host)
    wait_for(lambda: not (host.folder / "claim").exists(), "the claim to be deleted")
    assert host.status["enrollment"]["phase"] == "enrolled"
    assert (host.config.state_dir.stat().st_mode & 0o777) == 0o700
    assert host.config.agent_socket.stat().st_mode & 0o077 == 0
    host.stop()
    assert "claim" not in (host.folder / "agent.log").read_text()


def test_what_the_application_says_arrives(host: Host) -> None:
    enroll(host)
    host.say(
        {"stream": "temp", "value": {"celsius": 20.5}},
        {"log": {"event": "door_opened"}},
        {"report": {"camera": {"resolution": "640x480"}}},
        {"health": "ok"},
    )
    wait_for(lambda: readings(host, "temp") == [{"celsius": 20.5}], "the reading")
    logs = f"d/{host.device_id}/log"
    wait_for(
        lambda: {"event": "door_opened"} in [e["value"] for e in host.platform.published(logs)], "the log"
    )
    shadow = f"d/{host.device_id}/shadow/reported"
    wait_for(lambda: "camera" in host.platform.published(shadow)[-1]["state"], "the shadow")
    metrics = host.platform.published(f"d/{host.device_id}/metrics")[0]["value"]
    assert metrics["rss_bytes"] > 0
    wait_for(lambda: host.status["application"] == "ok", "the health")


def test_nonsense_from_the_application_stops_nothing(host: Host) -> None:
    enroll(host)
    for nonsense in ({}, {"stream": "a/b", "value": 1}, {"health": 7}, {"stream": "x", "value": 1, "z": 1}):
        host.say(nonsense)
    host.say({"stream": "temp", "value": 1})
    wait_for(lambda: readings(host, "temp") == [1], "the reading")
    assert host.is_logged("application_message_unusable")


def test_nothing_is_lost_while_the_broker_is_away_or_the_agent_killed(
    host: Host, platform: SmallPlatform
) -> None:
    enroll(host)
    for number in range(50):
        host.say({"stream": "count", "value": number})
    platform.kill_broker()
    for number in range(50, 100):
        host.say({"stream": "count", "value": number})
    wait_for(lambda: host.count_queued() >= 50, "a queue")
    host.kill()
    host.start()
    platform.start_broker()
    wait_for(lambda: set(range(50, 100)) <= set(readings(host, "count")), "everything")
    # What was on its way when the broker died was acknowledged, or is sent again: the broker's stream has it.
    wait_for(lambda: host.count_queued() == 0, "an empty queue")
    order = [value for value in readings(host, "count") if value >= 50]
    assert order == sorted(order)


def test_it_renews_in_time_with_a_new_key_and_switches_without_a_gap(host: Host) -> None:
    enroll(host, lifetime_s=10)
    host.say({"stream": "count", "value": 1})
    wait_for(lambda: len(certificates(host)) >= 2, "a second certificate", timeout_s=60)
    wait_for(
        lambda: (
            [e["certificate"] for e in host.log_events() if e["event"] == "session_opened"][:2]
            == ["device-1", "device-2"]
        ),
        "a session with it",
    )
    host.say({"stream": "count", "value": 2})
    wait_for(lambda: readings(host, "count") == [1, 2], "both readings")
    keys = host.folder / "keys"
    wait_for(lambda: [p.name for p in keys.glob("device-*")] == ["device-2.key.pem"], "the old key's end")
    assert not host.is_logged("session_refused")


def test_an_expired_device_waits_for_a_new_claim_and_comes_back(host: Host, platform: SmallPlatform) -> None:
    enroll(host, lifetime_s=10)
    host.kill()
    wait_for(lambda: certificates(host)[0].not_after < platform.db.clock.now(), "its end", timeout_s=60)
    host.start()
    wait_for(lambda: host.is_logged("claim_needed"), "a call for the operator")
    assert not host.status["session"]["connected"]
    host.give_claim(platform.add_claim(host.device_id))
    wait_connected(host)


def test_a_claim_of_another_device_is_refused_with_the_reason(host: Host, platform: SmallPlatform) -> None:
    platform.add_device(host.device_id)
    host.give_claim(platform.add_device(f"{host.device_id}-other"))
    host.start()
    wait_for(lambda: "claim" in host.status.get("enrollment", {}).get("last_failure", ""), "a refusal")
    assert host.status["enrollment"]["certificate"] is None


def test_it_waits_out_a_server_that_is_away(host: Host, platform: SmallPlatform) -> None:
    platform.stop_server()
    host.give_claim(platform.add_device(host.device_id))
    host.start()
    wait_for(lambda: host.is_logged("enrollment_attempt_failed"), "a first failure")
    platform.start_server()
    wait_connected(host)


@pytest.mark.parametrize("days", [400, -400])
def test_a_device_whose_clock_is_wrong_gets_signed_time_first(tmp_path: Path, days: int) -> None:
    """The platform lives in another year; to it, this machine's clock is as wrong as one that lost power."""
    elsewhen = SmallPlatform(tmp_path, clock=OffsetClock(SystemClock(), days * 86_400))
    elsewhen.start_server()
    host = Host(elsewhen.where, "cam-1", tmp_path / "host", platform=elsewhen)
    try:
        host.give_claim(elsewhen.add_device("cam-1"))
        host.start()
        wait_for(lambda: host.status.get("enrollment", {}).get("phase") == "enrolled", "a certificate")
        assert host.status["clock_corrected"]
        assert host.is_logged("clock_corrected")
        expected = elsewhen.db.clock.now() + timedelta(days=1)
        found = parse_time(host.status["enrollment"]["not_after"])
        assert abs(found - expected) < timedelta(minutes=5)
    finally:
        host.kill()
        elsewhen.stop()


def command(number: int, name: str, **args: Any) -> bytes:
    body = {"id": number, "name": name, "args": args, "expires_at": "2100-01-01T00:00:00Z"}
    return json.dumps(body).encode()


def result(host: Host, number: int) -> Any:
    topic = f"d/{host.device_id}/cmd/{number}/result"
    return wait_for(lambda: host.platform.published(topic), f"result {number}")[-1]


def test_commands_are_answered_and_unknown_ones_refused(host: Host, platform: SmallPlatform) -> None:
    enroll(host)
    topic = f"d/{host.device_id}/cmd"
    platform.send(f"{topic}/1", command(1, "ping"))
    assert result(host, 1)["ok"]
    platform.send(f"{topic}/2", command(2, "report"))
    assert result(host, 2)["output"]["rss_bytes"] > 0
    platform.send(f"{topic}/3", command(3, "make-coffee"))
    assert "make-coffee" in result(host, 3)["error"]
    platform.send(f"{topic}/4", command(4, "attest-now"))
    assert "no TPM" in result(host, 4)["error"]
    platform.send(f"{topic}/5", command(5, "renew-now"))
    assert result(host, 5)["ok"]
    wait_for(lambda: len(certificates(host)) == 2, "a renewal")
    platform.send(f"{topic}/6", b"not a command")
    platform.send(f"{topic}/7", command(7, "ping"))
    assert result(host, 7)["ok"]


def test_a_reboot_ends_the_agent_and_is_reported_after_it(host: Host, platform: SmallPlatform) -> None:
    enroll(host)
    wait_for(lambda: host.platform.published(f"d/{host.device_id}/shadow/reported"), "the subscription")
    platform.send(f"d/{host.device_id}/cmd/1", command(1, "reboot"))
    assert host.wait() == EXIT_REBOOT
    reports = len(host.platform.published(f"d/{host.device_id}/shadow/reported"))
    host.start()
    wait_connected(host)
    wait_for(
        lambda: len(host.platform.published(f"d/{host.device_id}/shadow/reported")) > reports, "the same"
    )
    platform.send(f"d/{host.device_id}/cmd/1", command(1, "reboot"))
    assert result(host, 1) == {"ok": True, "output": "restarted", "error": ""}


def test_the_desired_interval_is_taken_up_and_kept(host: Host, platform: SmallPlatform) -> None:
    enroll(host)
    shadow = f"d/{host.device_id}/shadow"
    wait_for(lambda: platform.published(f"{shadow}/reported"), "the shadow")
    desired = {"version": 1, "state": {"telemetry": {"interval": "7s"}, "lamp": "on"}}
    platform.send(f"{shadow}/desired", json.dumps(desired).encode())
    wait_for(lambda: platform.published(f"{shadow}/reported")[-1]["desired_version"] == 1, "an answer")
    assert platform.published(f"{shadow}/reported")[-1]["state"]["telemetry"] == {"interval": "7s"}
    assert json.loads((host.config.state_dir / "desired.json").read_bytes())["lamp"] == "on"
    host.kill()
    platform.messages.clear()
    host.start()
    wait_connected(host)
    wait_for(lambda: platform.published(f"{shadow}/reported"), "the shadow")
    assert platform.published(f"{shadow}/reported")[-1]["state"]["telemetry"] == {"interval": "7s"}


def test_sigterm_ends_it_within_two_seconds_and_leaves_its_status(host: Host) -> None:
    enroll(host)
    started = time.monotonic()
    assert host.stop() == 0
    took_s = time.monotonic() - started
    assert host.status["state"] == "stopped"
    assert took_s < 10  # two are promised; a busy machine gets more


def test_status_tells_a_running_agent_from_a_killed_one(host: Host) -> None:
    def state() -> str:
        arguments = ["agent", "status", "--config", str(host.config_file), "--json"]
        found = CliRunner().invoke(cli, arguments)
        return str(json.loads(found.output)["state"])

    assert state() == "never started"
    enroll(host)
    assert state() == "running"
    host.kill()
    assert state() == "killed"


def test_two_agents_on_one_state_folder_do_not_start(host: Host) -> None:
    enroll(host)
    second = AgentHost(host.where, host.device_id, host.folder)
    second.start()
    assert second.wait() == 1
    assert "found one running" in (host.folder / "agent.log").read_text()


def test_wrong_settings_are_one_clear_line(host: Host) -> None:
    text = render_agent_config(host.config).decode()
    host.config_file.write_text(text.replace("device_id", "device_name"))
    host.start()
    assert host.wait() == 1
    log = (host.folder / "agent.log").read_text()
    assert "device_" in log
    assert "Traceback" not in log


def test_keys_can_live_in_a_token(platform: SmallPlatform, tmp_path: Path) -> None:
    token = make_token(tmp_path)
    pin = tmp_path / "pin"
    pin.write_text(token.pin)
    pin.chmod(0o600)
    keys = Pkcs11Keys(module=token.module, token=token.label, pin_file=pin)
    host = Host(platform.where, next(_names), tmp_path / "host", keys, platform=platform)
    try:
        enroll(host)
        host.say({"stream": "temp", "value": 1})
        wait_for(lambda: readings(host, "temp") == [1], "the reading")
        assert host.status["keys"]["tier"] == "pkcs11"
    finally:
        host.kill()


def test_a_kill_at_any_moment_is_recovered_from(host: Host) -> None:
    """Killed ten times while it enrolls and connects, then left alone."""
    host.give_claim(host.platform.add_device(host.device_id))
    for attempt in range(10):
        host.start()
        time.sleep(0.25 + 0.11 * attempt)
        host.kill()
    host.start()
    wait_connected(host)
    host.say({"stream": "temp", "value": 1})
    wait_for(lambda: readings(host, "temp") == [1], "the reading")
    assert len(list((host.folder / "keys").glob("device-*"))) == 1
