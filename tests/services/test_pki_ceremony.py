"""The key ceremony and our own listeners' certificates: no key is ever lost, every second run finishes."""

import shutil
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from fleetward.base.errors import KeyUnavailableError
from fleetward.features.pki.authority.ceremony import (
    WrongPassphraseError,
    create_hierarchy,
    ensure_server_certificate,
    ensure_time_signer,
    load_ca,
    load_root,
    load_time_signer,
)
from fleetward.features.pki.service import PkiContext
from support.clock import ManualClock
from support.hierarchy import PASSPHRASE, TRUST_DOMAIN, make_pki

DAY = timedelta(days=1)
# As the ceremony writes them: a cut leaves the first few.
IN_ORDER = (
    "offline/root.key.pem",
    "ca/root.crt",
    "keys/device-ca.pem",
    "ca/device-ca.crt",
    "keys/server-ca.pem",
    "ca/server-ca.crt",
    "ca/ca-bundle.pem",
    "ca/device-cas.pem",
    "ca/device-chain.pem",
    "keys/time.pem",
    "tls/time.crt",
)
NAMES = ["localhost", "127.0.0.1", "::1"]


@pytest.fixture
def pki(tmp_path: Path, clock: ManualClock) -> PkiContext:
    return make_pki(tmp_path, clock.now())


