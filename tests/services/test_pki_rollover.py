"""A replacement of an issuing CA that is cut off anywhere is completed, or was never begun."""

import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest

from fleetward.base import files
from fleetward.features.pki.authority import ceremony, rollover
from fleetward.features.pki.authority.ceremony import WrongPassphraseError, create_hierarchy, load_ca
from fleetward.features.pki.authority.profiles import subject_key_id

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
PHRASE = b"a long enough passphrase"


class PowerCutError(BaseException):
    pass


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hierarchy")
    for room in ("ca", "keys", "offline", "tls"):
        (folder / room).mkdir()
    create_hierarchy(folder, "fleet.test", PHRASE, NOW)
    return folder


def replace(folder: Path) -> None:
    rollover.replace_issuing_ca(folder, "device-ca", "fleet.test", PHRASE, NOW)


def test_the_predecessor_is_kept_with_its_key(made: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(made, folder)
    first = load_ca(folder, "device-ca")
    for count in (1, 2):
        replace(folder)
        assert len(rollover.load_earlier_cas(folder, "device-ca", NOW)) == count
    found = rollover.load_earlier_cas(folder, "device-ca", NOW)
    assert first.certificate in [one.certificate for one in found]
    assert load_ca(folder, "device-ca").certificate != first.certificate
    chains = (folder / "ca" / "device-cas.pem").read_bytes()
    assert chains.count(b"BEGIN CERTIFICATE") == 3
    assert rollover.load_earlier_cas(folder, "device-ca", first.certificate.not_valid_after_utc) == ()


def test_a_wrong_passphrase_changes_nothing(made: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(made, folder)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with pytest.raises(WrongPassphraseError):
        rollover.replace_issuing_ca(folder, "device-ca", "fleet.test", b"another passphrase", NOW)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("writes", range(8))
def test_a_power_cut_at_any_write_leaves_a_hierarchy_that_the_next_start_completes(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, writes: int
) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(made, folder)
    first = subject_key_id(load_ca(folder, "device-ca").certificate)
    left = [writes]

    def cut(act: object) -> object:
        def acting(*arguments: object, **more: object) -> object:
            if left[0] == 0:
                raise PowerCutError
            left[0] -= 1
            return act(*arguments, **more)  # type: ignore[operator]

        return acting

    for module in (rollover, ceremony):
        for name in ("write_secret", "write_atomically"):
            monkeypatch.setattr(module, name, cut(getattr(files, name)))
    monkeypatch.setattr(Path, "replace", cut(Path.replace))
    try:
        replace(folder)
    except PowerCutError:
        monkeypatch.undo()
        rollover.finish_replacement(folder, "device-ca", NOW)
    trusted = {
        subject_key_id(one.certificate)
        for one in (load_ca(folder, "device-ca"), *rollover.load_earlier_cas(folder, "device-ca", NOW))
    }
    assert first in trusted
    monkeypatch.undo()
    replace(folder)
    assert subject_key_id(load_ca(folder, "device-ca").certificate) not in trusted
