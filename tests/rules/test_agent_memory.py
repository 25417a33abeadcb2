"""What an agent does not load before it needs it. A device pays for each library for as long as it runs."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from fleetward.programs.agent.entry import Run, parse_run

# What only some devices need: update client, camera's line, chips; and what no agent needs.
_NOT_AT_IDLE = (
    "tuf", "securesystemslib", "urllib3", "requests", "websockets", "asyncio", "tpm2_pytss", "pkcs11",
    "click", "rich", "segno", "structlog", "fleetward.programs.cli",
    "fleetward.features.updates.device.machine", "fleetward.programs.agent.abilities.updates.runner",
    "fleetward.outside.tuf", "fleetward.outside.media", "fleetward.outside.keys.tpm",
    "fleetward.outside.keys.pkcs11", "fleetward.programs.agent.boot",
)  # fmt: skip
_LOOK = """
import json, sys
import fleetward.__main__
sys.argv = ["fleetward", "agent", "run", "--config", sys.argv[1]]
import fleetward.programs.agent.loop as loop
loop.Loop.run = lambda self: print(json.dumps(sorted(sys.modules)))
fleetward.__main__.main()
"""


def load_of(folder: Path, sections: str = "") -> set[str]:
    """Return which modules an agent has loaded when its loop begins."""
    (folder / "root.pem").write_text("")
    config = folder / "agent.toml"
    config.write_text(
        'device_id = "cam-1"\nserver = "https://localhost:1"\nmqtt = "localhost:1"\nca_file = "root.pem"\n'
        f'state_dir = "state"\n{sections}\n[keys]\nkind = "software"\nfolder = "keys"\n'
    )
    done = subprocess.run(
        [sys.executable, "-c", _LOOK, str(config)], capture_output=True, text=True, check=True
    )
    return set(json.loads(done.stdout))


def heavy(loaded: set[str]) -> list[str]:
    return [name for name in _NOT_AT_IDLE if any(f"{one}.".startswith(f"{name}.") for one in loaded)]


def test_an_agent_at_rest_has_loaded_no_library_it_does_not_need(tmp_path: Path) -> None:
    loaded = load_of(tmp_path)
    assert "fleetward.programs.agent.agent" in loaded
    assert "paho.mqtt.client" in loaded
    assert heavy(loaded) == []


def test_a_camera_s_library_waits_for_its_session(tmp_path: Path) -> None:
    assert heavy(load_of(tmp_path, '[video]\nsource = "test"')) == []


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        ("agent run --config a.toml", Run(Path("a.toml"), is_degraded=False)),
        ("agent run --config=a=b.toml", Run(Path("a=b.toml"), is_degraded=False)),
        ("agent run --degraded --config a.toml", Run(Path("a.toml"), is_degraded=True)),
        ("agent run --config a.toml --degraded", Run(Path("a.toml"), is_degraded=True)),
        ("agent run", None),
        ("agent run --config", None),
        ("agent run --config=", None),
        ("agent run --config /", None),
        ("agent run --degraded", None),
        ("agent run --degraded=yes --config a.toml", None),
        ("agent run --config a.toml extra", None),
        ("agent run --config a.toml --help", None),
        ("agent boot --config a.toml", None),
        ("--data x agent run --config a.toml", None),
        ("", None),
    ],
)
def test_only_a_right_run_is_the_agents_own(arguments: str, meant: Run | None) -> None:
    assert parse_run(arguments.split()) == meant
