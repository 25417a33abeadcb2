"""The audit log's commands against a platform, a stopped one, an export, a witness."""

import base64
import json
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from support.platform import Platform, running_platform

MAX_PROGRAM_LINES = 30


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    folder = tmp_path_factory.mktemp("platform")
    with running_platform(folder) as started:
        started.run_json("model", "add", "meter", "--attestation", "none")
        started.stop()
        with (started.data / "fleetward.toml").open("a") as settings:
            settings.write(f'\n[audit]\nwitness = "{folder}/other-disk.witness"\n')
        started.start()
        for number in range(3):
            started.run_json("device", "add", f"meter-{number}", "--model", "meter")
        yield started


def witness_of(platform: Platform) -> Path:
    return platform.data.parent / "other-disk.witness"


def wait_for_witness(platform: Platform, size: int) -> None:
    deadline = time.monotonic() + 20
    while not witness_of(platform).exists() or f"audit\\n{size}\\n" not in witness_of(platform).read_text():
        assert time.monotonic() < deadline, "the witness saw nothing"
        time.sleep(0.1)


def error_of(platform: Platform, *arguments: str) -> dict[str, Any]:
    failed = platform.run(*arguments, "--json", check=False)
    assert failed.returncode == 1, failed.stdout
    error: dict[str, Any] = json.loads(failed.stderr)["error"]
    return error


def test_search_narrows_by_device_action_time_and_number(platform: Platform) -> None:
    def found(*options: str) -> list[str]:
        lines = platform.run("audit", "search", *options, "--json").stdout.splitlines()
        return [json.loads(line)["action"] for line in lines]

    assert found("--device", "meter-1") == ["device.registered", "claim.created"]
    assert found("--action", "device.", "--limit", "2") == ["device.registered"] * 2
    assert found("--since", "2999-01-01T00:00:00Z") == []


def test_proofs_are_verified_without_the_platform(platform: Platform, tmp_path: Path) -> None:
    proof, growth = tmp_path / "proof.json", tmp_path / "growth.json"
    platform.run("audit", "prove", "2", "--out", str(proof))
    checkpoints = platform.api.get("/audit/checkpoints")
    first = int(checkpoints["notes"][0].split("\n")[1])
    platform.run("audit", "prove-growth", str(first), "--out", str(growth))
    key = ("--public-key", checkpoints["public_key"])
    assert "entry 2 is in the log" in platform.run("audit", "verify", "--proof", str(proof), *key).stdout
    assert "begins with" in platform.run("audit", "verify", "--proof", str(growth), *key).stdout
    forged = json.loads(proof.read_text())
    forged["entry"]["actor"] = "operator:nobody"
    proof.write_text(json.dumps(forged))
    assert error_of(platform, "audit", "verify", "--proof", str(proof))["code"] == "audit_tampered"


def test_an_export_is_verified_and_each_line_counts(platform: Platform, tmp_path: Path) -> None:
    export = tmp_path / "audit.jsonl"
    platform.run("audit", "export", str(export))
    verified = platform.run_json("audit", "verify", "--file", str(export))
    lines = export.read_text().splitlines()
    assert verified["entries"] == len(lines) - 1
    export.write_text("\n".join([*lines[:3], *lines[4:]]))
    assert "entry 2" in error_of(platform, "audit", "verify", "--file", str(export))["message"]
    export.write_text("\n".join(lines[:-1]))
    assert "removed" in error_of(platform, "audit", "verify", "--file", str(export))["message"]
    export.write_text("nothing")
    assert error_of(platform, "audit", "verify", "--file", str(export))["code"] == "invalid_input"


def test_a_program_that_knows_nothing_of_us_verifies_an_export(platform: Platform, tmp_path: Path) -> None:
    """The one that docs/explanation/audit.md prints."""
    export, program = tmp_path / "audit.jsonl", tmp_path / "verify.py"
    platform.run("audit", "export", str(export))
    page = Path(__file__).parents[2] / "docs" / "explanation" / "audit.md"
    program.write_text(page.read_text().split("```python\n")[1].split("```")[0])
    assert sum(bool(line) for line in program.read_text().splitlines()) <= MAX_PROGRAM_LINES
    key = platform.api.get("/audit/checkpoints")["public_key"]
    strangers = base64.b64encode(Ed25519PrivateKey.generate().public_key().public_bytes_raw()).decode()

    def says(lines: list[str], key: str = key) -> str:
        export.write_text("\n".join(lines))
        command = [sys.executable, "-I", str(program), str(export), key]
        run = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        return "" if run.returncode == 0 else run.stderr

    lines = export.read_text().splitlines()
    altered = {**json.loads(lines[3]), "actor": "operator:nobody"}
    last = json.loads(lines[-1])
    assert says(lines) == ""
    assert "not those that were signed" in says([*lines[:3], json.dumps(altered), *lines[4:]])
    assert "not in its place" in says([*lines[:3], *lines[4:]])
    assert "not those that were signed" in says(lines[:-1])
    assert "after the signed end" in says([*lines, json.dumps({**last, "sequence": last["sequence"] + 1})])
    assert "InvalidSignature" in says(lines, strangers)


def test_the_witness_saw_what_the_platform_holds(platform: Platform) -> None:
    size = platform.api.get("/audit/verify")["entries"]
    wait_for_witness(platform, size)
    verified = platform.run_json("audit", "verify", "--witness", str(witness_of(platform)))
    assert verified["verified"]
    assert verified["witnessed"] >= 1
    assert platform.api.get("/audit/verify")["witnessed"] >= 1


def test_a_stopped_platform_is_verified_where_it_lies_and_a_rollback_is_told(platform: Platform) -> None:
    platform.stop()
    database, copy = platform.data / "db" / "fleetward.sqlite3", platform.data.parent / "older.sqlite3"
    older = platform.run_json("audit", "verify")
    shutil.copy(database, copy)
    platform.start()
    platform.run_json("device", "add", "meter-9", "--model", "meter")
    wait_for_witness(platform, platform.api.get("/audit/verify")["entries"])
    platform.stop()
    newer = platform.run_json("audit", "verify", "--witness", str(witness_of(platform)))
    assert newer["entries"] > older["entries"]

    with closing(sqlite3.connect(database)) as db:
        db.execute("UPDATE audit_entries SET actor = 'operator:nobody' WHERE sequence = 1")
        db.commit()
    assert "entry 1:" in error_of(platform, "audit", "verify")["message"]

    for file in database.parent.glob("fleetward.sqlite3*"):
        file.unlink()
    shutil.copy(copy, database)
    assert platform.run_json("audit", "verify")["entries"] == older["entries"]
    told = error_of(platform, "audit", "verify", "--witness", str(witness_of(platform)))
    assert "the last were removed" in told["message"]
    platform.start()
    event = platform.wait_for_event("audit.tampered")
    assert event["severity"] == "critical"
