"""The device's side on its base install: memory of a connected agent, and how fast the command line is there.

Both from an environment of their own, made by `uv pip install .` without extras. Beside the agent: the least
program that holds a session, a paho-mqtt client with the same certificate on the same broker.
"""

import json
import shutil
import statistics
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from bench.rig import Device, Result, Rig, platform, wait_for
from fleetward.base.agent_config import AgentConfig, SoftwareKeys, render_agent_config
from fleetward.base.files import write_secret

_ROOT = Path(__file__).parents[1]
_CONNECT_TIMEOUT_S = 60
_CALM_S = 15
_STARTS = 21
_PAHO = """
import ssl, sys, time
import paho.mqtt.client as mqtt
ca, chain, key, name, port, connected = sys.argv[1:]
client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id=name, protocol=mqtt.MQTTv311)
context = ssl.create_default_context(cafile=ca)
context.load_cert_chain(chain, key)
client.tls_set_context(context)
client.on_connect = lambda c, u, f, reason, p: reason.is_failure or open(connected, "w").close()
client.connect("localhost", int(port))
client.loop_start()
while True:
    client.publish(f"d/{name}/t/temperature", b"21.5", qos=1)
    time.sleep(1)
"""


def run(folder: Path) -> list[Result]:
    """Return memory in MB (10^6 bytes of VmRSS) and start time in ms, the median of several starts."""
    programs = _install(folder / "base")
    with platform(folder) as rig:
        [device] = rig.enroll(1)
        agent_mb = _measure_agent(rig, folder / "agent", programs)
        paho_mb = _measure_paho(rig, folder, programs, device)
    help_ms = _time_starts([str(programs / "fleetward"), "--help"])
    python_ms = _time_starts([str(programs / "python"), "-c", "pass"])
    return [
        Result("agent resident, base install", "MB", agent_mb, "bare paho-mqtt client", paho_mb, "< 45 MB"),
        Result("fleetward --help", "ms", help_ms, "python -c pass", python_ms, "< 150 ms"),
    ]


def _install(venv: Path) -> Path:
    """Return the folder of programs of a fresh environment with the base install, compiled."""
    uv = shutil.which("uv") or str(_ROOT / ".dev" / "bin" / "uv")
    subprocess.run([uv, "venv", "--quiet", str(venv)], check=True)
    command = [
        uv,
        "pip",
        "install",
        "--quiet",
        "--compile-bytecode",
        "--python",
        str(venv / "bin" / "python"),
    ]
    subprocess.run([*command, str(_ROOT)], check=True)
    return venv / "bin"


def _measure_agent(rig: Rig, folder: Path, programs: Path) -> float:
    folder.mkdir()
    claim = rig.api.post("/devices", {"id": "agent", "model": "bench"})["claim"]
    config = AgentConfig(
        device_id="agent",
        server=f"https://localhost:{rig.port_base + 1}",
        mqtt=f"localhost:{rig.mqtt_port}",
        ca_file=rig.ca_file,
        state_dir=folder / "state",
        keys=SoftwareKeys(folder / "keys"),
        claim_file=folder / "claim",
    )
    write_secret(folder / "claim", claim.encode())
    (folder / "agent.toml").write_bytes(render_agent_config(config))

    def is_connected() -> bool:
        if not config.status_file.exists():
            return False
        return bool(json.loads(config.status_file.read_bytes())["session"]["connected"])

    command = [str(programs / "fleetward"), "agent", "run", "--config", str(folder / "agent.toml")]
    with _running(command, folder / "agent.log") as process:
        wait_for(is_connected, _CONNECT_TIMEOUT_S)
        time.sleep(_CALM_S)
        return _resident_mb(process.pid)


def _measure_paho(rig: Rig, folder: Path, programs: Path, device: Device) -> float:
    connected = folder / "connected"
    arguments = [str(rig.ca_file), str(device.chain), str(device.key), device.id, str(rig.mqtt_port)]
    command = [str(programs / "python"), "-c", _PAHO, *arguments, str(connected)]
    with _running(command, folder / "paho.log") as process:
        wait_for(connected.exists, _CONNECT_TIMEOUT_S)
        time.sleep(_CALM_S)
        return _resident_mb(process.pid)


@contextmanager
def _running(command: Sequence[str], log: Path) -> Iterator["subprocess.Popen[bytes]"]:
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(20)


def _resident_mb(pid: int) -> float:
    line = next(one for one in Path(f"/proc/{pid}/status").read_text().splitlines() if "VmRSS" in one)
    return int(line.split()[1]) * 1024 / 1e6


def _time_starts(command: Sequence[str]) -> float:
    times_ms = []
    for _ in range(_STARTS):
        start = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        times_ms.append((time.perf_counter() - start) * 1000)
    return statistics.median(times_ms)
