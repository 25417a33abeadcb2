"""A platform by configuration alone on PostgreSQL, a NATS cluster of three and an S3-compatible store."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import urllib3

from fleetward.base.errors import UnavailableError
from fleetward.outside.http.platform import Api
from fleetward.outside.nats.server import find_program
from fleetward.programs.simulator.attacks.target import Target, Victim, enroll_victim
from fleetward.programs.simulator.firmware import build_sbom
from support import broker
from support.mosquitto import mosquitto_command
from support.ports import free_ports
from support.postgres import postgres_database

_BUCKET = "artifacts"
_WAIT_S = 60.0


@dataclass
class Cluster:
    """Three message servers and two machines that serve."""

    folder: Path
    nodes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    mqtt_ports: dict[str, int] = field(default_factory=dict)
    machines: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def api(self, machine: str) -> Api:
        ready = self.ready(machine)
        token = (self.folder / "a" / "admin.token").read_text().strip()
        return Api(ready["console"], token, Path(ready["ca_file"]))

    def ready(self, machine: str) -> dict[str, str]:
        found: dict[str, str] = json.loads((self.folder / machine / "ready.json").read_text())
        return found

    def target(self, machine: str, node: str) -> Target:
        ready = self.ready(machine)
        folder = self.folder / "devices"
        folder.mkdir(exist_ok=True)
        return Target(
            self.api(machine), ready["devices"], "localhost", self.mqtt_ports[node],
            Path(ready["ca_file"]), folder,
        )  # fmt: skip

    def mosquitto(self, program: str, victim: Victim, node: str, *options: str) -> list[str]:
        address, ca_file = f"localhost:{self.mqtt_ports[node]}", self.ready("a")["ca_file"]
        return mosquitto_command(
            program, address, ca_file, victim.device_id, victim.chain_file, victim.key_file, *options
        )

    def publish(self, victim: Victim, node: str, value: int) -> subprocess.CompletedProcess[bytes]:
        """Publish at QoS 1 as mosquitto does."""
        options = ("-q", "1", "-t", f"d/{victim.device_id}/t/level", "-m", str(value))
        command = self.mosquitto("mosquitto_pub", victim, node, *options)
        return subprocess.run(command, capture_output=True, timeout=30, check=False)

    def values(self, machine: str, victim: Victim) -> list[Any]:
        """Return what arrived; nothing while the cluster elects a leader."""
        try:
            found = self.api(machine).get(f"/devices/{victim.device_id}/telemetry", limit=100)
        except UnavailableError:
            return []
        return [record["value"] for record in found["records"]]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Cluster]:
    pytest.importorskip("moto", reason="moto is not installed")
    folder = tmp_path_factory.mktemp("cluster")
    with ExitStack() as stack:
        database = stack.enter_context(postgres_database(request.config))
        environment = stack.enter_context(_object_store(folder))
        found = Cluster(folder)
        bases = {name: free_ports(5) for name in ("n1", "n2", "n3", "a", "b")}
        found.mqtt_ports = {name: bases[name] + 1 for name in ("n1", "n2", "n3")}
        _configure(found, database, bases, environment)
        for name in ("n1", "n2", "n3"):
            _start_node(stack, found, name)
        _start_machine(stack, found, "a", ("api", "worker"), environment)
        _start_machine(stack, found, "b", ("api", "callout", "worker"), environment)
        yield found


def test_devices_come_in_by_one_machine_and_are_seen_by_the_other(cluster: Cluster) -> None:
    victim = enroll_victim(cluster.target("b", "n1"))
    assert cluster.publish(victim, "n2", 7).returncode == 0
    wait_for(lambda: 7 in cluster.values("a", victim))
    assert cluster.api("a").get(f"/devices/{victim.device_id}")["state"] == "active"


def test_a_revocation_ends_a_session_on_another_node(cluster: Cluster) -> None:
    victim = enroll_victim(cluster.target("a", "n3"))
    command = cluster.mosquitto("mosquitto_sub", victim, "n3", "-t", f"d/{victim.device_id}/cmd/+")
    listening = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        api = cluster.api("b")
        assert listening.poll() is None
        wait_for(lambda: api.get(f"/devices/{victim.device_id}/presence")["connected"])
        api.post(f"/devices/{victim.device_id}/revoke", {"reason": "stolen"})
        wait_for(lambda: not api.get(f"/devices/{victim.device_id}/presence")["connected"])
    finally:
        listening.kill()
        listening.communicate()
    assert cluster.publish(victim, "n1", 1).returncode != 0


def test_firmware_published_on_one_machine_is_served_by_the_other_from_the_store(cluster: Cluster) -> None:
    image = os.urandom(300_000)
    cluster.api("a").post("/models", {"id": "cluster-camera", "attestation": "none"})
    cluster.api("a").post_multipart(
        "/releases",
        {
            "model": "cluster-camera", "version": "1.0.0",
            "sbom": ("sbom.json", build_sbom("1.0.0"), "application/vnd.cyclonedx+json"),
            "image": ("image.bin", image, "application/octet-stream"),
        },
    )  # fmt: skip
    assert cluster.api("b").get_bytes("/releases/cluster-camera/1.0.0/image") == image
    assert not any((cluster.folder / "a" / "blobs").rglob("*.bin"))


def test_a_node_and_a_machine_may_die(cluster: Cluster) -> None:
    """The cluster elects anew; what was acknowledged is all there, and the audit log holds."""
    victim = enroll_victim(cluster.target("b", "n1"))

    def is_acknowledged(number: int) -> bool:
        return cluster.publish(victim, "n1", number).returncode == 0

    acknowledged = list(range(20))
    for number in acknowledged:  # a client whose CONNECT ran out of time tries again
        wait_for(partial(is_acknowledged, number))
    cluster.nodes["n1"].kill()
    wait_for(lambda: cluster.publish(victim, "n2", 100).returncode == 0)
    cluster.machines["a"].kill()
    wait_for(lambda: set(acknowledged) | {100} <= set(cluster.values("b", victim)))
    assert cluster.publish(victim, "n3", 101).returncode == 0
    wait_for(lambda: 101 in cluster.values("b", victim))
    done = _fleetward(
        "--server", cluster.ready("b")["console"], "--ca-file", cluster.ready("b")["ca_file"],
        "audit", "verify", "--json",
        environment={"FLEETWARD_TOKEN": (cluster.folder / "a" / "admin.token").read_text().strip()},
    )  # fmt: skip
    assert json.loads(done)["verified"]


def wait_for(holds: Callable[[], bool]) -> None:
    broker.wait_for(holds, timeout_s=_WAIT_S)


def _configure(found: Cluster, database: str, bases: dict[str, int], environment: dict[str, str]) -> None:
    """Write one configuration, make the platform from it, and give each machine and node its copy."""
    for name in ("a", "b"):
        machine = found.folder / name
        machine.mkdir(mode=0o700)
        (machine / "fleetward.toml").write_text(
            f'trust_domain = "fleet.test"\ndatabase = "{database}"\nblobs = "s3://{_BUCKET}"\n'
            f"[ports]\nconsole = {bases[name]}\ndevices = {bases[name] + 1}\n"
            f"mqtt = {found.mqtt_ports['n1']}\ndtls = {bases[name] + 4}\n[nats]\nreplicas = 3\n"
            f"urls = [{', '.join(json.dumps(f'tls://localhost:{bases[n]}') for n in ('n1', 'n2', 'n3'))}]\n"
        )
    _fleetward("init", "--data", str(found.folder / "a"), environment=environment)
    for room in ("keys", "tls", "ca"):
        shutil.copytree(found.folder / "a" / room, found.folder / "b" / room)
    for name in ("VERSION", "admin.token"):
        shutil.copy(found.folder / "a" / name, found.folder / "b" / name)
    for name in ("n1", "n2", "n3"):
        routes = [f"tls://localhost:{bases[other] + 2}" for other in ("n1", "n2", "n3") if other != name]
        out, listen = found.folder / name, "127.0.0.1:{}"
        _fleetward(
            "--data", str(found.folder / "a"), "cluster", "node", name, "--host", "localhost",
            *(part for route in routes for part in ("--route", route)),
            "--nats-listen", listen.format(bases[name]), "--mqtt-listen", listen.format(bases[name] + 1),
            "--route-listen", listen.format(bases[name] + 2), "--folder", str(out), "--out", str(out),
            "--store", str(out / "store"),
        )  # fmt: skip


def _start_node(stack: ExitStack, found: Cluster, name: str) -> None:
    folder = found.folder / name
    (folder / "store").mkdir()
    log = stack.enter_context((folder / "out.log").open("wb"))
    node = subprocess.Popen([find_program(), "-c", str(folder / "nats.conf")], stdout=log, stderr=log)
    stack.callback(_end, node)
    found.nodes[name] = node


def _start_machine(
    stack: ExitStack, found: Cluster, name: str, roles: tuple[str, ...], environment: dict[str, str]
) -> None:
    folder = found.folder / name
    command = [sys.executable, "-m", "fleetward", "serve", "--data", str(folder)]
    log = stack.enter_context((folder / "out.log").open("wb"))
    machine = subprocess.Popen(
        [*command, *(part for role in roles for part in ("--role", role))],
        stdout=log, stderr=log, env={**os.environ, **environment},
    )  # fmt: skip
    stack.callback(_end, machine)
    found.machines[name] = machine
    wait_for(lambda: (folder / "ready.json").exists() or machine.poll() is not None)
    assert machine.poll() is None, (folder / "out.log").read_text()[-4000:]


def _end(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@contextmanager
def _object_store(folder: Path) -> Iterator[dict[str, str]]:
    """Yield the environment by which obstore reaches an S3 server of our own."""
    port = free_ports()
    with (folder / "s3.log").open("wb") as log:
        command = [sys.executable, "-m", "moto.server", "-p", str(port)]
        server = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        url = f"http://127.0.0.1:{port}"
        wait_for(lambda: _answers(url))
        urllib3.request("PUT", f"{url}/{_BUCKET}")
        yield {
            "AWS_ENDPOINT": url, "AWS_ALLOW_HTTP": "true", "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test",
        }  # fmt: skip
    finally:
        _end(server)


def _answers(url: str) -> bool:
    try:
        urllib3.request("GET", url, retries=False, timeout=1)
    except urllib3.exceptions.HTTPError:
        return False
    return True


def _fleetward(*arguments: str, environment: dict[str, str] | None = None) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "fleetward", *arguments],
        capture_output=True, text=True, check=False, timeout=60, env={**os.environ, **(environment or {})},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout
