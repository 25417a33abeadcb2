"""A running platform is saved, and another made of the backup: devices, people and auditors go on with it."""

import json
import os
import pty
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fleetward.outside.auditing.witness import FileWitness
from fleetward.programs.simulator.attacks.target import Victim, enroll_victim, find_target
from support.agent_platform import wait_for
from support.mosquitto import mosquitto_command
from support.platform import Platform, restarted_from, running_platform

PHRASE = "correct horse battery"


@dataclass(frozen=True)
class Saved:
    """A platform, its backup, and the platform made of that, which runs."""

    original: Platform
    device: Victim
    backup: Path
    said: dict[str, Any]
    restored: Platform


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Saved]:
    folder = tmp_path_factory.mktemp("saved")
    (folder / "phrase").write_text(f"{PHRASE}\n")
    with running_platform(folder) as platform:
        device = enroll_victim(find_target(platform.data))
        assert publish(platform, device, "before") == 0
        wait_for(lambda: readings(platform, device), "the reading")
        file = folder / "one.age"
        said = keep(platform, "backup", file)
        platform.run_json("device", "add", "later-1", "--model", "attack-target")
        copy = folder / "copy"
        keep(Platform(copy, 0, platform.process, platform.log), "restore", file)
        with restarted_from(copy, folder / "copy.log") as restored:
            yield Saved(platform, device, file, said, restored)


def keep(platform: Platform, act: str, file: Path, *, check: bool = True) -> Any:
    """Return what `backup` or `restore` said: its answer, or, without `check`, its error."""
    given = platform.data.parent / "phrase"
    done = platform.run(act, str(file), "--passphrase-file", str(given), "--json", check=check)
    return json.loads(done.stdout) if check else json.loads(done.stderr)["error"]


def publish(platform: Platform, device: Victim, text: str) -> int:
    options = ("-q", "1", "-t", f"d/{device.device_id}/t/word", "-m", json.dumps(text))
    command = mosquitto_command(
        "mosquitto_pub", platform.ready["mqtt"], platform.ca_file,
        device.device_id, device.chain_file, device.key_file, *options,
    )  # fmt: skip
    return subprocess.run(command, capture_output=True, timeout=30, check=False).returncode


def readings(platform: Platform, device: Victim) -> list[Any]:
    found = platform.api.get(f"/devices/{device.device_id}/telemetry", stream="word")
    return [one["value"] for one in found["records"]]


def backup_point(platform: Platform) -> dict[str, Any]:
    found: dict[str, Any] = next(one for one in platform.run_json("checklist") if one["id"] == "backup")
    return found


def test_the_backup_is_told_and_known_to_the_checklist(saved: Saved) -> None:
    assert saved.said["file"] == str(saved.backup)
    assert saved.said["bytes"] == saved.backup.stat().st_size
    assert saved.said["elsewhere"] == []
    assert saved.backup.stat().st_mode & 0o777 == 0o600
    assert backup_point(saved.original)["state"] == "ok"
    assert backup_point(saved.restored)["state"] == "warn", "a backup knows nothing of itself"
    saved.original.wait_for_event("backup.taken")


def test_a_device_goes_on_with_the_restored_platform(saved: Saved) -> None:
    assert readings(saved.restored, saved.device) == ["before"]
    assert publish(saved.restored, saved.device, "after") == 0
    wait_for(lambda: readings(saved.restored, saved.device) == ["before", "after"], "both readings")


def test_the_restored_platform_is_that_of_the_backup(saved: Saved) -> None:
    original, restored = saved.original, saved.restored
    assert restored.run_json("audit", "verify")["verified"] is True
    for room in ("keys", "ca", "offline", "blobs"):
        for path in (original.data / room).rglob("*"):
            if path.is_file():
                copy = restored.data / path.relative_to(original.data)
                assert copy.read_bytes() == path.read_bytes(), path
                assert room == "blobs" or copy.stat().st_mode == path.stat().st_mode, path
    assert original.run("device", "show", "later-1", check=False).returncode == 0
    assert "later-1" in restored.run("device", "show", "later-1", check=False).stderr
    assert list((original.data / "db").glob("backup*")) == []


def test_that_it_is_an_older_copy_is_told_by_a_witness(saved: Saved, tmp_path: Path) -> None:
    witness, api = tmp_path / "witness", saved.original.api
    size = api.get("/audit/verify")["entries"]  # with what was done after the backup

    def statements() -> list[str] | None:
        notes: list[str] = api.get("/audit/checkpoints")["notes"]
        return notes if int(notes[-1].split("\n")[1]) >= size else None

    for note in wait_for(statements, "a checkpoint of what was done later"):
        FileWitness(witness).append(note)
    assert saved.original.run("audit", "verify", "--witness", str(witness)).returncode == 0
    told = saved.restored.run("audit", "verify", "--witness", str(witness), "--json", check=False)
    assert json.loads(told.stderr)["error"]["code"] == "audit_tampered"
    assert saved.restored.run("audit", "verify").returncode == 0, "in itself it is whole"


def test_a_place_where_a_platform_runs_is_refused(saved: Saved) -> None:
    before = (saved.restored.data / "admin.token").read_bytes()
    told = keep(saved.restored, "restore", saved.backup, check=False)
    assert told["code"] == "conflict"
    assert "empty place" in told["message"]
    assert (saved.restored.data / "admin.token").read_bytes() == before


def test_age_itself_opens_a_backup(saved: Saved, tmp_path: Path) -> None:
    age = shutil.which("age")
    if age is None:
        pytest.skip("age is not installed")
    tar = tmp_path / "backup.tar"
    pid, terminal = pty.fork()  # it asks for a passphrase on a terminal alone
    if pid == 0:
        os.execv(  # noqa: S606 - our own arguments
            age,
            [
                "age",
                "--decrypt",
                "--output",
                str(tar),
                str(saved.backup),
            ],
        )
    os.read(terminal, 1000)
    os.write(terminal, f"{PHRASE}\n".encode())
    with suppress(OSError):  # how a terminal ends
        while os.read(terminal, 1000):
            pass
    assert os.waitpid(pid, 0)[1] == 0
    os.close(terminal)
    listed = subprocess.run(["tar", "-tf", tar], capture_output=True, text=True, check=True, timeout=60)
    assert {"backup.json", "VERSION", "db/fleetward.sqlite3"} < set(listed.stdout.split())
