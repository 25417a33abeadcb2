"""Factories that are believed, and the shipments they sign."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from fleetward.base import journal
from fleetward.base.db import Tx
from fleetward.base.errors import ConflictError, InvalidInputError
from fleetward.base.ids import parse_device_id, parse_id
from fleetward.features.devices import service as devices
from fleetward.features.devices.model import HardwareIdentity, HardwareKind
from fleetward.features.enrollment import store
from fleetward.features.enrollment.model import Factory
from fleetward.wire.der import MALFORMED
from fleetward.wire.shipment import FactoryKey, Shipment, ShipmentRefusedError, parse_rows, verify_manifest

_MAX_PEM_CHARS = 64 * 1024


@dataclass(frozen=True)
class ImportReport:
    """What an import did. `was_known`: this very manifest had been imported before; nothing changed."""

    factory: str
    batch: str
    devices: int
    was_known: bool


def trust_factory(tx: Tx, factory: Factory) -> Factory:
    """Believe the shipments that a key signs, and let its IDevID authorities vouch in TLS.

    Raises:
        InvalidInputError: bad name, key or certificates.
        ConflictError: the name is trusted with another key.
    """
    parse_id(factory.name, what="factory")
    load_factory_key(factory)
    authorities = load_idevid_authorities(factory)
    existing = store.find_factory(tx, factory.name)
    if existing == factory:
        return existing
    if existing is not None:
        raise ConflictError(f"factory {factory.name}: expected a new name, found one trusted with other keys")
    store.insert_factory(tx, factory)
    journal.record(
        tx,
        "factory.trusted",
        f"factory:{factory.name}",
        public_key=factory.public_key,
        idevid_authorities=[authority.subject.rfc4514_string() for authority in authorities],
    )
    return factory


def list_factories(tx: Tx) -> list[Factory]:
    return store.list_factories(tx)


def list_idevid_authorities(tx: Tx) -> list[x509.Certificate]:
    """Return the CAs whose IDevIDs the devices' TLS listener must let through."""
    return [one for factory in store.list_factories(tx) for one in load_idevid_authorities(factory)]


def import_manifest(
    tx: Tx,
    trusted: Mapping[str, FactoryKey] | None,
    content: bytes,
    *,
    check_group: Callable[[str], None] = lambda _group: None,
) -> ImportReport:
    """Register every device of a signed shipment, or none.

    Args:
        trusted: public keys by name; None for the factories trusted in the database.
        check_group: raises for a group in which the caller may not register devices.

    Raises:
        ShipmentRefusedError: not signed by a trusted factory, or a row is wrong; details name it.
        NotFoundError: a row's model is unknown.
        ConflictError: a device or chip is registered already.
    """
    if trusted is None:
        trusted = {factory.name: load_factory_key(factory) for factory in store.list_factories(tx)}
    shipment = verify_manifest(content, trusted)
    header = shipment.header
    if store.has_shipment(tx, shipment.digest):
        return ImportReport(shipment.signer, header.batch, header.devices, was_known=True)
    rows = _read(shipment)
    for group in sorted({group for _, _, group, _ in rows}):
        check_group(group)
    for model_id in sorted({model for _, model, _, _ in rows}):
        devices.get_model(tx, model_id)
    devices.register_shipment(tx, rows, batch=header.batch, factory=shipment.signer)
    store.insert_shipment(tx, shipment.digest, shipment.signer, header.batch, len(rows))
    return ImportReport(shipment.signer, header.batch, len(rows), was_known=False)


def load_factory_key(factory: Factory) -> FactoryKey:
    """Return a factory's public key. Raises InvalidInputError."""
    try:
        key = load_pem_public_key(factory.public_key[:_MAX_PEM_CHARS].encode())
    except MALFORMED as error:
        raise InvalidInputError(
            f"factory {factory.name}: expected a public key in PEM, found none"
        ) from error
    if isinstance(key, ed25519.Ed25519PublicKey):
        return key
    if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1):
        return key
    raise InvalidInputError(f"factory {factory.name}: expected an Ed25519 or P-256 key, found another")


def load_idevid_authorities(factory: Factory) -> list[x509.Certificate]:
    """Return a factory's IDevID CAs. Raises InvalidInputError."""
    if not factory.idevid_authorities:
        return []
    if len(factory.idevid_authorities) > _MAX_PEM_CHARS:
        raise InvalidInputError(
            f"factory {factory.name}: expected at most {_MAX_PEM_CHARS} characters of PEM"
        )
    try:
        found = x509.load_pem_x509_certificates(factory.idevid_authorities.encode())
        are_authorities = all(_is_authority(one) for one in found)
    except MALFORMED as error:
        raise InvalidInputError(
            f"factory {factory.name}: expected certificates of IDevID CAs in PEM, found something else"
        ) from error
    if not are_authorities:
        raise InvalidInputError(f"factory {factory.name}: expected certificates of CAs, found one of no CA")
    return found


def _is_authority(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False


def _read(shipment: Shipment) -> list[tuple[str, str, str, HardwareIdentity]]:
    """Return the rows as the registry takes them; no id or chip twice."""
    rows: list[tuple[str, str, str, HardwareIdentity]] = []
    seen: set[str] = set()
    for number, row in enumerate(parse_rows(shipment), 1):
        parse_device_id(row.device)
        parse_id(row.group, what="group")
        if row.device in seen or row.fingerprint in seen:
            raise ShipmentRefusedError(
                f"shipment row {number}: expected a device and chip of its own, found {row.device} repeated",
                row=number,
            )
        seen |= {row.device, row.fingerprint}
        hardware = HardwareIdentity(HardwareKind(row.kind), row.fingerprint)
        rows.append((row.device, row.model, row.group, hardware))
    return rows
