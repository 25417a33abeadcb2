"""What an operator's mistakes, accidents and disks do to a data folder: one clear error, nothing lost."""

import json
import os
import shutil
import socket
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa

import fleetward
from fleetward.base.config import ports_from
from support.ports import free_ports
from support.small_disk import small_disk

_CHANGES_AT_EACH_START = {"running.lock", "nats.log", "nats.conf", "server.pem"}


def fleetward_cli(
    *arguments: str, python: str = sys.executable, **environment: str
) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [python, "-m", "fleetward", *arguments],
        capture_output=True, text=True, check=False, timeout=90, env={**os.environ, **environment},
    )  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = tmp_path_factory.mktemp("made") / "data"
    assert fleetward_cli("init", "--data", str(data), "--json").returncode == 0
    return data


@pytest.fixture
def data(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "data"))


def up(data: Path, *more: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    base = str(free_ports(5))
    return fleetward_cli("up", "--data", str(data), "--port-base", base, "--no-demo", *more, **environment)


def contents(data: Path) -> dict[Path, bytes]:
    return {
        path: path.read_bytes()
        for path in data.rglob("*")
        if path.is_file() and path.name not in _CHANGES_AT_EACH_START and path.parent.name != "db"
    }


def audit_log(data: Path) -> list[tuple[int, bytes]]:
    """Return what is in the database's log, nothing where the database is the accident."""
    engine = sa.create_engine(f"sqlite:///file:{data / DATABASE}?mode=ro&uri=true")
    try:
        with engine.connect() as conn:
            found = conn.execute(sa.text("SELECT sequence, leaf_hash FROM audit_entries ORDER BY sequence"))
            return [(row.sequence, row.leaf_hash) for row in found]
    except sa.exc.DatabaseError:
        return []
    finally:
        engine.dispose()


def assert_clear(failed: "subprocess.CompletedProcess[str]", *said: str) -> None:
    assert failed.returncode == 1, failed.stderr
    assert "Traceback" not in failed.stderr + failed.stdout
    errors = [line for line in failed.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    for text in said:
        assert text in errors[0]
    assert "  next: " in failed.stderr, f"no remedy in {failed.stderr}"


def overwrite(name: str, content: bytes = b"junk\n") -> Callable[[Path], None]:
    def change(data: Path) -> None:
        (data / name).write_bytes(content)

    return change


def remove(name: str) -> Callable[[Path], None]:
    return lambda data: (data / name).unlink()


def add_setting(line: str) -> Callable[[Path], None]:
    def change(data: Path) -> None:
        path = data / "fleetward.toml"
        path.write_text(f"{line}\n{path.read_text()}")

    return change


def damage_pages(data: Path) -> None:
    with (data / "db" / "fleetward.sqlite3").open("r+b") as file:
        file.seek(4096)
        file.write(os.urandom(60 * 4096))


def make_a_folder_of(name: str) -> Callable[[Path], None]:
    def change(data: Path) -> None:
        (data / name).unlink()
        (data / name).mkdir()

    return change


def of_a_later_schema(data: Path) -> None:
    engine = sa.create_engine(f"sqlite:///{data / 'db' / 'fleetward.sqlite3'}")
    with engine.begin() as conn:
        conn.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    engine.dispose()


DATABASE = "db/fleetward.sqlite3"
ACCIDENTS: dict[str, tuple[Callable[[Path], None], str, str]] = {
    "settings that are no TOML": (overwrite("fleetward.toml", b"[[["), "fleetward.toml", "TOML"),
    "settings that are no text": (overwrite("fleetward.toml", b"\xff\xfe"), "fleetward.toml", "TOML"),
    "settings cut short": (overwrite("fleetward.toml", b""), "fleetward.toml", "trust_domain"),
    "settings of another kind": (add_setting("colour = 1"), "fleetward.toml", "colour"),
    "settings that are a folder": (make_a_folder_of("fleetward.toml"), "fleetward.toml", "directory"),
    "settings of a foreign database": (add_setting('database = "mysql://u:pw@h/d"'), "database", "mysql"),
    "settings of a broken database": (add_setting('database = "nonsense"'), "database", "nonsense"),
    "settings of a dead database": (
        add_setting('database = "postgresql+psycopg://nobody@127.0.0.1:1/none"'), "database", "answer"),
    "settings of foreign blobs": (add_setting('blobs = "gopher://x"'), "blobs", "gopher"),
    "a database of junk": (overwrite(DATABASE, b"junk" * 64), "database", "damaged"),
    "a database with torn pages": (damage_pages, "database", "damaged"),
    "a database cut short": (lambda data: os.truncate(data / DATABASE, 20_000), "database", "damaged"),
    "a database that is a folder": (make_a_folder_of(DATABASE), "database", "answer"),
    "a database that has gone": (remove(DATABASE), "fleetward.sqlite3", "found none"),
    "a database of a later release": (of_a_later_schema, "database", "9999"),
    "a folder of a later release": (overwrite("VERSION", b"2\n"), "data format 1", "found 2"),
    "a version of junk": (overwrite("VERSION"), "VERSION", "junk"),
    "a damaged audit key": (overwrite("keys/audit.pem"), "audit.pem", "unreadable"),
    "a damaged authority": (overwrite("keys/device-ca.pem"), "device-ca", "unreadable"),
    "a lost authority": (remove("keys/server-ca.pem"), "server-ca", "missing"),
    "a damaged firmware key": (overwrite("keys/firmware.pem"), "firmware.pem", "private key"),
    "a damaged update key": (overwrite("keys/tuf-targets.pem"), "tuf-targets.pem", "private key"),
    "a damaged time key": (overwrite("keys/time.pem"), "time.pem", "private key"),
    "a damaged engine key": (overwrite("keys/nats-issuer.seed"), "nats-issuer.seed", "seed"),
    "a damaged token": (overwrite("admin.token"), "admin.token", "random token"),
    "a damaged certificate": (overwrite("ca/device-ca.crt"), "device-ca", "unreadable"),
    "a lost root": (remove("ca/root.crt"), "root", "found none"),
    "a lost update root": (remove("blobs/tuf/root/1.root.json"), "update repository", "found none"),
    "a damaged update root": (overwrite("blobs/tuf/root/1.root.json"), "TUF root", "something else"),
}  # fmt: skip


@pytest.mark.parametrize("accident", ACCIDENTS)
def test_an_accident_is_one_clear_error_and_nothing_is_lost(data: Path, accident: str) -> None:
    happen, *said = ACCIDENTS[accident]
    happen(data)
    before, audited = contents(data), audit_log(data)
    assert_clear(up(data), *said)
    after = contents(data)
    assert {path.name for path, content in before.items() if after.get(path) != content} == set()
    assert audit_log(data)[: len(audited)] == audited


def test_a_removed_token_is_made_anew_and_nothing_else(data: Path) -> None:
    before = contents(data)
    (data / "admin.token").unlink()
    assert fleetward_cli("init", "--data", str(data), "--json").returncode == 0
    after = contents(data)
    assert {path.name for path in before if after[path] != before[path]} == {"admin.token"}
    assert (data / "admin.token").stat().st_mode & 0o777 == 0o600


def test_no_password_of_a_database_is_shown(data: Path) -> None:
    add_setting('database = "mysql://u:hunter2@h/d"')(data)
    failed = up(data)
    assert "hunter2" not in failed.stderr + failed.stdout


def test_a_folder_that_is_none_of_ours_is_named(tmp_path: Path) -> None:
    for command in (("device", "list"), ("events",), ("audit", "verify")):
        assert_clear(fleetward_cli("--data", str(tmp_path), *command), str(tmp_path), "VERSION")


def test_a_platform_that_does_not_run_is_told_with_how_to_start_it(data: Path) -> None:
    assert_clear(fleetward_cli("--data", str(data), "device", "list"), "running platform")


@pytest.mark.parametrize("content", [b"junk", b"[]", b"{}", b"\xff"])
def test_a_damaged_ready_file_is_named(data: Path, content: bytes) -> None:
    (data / "ready.json").write_bytes(content)
    assert_clear(fleetward_cli("--data", str(data), "device", "list"), "ready.json")


def test_a_root_that_is_none_is_named(data: Path) -> None:
    root = data / "VERSION"
    failed = fleetward_cli(
        "--server", "https://localhost:1", "--token", "x", "--ca-file", str(root), "events"
    )
    assert_clear(failed, str(root))


@pytest.mark.parametrize(("offset", "name"), [(0, "console"), (1, "devices"), (2, "mqtt"), (3, "nats")])
def test_a_taken_port_is_named(data: Path, offset: int, name: str) -> None:
    base = free_ports(5)
    with socket.create_server(("127.0.0.1", base + offset)):
        failed = fleetward_cli("up", "--data", str(data), "--port-base", str(base), "--no-demo")
    assert_clear(failed, str(base + offset), name, "in use")


def test_a_taken_datagram_port_is_named(data: Path) -> None:
    base = free_ports(5)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", ports_from(base).dtls))
        failed = fleetward_cli("up", "--data", str(data), "--port-base", str(base), "--no-demo")
    assert_clear(failed, str(base + 4), "dtls", "in use")


def test_a_missing_message_engine_is_named_with_how_to_get_it(data: Path, tmp_path: Path) -> None:
    """The program lies beside Python or on PATH: here is a Python beside which it does not lie."""
    python = tmp_path / "python"
    python.symlink_to(sys.executable)
    paths = (sysconfig.get_path("purelib"), sysconfig.get_path("platlib"), Path(fleetward.__path__[0]).parent)
    failed = fleetward_cli(
        "up", "--data", str(data), "--port-base", str(free_ports(5)), "--no-demo", python=str(python),
        PATH=str(tmp_path), PYTHONPATH=os.pathsep.join(map(str, paths)),
    )  # fmt: skip
    assert_clear(failed, "nats-server", "found none")
    assert "pip install" in failed.stderr


@pytest.mark.parametrize("kib", [4, 24, 48, 120, 200])
def test_a_full_disk_stops_init_and_a_second_run_finishes_it(tmp_path: Path, kib: int) -> None:
    with small_disk(tmp_path / "small", kib=kib) as disk:
        data = disk.path / "data"
        assert_clear(fleetward_cli("init", "--data", str(data), "--trust-domain", "fleet.test"))
        keys = {path: path.read_bytes() for path in data.rglob("*.pem")}
        subprocess.run(["mount", "-o", "remount,size=8m", disk.path], check=True)
        finished = fleetward_cli("init", "--data", str(data), "--trust-domain", "fleet.test", "--json")
        assert finished.returncode == 0, finished.stderr
        assert {path: path.read_bytes() for path in keys} == keys


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--trust-domain", "Not A Domain"), "trust domain"),
        (("--listen", "everywhere"), "listen"),
        (("--host-name", 'a"b'), "TOML"),
        (("--port-base", "65535"), "--port-base"),
    ],
)
def test_wrong_settings_do_not_lock_the_folder(tmp_path: Path, arguments: tuple[str, ...], said: str) -> None:
    data = str(tmp_path / "data")
    failed = fleetward_cli("init", "--data", data, *arguments)
    assert failed.returncode == 1
    assert said in failed.stderr
    assert "Traceback" not in failed.stderr
    assert fleetward_cli("init", "--data", data, "--trust-domain", "fleet.test").returncode == 0


def test_a_passphrase_file_that_is_too_short_or_unreadable_is_named(tmp_path: Path) -> None:
    for content in (b"short", b"\xff\xfe" * 20):
        (tmp_path / "phrase").write_bytes(content)
        failed = fleetward_cli(
            "init", "--data", str(tmp_path / "data"), "--root-passphrase-file", str(tmp_path / "phrase")
        )
        assert failed.returncode == 1
        assert "phrase" in failed.stderr
        assert "Traceback" not in failed.stderr


@pytest.mark.parametrize(
    "content", [b"junk\n", b"[1]\n", b"{}\n", b'{"notes": []}\n{"sequence": 0}\n', b"[" * 200_000]
)
def test_an_export_that_is_none_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    export = tmp_path / "export.jsonl"
    export.write_bytes(content)
    failed = fleetward_cli("audit", "verify", "--file", str(export), "--json")
    assert failed.returncode == 1
    assert json.loads(failed.stderr)["error"]["code"] in {"invalid_input", "audit_tampered"}