def read_all(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def again(folder: Path, clock: ManualClock, passphrase: bytes = PASSPHRASE) -> None:
    create_hierarchy(folder, TRUST_DOMAIN, passphrase, clock.now())


@pytest.mark.usefixtures("pki")
def test_the_ceremony_again_changes_no_file(tmp_path: Path, clock: ManualClock) -> None:
    files = read_all(tmp_path)
    clock.advance(DAY)
    again(tmp_path, clock)
    assert read_all(tmp_path) == files
    with pytest.raises(WrongPassphraseError):
        again(tmp_path, clock, b"another passphrase")
    assert read_all(tmp_path) == files


def test_a_ceremony_cut_after_any_file_is_finished(tmp_path: Path, clock: ManualClock) -> None:
    make_pki(tmp_path / "whole", clock.now())
    whole = {str(path.relative_to(tmp_path / "whole")): content
             for path, content in read_all(tmp_path / "whole").items()}  # fmt: skip
    assert set(whole) == set(IN_ORDER)
    for count in range(len(IN_ORDER)):
        folder = tmp_path / f"cut-{count}"
        for room in ("ca", "keys", "offline", "tls"):
            (folder / room).mkdir(parents=True)
        kept = {folder / file: whole[file] for file in IN_ORDER[:count]}
        for path, content in kept.items():
            path.write_bytes(content)
        again(folder, clock)
        assert {path: path.read_bytes() for path in kept} == kept
        for name in ("device-ca", "server-ca"):
            load_ca(folder, name).certificate.verify_directly_issued_by(load_root(folder))
        key, certificate = load_time_signer(folder)
        assert key.public_key() == certificate.public_key()


@pytest.mark.usefixtures("pki")
def test_offline_keys_may_be_in_a_safe(tmp_path: Path, clock: ManualClock) -> None:
    shutil.rmtree(tmp_path / "offline")
    files = read_all(tmp_path)
    again(tmp_path, clock)
    assert read_all(tmp_path) == files


@pytest.mark.usefixtures("pki")
@pytest.mark.parametrize("lost", ["ca/device-ca.crt", "keys/server-ca.pem"])
def test_a_lost_key_is_never_replaced_under_its_certificate(
    tmp_path: Path, clock: ManualClock, lost: str
) -> None:
    """Without the root key no new authority is signed; without its own, an authority is gone."""
    (tmp_path / "offline" / "root.key.pem").unlink()
    (tmp_path / lost).unlink()
    files = read_all(tmp_path)
    with pytest.raises(KeyUnavailableError):
        again(tmp_path, clock)
    assert read_all(tmp_path) == files


@pytest.mark.usefixtures("pki")
def test_a_key_of_another_hierarchy_is_told(tmp_path: Path, clock: ManualClock) -> None:
    make_pki(tmp_path / "other", clock.now())
    for file in ("offline/root.key.pem", "keys/device-ca.pem"):
        own = (tmp_path / file).read_bytes()
        shutil.copy(tmp_path / "other" / file, tmp_path / file)
        with pytest.raises(KeyUnavailableError, match="found another"):
            again(tmp_path, clock)
        (tmp_path / file).write_bytes(own)


@pytest.mark.usefixtures("pki")
def test_private_keys_are_owner_only_and_the_root_is_encrypted(tmp_path: Path) -> None:
    assert b"ENCRYPTED" in (tmp_path / "offline/root.key.pem").read_bytes()
    for path in [*(tmp_path / "keys").iterdir(), *(tmp_path / "offline").iterdir()]:
        assert path.stat().st_mode & 0o077 == 0


@pytest.mark.usefixtures("pki")
def test_what_clients_pin_is_the_root_alone(tmp_path: Path) -> None:
    pinned = x509.load_pem_x509_certificates((tmp_path / "ca/ca-bundle.pem").read_bytes())
    assert pinned == [load_root(tmp_path)]
    chain = x509.load_pem_x509_certificates((tmp_path / "ca/device-chain.pem").read_bytes())
    assert chain == [load_ca(tmp_path, "device-ca").certificate, load_root(tmp_path)]


@pytest.mark.parametrize("damage", [b"", b"junk", b"-----BEGIN CERTIFICATE-----\nAAAA\n"])
@pytest.mark.parametrize("file", ["ca/device-ca.crt", "keys/device-ca.pem"])
@pytest.mark.usefixtures("pki")
def test_a_damaged_authority_is_told_and_not_mended(tmp_path: Path, file: str, damage: bytes) -> None:
    (tmp_path / file).write_bytes(damage)
    with pytest.raises(KeyUnavailableError, match="device-ca"):
        load_ca(tmp_path, "device-ca")


def read_bundle(folder: Path) -> list[x509.Certificate]:
    content = (folder / "tls" / "server.pem").read_bytes()
    found = x509.load_pem_x509_certificates(content)
    assert load_pem_private_key(content[content.index(b"-----BEGIN PRIVATE") :], None).public_key() == (
        found[0].public_key()
    )
    return found


def test_the_server_s_file_holds_its_chain_and_its_key(
    pki: PkiContext, tmp_path: Path, clock: ManualClock
) -> None:
    assert ensure_server_certificate(tmp_path, pki.server_ca, NAMES, clock.now())
    leaf, issuer = read_bundle(tmp_path)
    assert issuer == pki.server_ca.certificate
    leaf.verify_directly_issued_by(issuer)
    assert (tmp_path / "tls" / "server.pem").stat().st_mode & 0o077 == 0


def test_server_certificates_renew_at_half_their_life_and_when_names_change(
    pki: PkiContext, tmp_path: Path, clock: ManualClock
) -> None:
    def ensure(names: list[str], after: timedelta) -> bool:
        return ensure_server_certificate(tmp_path, pki.server_ca, names, clock.now() + after)

    assert ensure(NAMES, 0 * DAY)
    first = read_bundle(tmp_path)[0]
    assert not ensure([*NAMES[:2], "0:0:0:0:0:0:0:1"], 14 * DAY)
    assert ensure(NAMES, 16 * DAY)
    assert read_bundle(tmp_path)[0].public_key() != first.public_key()
    assert ensure(["fleet.example"], 16 * DAY)


def test_a_server_certificate_of_another_authority_or_damaged_is_made_anew(
    pki: PkiContext, tmp_path: Path, clock: ManualClock
) -> None:
    other = make_pki(tmp_path / "other", clock.now())
    assert ensure_server_certificate(tmp_path, other.server_ca, NAMES, clock.now())
    assert ensure_server_certificate(tmp_path, pki.server_ca, NAMES, clock.now())
    (tmp_path / "tls" / "server.pem").write_bytes(b"half a file")
    assert ensure_server_certificate(tmp_path, pki.server_ca, NAMES, clock.now())
    read_bundle(tmp_path)


def test_the_time_signer_keeps_its_key_and_renews_its_certificate(
    pki: PkiContext, tmp_path: Path, clock: ManualClock
) -> None:
    key, first = load_time_signer(tmp_path)
    assert not ensure_time_signer(tmp_path, pki.server_ca, TRUST_DOMAIN, clock.now() + 180 * DAY)
    assert ensure_time_signer(tmp_path, pki.server_ca, TRUST_DOMAIN, clock.now() + 190 * DAY)
    same, second = load_time_signer(tmp_path)
    assert same.private_numbers() == key.private_numbers()
    assert second != first
    assert second.public_key() == key.public_key()
