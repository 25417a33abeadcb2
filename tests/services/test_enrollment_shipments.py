"""Shipment manifests: signed by whom, taken whole or not at all."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import given
from hypothesis import strategies as st

from fleetward.base.db import Database
from fleetward.base.errors import ConflictError, InvalidInputError, NotFoundError
from fleetward.features.devices import service as devices
from fleetward.features.devices.model import HardwareIdentity, HardwareKind
from fleetward.features.enrollment import service
from fleetward.features.enrollment.model import Factory
from fleetward.wire.shipment import (
    FactorySigningKey,
    ShipmentRefusedError,
    ShipmentRow,
    parse_rows,
    render_manifest,
    verify_manifest,
)
from support.authority import Authority, make_certificate
from support.enrollment import add_model, events_of

NOW = datetime(2026, 6, 1, tzinfo=UTC)
KEY = ed25519.Ed25519PrivateKey.generate()


def make_p256_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def public_pem(key: FactorySigningKey) -> str:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def row(number: int, model: str = "cam") -> ShipmentRow:
    return ShipmentRow(f"cam-{number}", model, "tpm-ek", f"{number:064x}")


def manifest(
    rows: list[ShipmentRow], *, key: FactorySigningKey = KEY, rows_format: Literal["jsonl", "csv"] = "jsonl"
) -> bytes:
    return render_manifest(rows, key, factory="plant", batch="b-1", at=NOW, rows_format=rows_format)


@pytest.fixture
def house(db: Database) -> Database:
    """A database that trusts the factory `plant` and knows the model `cam`."""
    add_model(db)
    with db.write("operator:test") as tx:
        service.trust_factory(tx, Factory("plant", public_pem(KEY)))
    return db


def take(db: Database, content: bytes) -> service.ImportReport:
    with db.write("operator:test") as tx:
        return service.import_manifest(tx, None, content)


@pytest.mark.parametrize("rows_format", ["jsonl", "csv"])
@pytest.mark.parametrize(
    "make_key", [ed25519.Ed25519PrivateKey.generate, lambda: ec.generate_private_key(ec.SECP256R1())]
)
def test_a_signed_shipment_registers_its_devices(
    db: Database, rows_format: Literal["jsonl", "csv"], make_key: Callable[[], FactorySigningKey]
) -> None:
    add_model(db)
    key = make_key()
    content = manifest([row(1), row(2)], key=key, rows_format=rows_format)
    with db.write("operator:test") as tx:
        report = service.import_manifest(tx, {"plant": key.public_key()}, content)
        assert report == service.ImportReport("plant", "b-1", 2, was_known=False)
        found = devices.find_by_hardware(tx, f"{2:064x}")
    assert found is not None
    assert found.id == "cam-2"
    assert found.hardware == HardwareIdentity(HardwareKind.TPM_EK, f"{2:064x}")


def test_importing_the_same_manifest_again_changes_nothing(house: Database) -> None:
    content = manifest([row(1)])
    take(house, content)
    assert take(house, content).was_known
    assert len(events_of(house, "shipment.imported")) == 1


def test_a_stranger_factory_is_refused(house: Database) -> None:
    stranger = ed25519.Ed25519PrivateKey.generate()
    with pytest.raises(ShipmentRefusedError, match="trusted"):
        take(house, manifest([row(1)], key=stranger))


def test_no_factory_trusted_is_a_refusal(db: Database) -> None:
    with pytest.raises(ShipmentRefusedError):
        take(db, manifest([row(1)]))


def test_one_changed_byte_of_the_rows_is_refused(house: Database) -> None:
    content = manifest([row(1)])
    with pytest.raises(ShipmentRefusedError, match="digest"):
        take(house, content.replace(b"cam-1", b"cam-9"))
    with pytest.raises(ShipmentRefusedError, match="digest"):
        take(house, content + b"\n")


def test_a_changed_header_is_refused(house: Database) -> None:
    first, _, rows = manifest([row(1)]).partition(b"\n")
    envelope = json.loads(first)
    envelope["payload"] = envelope["payload"][:-8] + "AAAA" + envelope["payload"][-4:]
    with pytest.raises(ShipmentRefusedError):
        take(house, json.dumps(envelope).encode() + b"\n" + rows)


@pytest.mark.parametrize(
    ("bad", "error"),
    [
        (row(2, model="unknown"), NotFoundError),
        (ShipmentRow("a/b", "cam", "tpm-ek", f"{2:064x}"), InvalidInputError),
        (ShipmentRow("cam-2", "cam", "tpm-ek", f"{1:064x}"), ShipmentRefusedError),
        (ShipmentRow("cam-1", "cam", "tpm-ek", f"{2:064x}"), ShipmentRefusedError),
        (ShipmentRow("cam-2", "cam", "tpm-ek", "XYZ"), ShipmentRefusedError),
        (ShipmentRow("", "cam", "tpm-ek", f"{2:064x}"), ShipmentRefusedError),
    ],
)
@pytest.mark.parametrize("rows_format", ["jsonl", "csv"])
def test_one_bad_row_and_nothing_is_registered(
    house: Database, bad: ShipmentRow, error: type[Exception], rows_format: Literal["jsonl", "csv"]
) -> None:
    with pytest.raises(error):
        take(house, manifest([row(1), bad], rows_format=rows_format))
    with house.read() as tx:
        assert devices.list_devices(tx) == []


def test_a_device_that_is_registered_already_stops_the_whole_shipment(house: Database) -> None:
    with house.write("operator:test") as tx:
        devices.register(tx, "cam-2", "cam")
    with pytest.raises(ConflictError, match="cam-2"):
        take(house, manifest([row(1), row(2)]))
    with house.read() as tx:
        assert devices.find_device(tx, "cam-1") is None


def test_ten_thousand_devices_are_one_import(house: Database) -> None:
    assert take(house, manifest([row(number) for number in range(10_000)])).devices == 10_000
    with house.read() as tx:
        assert devices.get_device(tx, "cam-9999").model == "cam"


def test_a_factory_is_trusted_once_per_name(house: Database) -> None:
    with house.write("operator:test") as tx:
        service.trust_factory(tx, Factory("plant", public_pem(KEY)))
    other = Factory("plant", public_pem(ed25519.Ed25519PrivateKey.generate()))
    with pytest.raises(ConflictError), house.write("operator:test") as tx:
        service.trust_factory(tx, other)


@pytest.mark.parametrize("public_key", ["", "junk", public_pem(ec.generate_private_key(ec.SECP384R1()))])
def test_a_bad_factory_key_is_refused(db: Database, public_key: str) -> None:
    with pytest.raises(InvalidInputError), db.write("operator:test") as tx:
        service.trust_factory(tx, Factory("plant", public_key))


def test_a_factorys_idevid_authorities_must_be_authorities(db: Database) -> None:
    maker = Authority("maker")
    ca_pem = maker.certificate.public_bytes(Encoding.PEM).decode()
    key = ec.generate_private_key(ec.SECP256R1())
    leaf = make_certificate("x", key.public_key(), maker.as_issuer(), usage=ExtendedKeyUsageOID.CLIENT_AUTH)
    with db.write("operator:test") as tx:
        service.trust_factory(tx, Factory("plant", public_pem(KEY), ca_pem))
        assert service.list_idevid_authorities(tx) == [maker.certificate]
        for bad in ("junk", leaf.public_bytes(Encoding.PEM).decode()):
            with pytest.raises(InvalidInputError):
                service.trust_factory(tx, Factory("plant-2", public_pem(KEY), bad))


TRUSTED = {"plant": KEY.public_key()}
FIRST, _, ROWS = manifest([row(1)]).partition(b"\n")
JUNK = st.one_of(st.binary(max_size=200), st.text(max_size=100).map(str.encode))


@given(
    st.one_of(
        st.binary(max_size=400), st.binary(max_size=50).map(lambda junk: FIRST[:-3] + junk + b"\n" + ROWS)
    )
)
def test_junk_is_refused_by_name(content: bytes) -> None:
    with pytest.raises(InvalidInputError):
        verify_manifest(content, TRUSTED)


@given(
    st.one_of(st.binary(max_size=200), st.text(max_size=100).map(str.encode)),
    st.sampled_from(["jsonl", "csv"]),
)
def test_rows_of_junk_are_refused_by_name(rows: bytes, rows_format: Literal["jsonl", "csv"]) -> None:
    good = verify_manifest(manifest([row(1)], rows_format=rows_format), TRUSTED)
    with pytest.raises(InvalidInputError):
        list(parse_rows(replace(good, rows=rows)))


@pytest.mark.parametrize(
    "bomb", [b"[" * 10_000, b'{"signatures":' * 3000, b'{"signatures":[' + b"{}," * 5000 + b"{}]}"]
)
def test_json_bombs_are_refused(bomb: bytes) -> None:
    with pytest.raises(InvalidInputError):
        verify_manifest(bomb, TRUSTED)


def test_a_manifest_reads_as_documented(tmp_path: Path) -> None:
    """The header is one line of JSON; the rows are what a factory's own tools can print."""
    (tmp_path / "m").write_bytes(manifest([row(1)]))
    first, second = (tmp_path / "m").read_text().splitlines()
    assert json.loads(first)["payloadType"] == "application/vnd.fleetward.shipment+json"
    assert json.loads(second) == {
        "device": "cam-1",
        "model": "cam",
        "kind": "tpm-ek",
        "fingerprint": f"{1:064x}",
    }
