"""Backups and restores that are cut off, damaged, misled: nothing half has a whole one's name."""

import json
import os
import shutil
import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import pytest

from fleetward.base.clock import SystemClock
from fleetward.base.config import ServerConfig
from fleetward.base.db import Database
from fleetward.base.errors import (
    ConfigError,
    ConflictError,
    CorruptDataError,
    InvalidInputError,
    NewerDataError,
)
from fleetward.base.layout import DataFolder
from fleetward.outside.sealed.age import WrongPassphraseError
from fleetward.outside.sealed.archive import ArchiveWriter, read_archive
from fleetward.programs.server.backup import list_elsewhere
from fleetward.programs.server.guard import hold_folder
from fleetward.programs.server.initialise import initialise
from support.backup_faults import PHRASE, cut, put_back, take

ROWS = "db/fleetward.sqlite3"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = tmp_path_factory.mktemp("made") / "data"
    wanted = ServerConfig(trust_domain="fleet.test")
    initialise(DataFolder(data), wanted, passphrase_file=None, clock=SystemClock(), tell=lambda _: None)
    (data / "offline" / "passphrase.pending").unlink()
    return data


@pytest.fixture(scope="module")
def good(made: Path) -> Path:
    """A backup of that platform while it does not run."""
    file = made.parent / "good.age"
    take(made, file)
    return file


def contents(file: Path) -> dict[str, bytes]:
    with file.open("rb") as sealed:
        return {one.name: b"".join(one.read()) for one in read_archive(sealed, PHRASE)}


def repacked(file: Path, files: dict[str, bytes]) -> Path:
    with file.open("wb") as output:
        archive = ArchiveWriter(output, PHRASE, log_work=1)
        for name, content in files.items():
            archive.add(name, content)
        archive.finish()
    return file


def is_platform(data: Path) -> bool:
    try:
        DataFolder(data).check()
    except CorruptDataError:
        return False
    return True


@pytest.mark.parametrize(("point", "nth"), [("piece", 1), ("piece", 5), ("rows", 3), ("verifying", 1)])
def test_a_backup_cut_off_has_no_name_and_the_next_succeeds(
    made: Path, tmp_path: Path, point: str, nth: int
) -> None:
    file = tmp_path / "one.age"
    cut(take, made, file, point, nth)
    assert not file.exists()
    take(made, file)
    assert [path.name for path in tmp_path.iterdir()] == ["one.age"]
    assert [path.name for path in (made / "db").glob("backup*")] == []
    assert "VERSION" in contents(file)


def test_a_backup_cut_off_before_it_is_recorded_is_whole(made: Path, tmp_path: Path) -> None:
    file = tmp_path / "one.age"
    cut(take, made, file, "recording", 1)
    assert "VERSION" in contents(file)


@pytest.mark.parametrize(("point", "nth"), [("file", 1), ("file", 6), ("streams", 1), ("finishing", 1)])
def test_a_restore_cut_off_is_no_platform_and_the_next_finishes_it(
    good: Path, tmp_path: Path, point: str, nth: int
) -> None:
    place = tmp_path / "place"
    cut(put_back, place, good, point, nth)
    with pytest.raises(CorruptDataError, match="cut off"):
        DataFolder(place).check()
    with pytest.raises(CorruptDataError, match="cut off"):
        initialise(
            DataFolder(place), ServerConfig("fleet.test"), passphrase_file=None, clock=SystemClock(),
            tell=lambda _: None,
        )  # fmt: skip
    put_back(place, good)
    assert is_platform(place)
    assert (place / "admin.token").stat().st_mode & 0o777 == 0o600


def test_what_is_restored_is_what_was_saved(made: Path, good: Path, tmp_path: Path) -> None:
    put_back(tmp_path / "place", good)
    for room in ("keys", "ca", "offline", "blobs"):
        saved = {path.relative_to(made): path for path in (made / room).rglob("*") if path.is_file()}
        found = {one.relative_to(tmp_path / "place") for one in (tmp_path / "place" / room).rglob("*")}
        assert set(saved) <= found
        assert all((tmp_path / "place" / name).read_bytes() == saved[name].read_bytes() for name in saved)


