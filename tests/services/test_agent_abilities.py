"""A made-up ability in a whole agent: it takes part in everything, and ends nothing when it fails."""

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.agent_platform import AgentHost, SmallPlatform, small_platform, wait_for
from support.agent_probe import Probe

_names = (f"able-{number}" for number in itertools.count(1))
_TESTS = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SmallPlatform]:
    with small_platform(tmp_path_factory.mktemp("platform")) as started:
        yield started


@pytest.fixture
def host(platform: SmallPlatform, tmp_path: Path) -> Iterator[AgentHost]:
    """A device whose agent has the probe among its abilities."""
    made = AgentHost(
        platform.where,
        next(_names),
        tmp_path,
        environment={"PYTHONPATH": str(_TESTS)},
        program=("support.agent_probe",),
    )
    made.give_claim(platform.add_device(made.device_id))
    yield made
    made.kill()


def configure(host: AgentHost, section: str) -> None:
    host.config_file.write_text(f"{host.config_file.read_text()}\n[probe]\n{section}\n")


def start(host: AgentHost) -> None:
    host.start()
    wait_for(lambda: host.status.get("session", {}).get("connected"), "a session")


def seen(host: AgentHost) -> set[str]:
    return {entry["hook"] for entry in host.log_events() if entry["event"] == "probed"}


def failures(host: AgentHost) -> list[dict[str, Any]]:
    return [entry for entry in host.log_events() if entry["event"] == "ability_failed"]


def values(host: AgentHost, platform: SmallPlatform, stream: str) -> list[Any]:
    return [one["value"] for one in platform.published(f"d/{host.device_id}/t/{stream}")]


def ask(host: AgentHost, platform: SmallPlatform, number: int, name: str) -> Any:
    """Return the result of a command."""
    command = {"id": number, "name": name, "args": {}, "expires_at": "2100-01-01T00:00:00Z"}
    topic = f"d/{host.device_id}/cmd/{number}"
    platform.send(topic, json.dumps(command).encode())
    return wait_for(lambda: platform.published(f"{topic}/result"), f"result {number}")[-1]


def test_an_ability_takes_part_in_everything(host: AgentHost, platform: SmallPlatform) -> None:
    start(host)
    shadow = f"d/{host.device_id}/shadow"
    wait_for(lambda: platform.published(f"{shadow}/reported"), "the shadow")
    assert platform.published(f"{shadow}/reported")[-1]["state"]["probe"] == {"is": "here"}
    host.say(*({"stream": stream, "value": 1} for stream in ("mine", "secret", "fine", "plain")))
    wait_for(lambda: values(host, platform, "plain") == [1], "the last reading")
    assert [values(host, platform, one) for one in ("mine", "secret", "fine")] == [[], [], ["coarse"]]
    assert ask(host, platform, 1, "probe-now") == {"ok": True, "output": "probed", "error": ""}
    platform.send(f"{shadow}/desired", json.dumps({"version": 1, "state": {"lamp": "on"}}).encode())
    wait_for(lambda: platform.published(f"{shadow}/reported")[-1]["desired_version"] == 1, "an answer")
    assert host.status["probe"] == "well"
    platform.kill_broker()
    wait_for(lambda: "on_refused" in seen(host), "a refusal")
    platform.start_broker()
    assert host.stop() == 0
    assert seen(host) == {
        "start", "timer", "work", "done", "thread", "on_keys", "on_identity", "on_session", "on_refused",
        "on_desired", "allows_session", "perform", "going_up", "from_application", "status", "stop",
    }  # fmt: skip
    assert failures(host) == []


@pytest.mark.parametrize("hook", ["start", "thread", "on_session", "going_up", "status"])
def test_one_that_raises_ends_neither_the_agent_nor_another(
    host: AgentHost, platform: SmallPlatform, hook: str
) -> None:
    configure(host, f'raises = ["{hook}"]')
    start(host)
    wait_for(lambda: len(failures(host)) >= 2, "a second try")
    first, second = failures(host)[:2]
    assert (first["ability"], first["hook"], first["code"]) == ("probe", hook, "unavailable")
    assert (first["failures"], second["failures"]) == (1, 2)
    host.say({"stream": "plain", "value": 1}, {"health": "ok"})
    wait_for(lambda: values(host, platform, "plain") == [1], "a reading")
    assert ask(host, platform, 1, "ping")["ok"]
    assert ask(host, platform, 2, "report")["ok"]
    wait_for(lambda: host.status["application"] == "ok", "the health")
    told = [one["value"] for one in platform.published(f"d/{host.device_id}/log")]
    assert {one["ability"] for one in told if one.get("event") == "agent.ability_failed"} == {Probe.name}
    assert host.process is not None
    assert host.process.poll() is None
    assert "Traceback" not in (host.folder / "agent.log").read_text()


def test_one_that_raised_once_is_made_anew_and_told_what_it_missed(host: AgentHost) -> None:
    configure(host, 'raises = ["on_session"]\nis_once = true')
    start(host)
    wait_for(lambda: host.is_logged("ability_restarted"), "its return")
    wait_for(lambda: "on_session" in seen(host), "the session it had missed")
    wait_for(lambda: host.status["probe"] == "well", "its status")
    assert len(failures(host)) == 1


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ("sneeze = 1", "probe: Object contains unknown field `sneeze`"),
        ('raises = ["nothing"]', "probe.raises: expected hooks, found nothing"),
    ],
)
def test_its_settings_are_its_own_to_refuse(host: AgentHost, section: str, said: str) -> None:
    configure(host, section)
    host.start()
    assert host.wait() == 1
    assert said in (host.folder / "agent.log").read_text()


def test_settings_of_an_ability_the_agent_does_not_have_stop_it(host: AgentHost) -> None:
    configure(host, "is_once = true")
    host.program = ("fleetward", "agent", "run", "--config")
    host.start()
    assert host.wait() == 1
    log = (host.folder / "agent.log").read_text()
    assert "probe: expected a section this agent knows (firmware, keys, spool, telemetry, video)" in log
