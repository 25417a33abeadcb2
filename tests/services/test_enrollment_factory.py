"""`fleetward factory provision`: what leaves the factory is what a platform takes."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from fleetward.base.db import Database
from fleetward.base.errors import ConfigError, ConflictError, FleetwardError, InvalidInputError
from fleetward.features.devices import service as devices
from fleetward.features.devices.model import HardwareIdentity, HardwareKind
from fleetward.features.enrollment import service
from fleetward.features.enrollment.model import fingerprint_of, parse_factory
from fleetward.outside.keys.tpm import TpmKeyStore
from fleetward.programs.cli.factory import factory
from support.authority import Authority, make_certificate
from support.clock import ManualClock
from support.enrollment import Keypair, add_model, sqlite_in
from support.swtpm import running_swtpm


@pytest.fixture
def db(tmp_path: Path, clock: ManualClock) -> Iterator[Database]:
    with sqlite_in(tmp_path, clock) as database:
        yield database


MAKER = Authority("maker")


def make_idevid(folder: Path, device_id: str, encoding: Encoding = Encoding.PEM) -> x509.Certificate:
    key = ec.generate_private_key(ec.SECP256R1())
    usage = ExtendedKeyUsageOID.CLIENT_AUTH
    certificate = make_certificate(f"SN {device_id}", key.public_key(), MAKER.as_issuer(), usage=usage)
    folder.mkdir(exist_ok=True)
    (folder / f"{device_id}.crt").write_bytes(certificate.public_bytes(encoding))
    return certificate


def provision(folder: Path, *more: str | Path, model: str = "cam") -> dict[str, Any]:
    files = ["--out", folder / "shipment", "--key", folder / "plant.key.pem", "--name", "plant"]
    arguments = [str(part) for part in ("provision", "--model", model, *files, *more, "--json")]
    result = CliRunner().invoke(factory, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    report: dict[str, Any] = json.loads(result.stdout)
    return report


def take(db: Database, report: dict[str, Any]) -> service.ImportReport:
    with db.write("operator:test") as tx:
        service.trust_factory(tx, parse_factory("plant", Path(report["public_key"]).read_text()))
        return service.import_manifest(tx, None, Path(report["manifest"]).read_bytes())


@pytest.mark.parametrize("rows_format", ["jsonl", "csv"])
def test_idevids_and_requests_become_devices(db: Database, tmp_path: Path, rows_format: str) -> None:
    add_model(db)
    first = make_idevid(tmp_path / "idevids", "cam-1")
    make_idevid(tmp_path / "idevids", "cam-2", Encoding.DER)
    csr = Keypair().csr_for("cam-3")
    (tmp_path / "cam-3.csr").write_bytes(csr.public_bytes(Encoding.PEM))
    report = provision(
        tmp_path, "--idevid", tmp_path / "idevids", "--csr", tmp_path / "cam-3.csr", "--format", rows_format
    )
    assert take(db, report).devices == 3
    with db.read() as tx:
        assert devices.get_device(tx, "cam-1").hardware == HardwareIdentity(
            HardwareKind.IDEVID, fingerprint_of(first)
        )
        assert devices.get_device(tx, "cam-3").hardware == HardwareIdentity(
            HardwareKind.CSR_KEY, fingerprint_of(csr)
        )


def test_the_public_file_brings_the_idevids_authorities(db: Database, tmp_path: Path) -> None:
    add_model(db)
    make_idevid(tmp_path / "idevids", "cam-1")
    ca_file = tmp_path / "maker.pem"
    ca_file.write_bytes(MAKER.certificate.public_bytes(Encoding.PEM))
    take(db, provision(tmp_path, "--idevid", tmp_path / "idevids", "--idevid-ca", ca_file))
    with db.read() as tx:
        assert service.list_idevid_authorities(tx) == [MAKER.certificate]


def test_the_signing_key_is_made_once_and_guarded(db: Database, tmp_path: Path) -> None:
    add_model(db)
    passphrase = tmp_path / "passphrase"
    passphrase.write_text("a long enough passphrase\n")
    make_idevid(tmp_path / "a", "cam-1")
    make_idevid(tmp_path / "b", "cam-2")
    first = provision(tmp_path, "--idevid", tmp_path / "a", "--passphrase-file", passphrase)
    key = (tmp_path / "plant.key.pem").read_bytes()
    assert b"ENCRYPTED" in key
    assert (tmp_path / "plant.key.pem").stat().st_mode & 0o777 == 0o600
    take(db, first)
    take(db, provision(tmp_path, "--idevid", tmp_path / "b", "--passphrase-file", passphrase))
    assert (tmp_path / "plant.key.pem").read_bytes() == key
    with pytest.raises(ConfigError, match="passphrase"):
        provision(tmp_path, "--idevid", tmp_path / "b")


def test_a_thousand_devices_are_one_manifest(db: Database, tmp_path: Path) -> None:
    add_model(db)
    for number in range(1000):
        make_idevid(tmp_path / "many", f"cam-{number}")
    assert take(db, provision(tmp_path, "--idevid", tmp_path / "many")).devices == 1000


@pytest.mark.parametrize(
    ("name", "content", "error"),
    [("cam-1.crt", b"junk", InvalidInputError), ("cam-1.crt", b"A" * 100_000, InvalidInputError),
     ("a b.crt", None, InvalidInputError)],
)  # fmt: skip
def test_a_bad_file_is_named(
    tmp_path: Path, name: str, content: bytes | None, error: type[Exception]
) -> None:
    good = make_idevid(tmp_path / "x", "x").public_bytes(Encoding.PEM)
    (tmp_path / name).write_bytes(good if content is None else content)
    with pytest.raises(error):
        provision(tmp_path, "--idevid", tmp_path / name)
    assert not (tmp_path / "shipment").exists()


def test_two_devices_with_one_chip_are_refused(tmp_path: Path) -> None:
    make_idevid(tmp_path / "x", "cam-1")
    shutil.copy(tmp_path / "x" / "cam-1.crt", tmp_path / "x" / "cam-2.crt")
    with pytest.raises(ConflictError, match="cam-2"):
        provision(tmp_path, "--idevid", tmp_path / "x")


def test_no_device_at_all_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FleetwardError, match="at least one"):
        provision(tmp_path)


def test_a_live_tpm_and_its_certificate_file_name_the_same_chip(db: Database, tmp_path: Path) -> None:
    add_model(db)
    with running_swtpm(tmp_path / "chip") as chip:
        by_tcti = provision(tmp_path, "--tcti", chip.tcti, "--id", "cam-1", "--batch", "b")
        [der] = TpmKeyStore(chip.tcti, tmp_path / "blobs").ek_certificate_chain()
    first_rows = Path(by_tcti["manifest"]).read_bytes().splitlines()[1:]
    (tmp_path / "cam-1.ek").write_bytes(der)
    by_file = provision(tmp_path, "--ek", tmp_path / "cam-1.ek", "--batch", "b")
    assert Path(by_file["manifest"]).read_bytes().splitlines()[1:] == first_rows
    assert take(db, by_file).devices == 1
    with db.read() as tx:
        device = devices.find_by_hardware(tx, fingerprint_of(x509.load_der_x509_certificate(der)))
    assert device is not None
    assert device.id == "cam-1"


def test_a_live_tpm_needs_its_devices_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="name"):
        provision(tmp_path, "--tcti", "swtpm:port=1")