def test_only_an_empty_place_is_taken(good: Path, tmp_path: Path) -> None:
    place = tmp_path / "place"
    place.mkdir()
    (place / "letter").write_text("dear")
    with pytest.raises(ConflictError, match="letter"):
        put_back(place, good)
    assert [path.name for path in place.iterdir()] == ["letter"]
    (place / "letter").unlink()
    (place / "lost+found").mkdir()  # of a file system of its own
    with hold_folder(DataFolder(place)), pytest.raises(ConflictError, match="platform"):
        put_back(place, good)
    put_back(place, good)
    assert is_platform(place)


def test_only_the_owner_saves_and_restores(
    made: Path, good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "place"
    place.mkdir()
    monkeypatch.setattr(os, "geteuid", lambda: 54_321)
    with pytest.raises(ConfigError, match="54321"):
        take(made, tmp_path / "one.age")
    with pytest.raises(ConfigError, match="54321"):
        put_back(place, good)
    assert [path.name for path in tmp_path.iterdir()] == ["place"]
    assert list(place.iterdir()) == []


def test_another_passphrase_changes_nothing(good: Path, tmp_path: Path) -> None:
    with pytest.raises(WrongPassphraseError):
        put_back(tmp_path / "place", good, b"correct horse batterY")
    assert not (tmp_path / "place").exists()


@pytest.mark.parametrize("where", [0.3, 0.6, 0.99])
def test_a_damaged_backup_makes_no_platform(good: Path, tmp_path: Path, where: float) -> None:
    content = bytearray(good.read_bytes())
    content[int(len(content) * where)] ^= 1
    (tmp_path / "bad.age").write_bytes(content)
    with pytest.raises(CorruptDataError):
        put_back(tmp_path / "place", tmp_path / "bad.age")
    assert not is_platform(tmp_path / "place") if (tmp_path / "place").exists() else True


def test_a_backup_of_a_later_release_or_of_something_else_is_refused(good: Path, tmp_path: Path) -> None:
    files = contents(good)
    said = files["backup.json"]
    for change, refusal in (
        ({"backup.json": said.replace(b'"format": 1', b'"format": 2')}, NewerDataError),
        ({"VERSION": b"2\n"}, NewerDataError),
        ({"VERSION": b"x"}, CorruptDataError),
        ({"backup.json": b"[]"}, CorruptDataError),
        ({"backup.json": said.replace(b"taken_at", b"taken")}, CorruptDataError),
    ):
        bad = repacked(tmp_path / "bad.age", {**files, **change})
        place = tmp_path / "place"
        with pytest.raises(refusal):
            put_back(place, bad)
        shutil.rmtree(place, ignore_errors=True)
    for kept in ({}, {"VERSION": b"1\n"}, {name: files[name] for name in files if name != "VERSION"}):
        with pytest.raises(CorruptDataError):
            put_back(tmp_path / "place", repacked(tmp_path / "bad.age", kept))
        shutil.rmtree(tmp_path / "place", ignore_errors=True)


def test_a_stream_that_is_none_of_ours_or_damaged_is_refused(good: Path, tmp_path: Path) -> None:
    files = contents(good)
    config = {"name": "TELEMETRY", "subjects": ["telemetry.>"], "storage": "file", "num_replicas": 1}
    first = json.dumps({"config": config, "state": {"messages": 0}}).encode()
    telemetry = "streams/TELEMETRY/0000000"
    for change in (
        {"streams/OTHER/00000000": b"{}"},
        {f"{telemetry}0": first, f"{telemetry}1": b"junk" * 100},
    ):
        bad = repacked(tmp_path / "bad.age", {**files, **change})
        with pytest.raises(CorruptDataError):
            put_back(tmp_path / "place", bad)
        assert not is_platform(tmp_path / "place")


def test_a_backup_overwrites_nothing_and_does_not_save_itself(made: Path, good: Path) -> None:
    before = good.read_bytes()
    with pytest.raises(ConflictError):
        take(made, good)
    assert good.read_bytes() == before
    with pytest.raises(InvalidInputError, match="inside"):
        take(made, made / "one.age")


def test_damaged_rows_are_told_and_leave_no_backup(made: Path, tmp_path: Path) -> None:
    data = Path(shutil.copytree(made, tmp_path / "data"))
    with (data / ROWS).open("r+b") as file:
        file.seek(3 * 4096)
        file.write(b"\x5a" * 20 * 4096)
    with pytest.raises(CorruptDataError, match="database"):
        take(data, tmp_path / "one.age")
    assert {path.name for path in tmp_path.iterdir()} == {"data"}


def test_rows_are_copied_as_of_one_moment_while_others_write(tmp_path: Path) -> None:
    db = Database(f"sqlite:///{tmp_path / 'rows'}", SystemClock())
    with db.write("test") as tx:
        tx.conn.exec_driver_sql("CREATE TABLE pairs (number INTEGER, side TEXT)")
    is_over = threading.Event()

    def write() -> None:
        number = 0
        while not is_over.is_set():
            with db.write("test") as tx:
                for side in ("left", "right"):
                    tx.conn.exec_driver_sql("INSERT INTO pairs VALUES (?, ?)", (number, side))
            number += 1

    writer = threading.Thread(target=write)
    writer.start()
    try:
        counts = []
        for turn in range(10):
            copy = tmp_path / f"copy-{turn}"
            db.copy_to(copy)
            assert copy.stat().st_mode & 0o777 == 0o600
            with closing(sqlite3.connect(copy)) as found:
                query = "SELECT count(*) FILTER (WHERE side = 'left'), count(*) FROM pairs"
                left, both = found.execute(query).fetchone()
            counts.append(both)
            assert both == 2 * left
    finally:
        is_over.set()
        writer.join()
        db.close()
    assert counts == sorted(counts)


def test_of_a_platform_whose_state_lies_elsewhere_keys_and_settings_are_saved(
    postgres_url: str, tmp_path: Path
) -> None:
    folder = DataFolder(tmp_path / "data")
    folder.path.mkdir()
    folder.config.write_text(
        f'trust_domain = "fleet.test"\ndatabase = "{postgres_url}"\nblobs = "file://{tmp_path}/elsewhere"\n'
        '[nats]\nurls = ["tls://n1.test:4222"]\n'
    )
    wanted = ServerConfig("fleet.test")
    initialise(folder, wanted, passphrase_file=None, clock=SystemClock(), tell=lambda _: None)
    file = tmp_path / "one.age"
    taken = take(folder.path, file)
    assert [one.partition(":")[0] for one in taken.elsewhere] == ["rows", "releases", "streams"]
    saved = contents(file)
    assert "keys/device-ca.pem" in saved
    assert {name.partition("/")[0] for name in saved} & {"db", "blobs", "streams"} == set()
    restored = put_back(tmp_path / "place", file)
    assert restored.elsewhere == taken.elsewhere
    assert (tmp_path / "place" / "fleetward.toml").read_bytes() == folder.config.read_bytes()


def test_a_leftover_that_leads_elsewhere_is_not_followed(made: Path, tmp_path: Path) -> None:
    (tmp_path / "one.age.part").symlink_to(tmp_path / "letter")
    with pytest.raises(OSError, match=r"one\.age\.part"):
        take(made, tmp_path / "one.age")
    assert not (tmp_path / "letter").exists()


def test_what_lies_elsewhere_is_named() -> None:
    outside = ServerConfig("fleet.test", database="postgresql+psycopg://u:hunter2@db/f", blobs="s3://b")
    said = " ".join(list_elsewhere(outside))
    assert "pg_dump" in said
    assert "releases: in the store" in said
    assert "hunter2" not in said
    assert list_elsewhere(ServerConfig("fleet.test")) == ()
