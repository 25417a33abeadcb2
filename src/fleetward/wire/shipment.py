"""The shipment manifest: what a factory says about the devices it made.

One file. Its first line is a DSSE envelope (github.com/secure-systems-lab/dsse, payload type
`application/vnd.fleetward.shipment+json`) whose payload is the header; the rest are the rows, as JSON lines
or CSV, which the header names by their SHA-256: the signature covers every byte, and rows stream.
"""

import csv
import hashlib
import io
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Literal

import msgspec
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from msgspec import Meta
from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import Error as SecureSystemsError
from securesystemslib.signer import CryptoSigner, SSlibKey

from fleetward.base.clock import render_time
from fleetward.base.errors import InvalidInputError, TooLargeError

PAYLOAD_TYPE = "application/vnd.fleetward.shipment+json"
MAX_MANIFEST_BYTES = 64 * 1024 * 1024
MAX_ROWS = 500_000
_MAX_HEADER_BYTES = 16 * 1024
_MAX_ROW_CHARS = 2_048
_MAX_SIGNATURES = 4

FactoryKey = ed25519.Ed25519PublicKey | ec.EllipticCurvePublicKey
FactorySigningKey = ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey

_Name = Annotated[str, Meta(min_length=1, max_length=64)]
_Sha256 = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]


class ShipmentRefusedError(InvalidInputError):
    """A manifest that is no manifest, or not signed by a factory we trust; details may name the row."""

    code = "shipment_refused"


class ShipmentRow(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One device.

    Attributes:
        kind: what its chip is known by.
        fingerprint: SHA-256 of that key's SubjectPublicKeyInfo, lower-case hex.
    """

    device: _Name
    model: _Name
    kind: Literal["tpm-ek", "idevid", "csr-key"]
    fingerprint: _Sha256
    group: _Name = "default"


class Header(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the factory signs. `rows_sha256` covers every byte after the first line break."""

    factory: _Name
    batch: _Name
    created_at: Annotated[str, Meta(max_length=40)]
    devices: Annotated[int, Meta(ge=0, le=MAX_ROWS)]
    rows_format: Literal["jsonl", "csv"]
    rows_sha256: _Sha256


@dataclass(frozen=True)
class Shipment:
    """A manifest whose signature was verified.

    Attributes:
        signer: the name the verifying key is trusted under; the header's own is only the factory's word.
        digest: SHA-256 of the whole manifest, hex.
    """

    signer: str
    header: Header
    rows: bytes
    digest: str


def render_manifest(
    rows: Iterable[ShipmentRow],
    key: FactorySigningKey,
    *,
    factory: str,
    batch: str,
    at: datetime,
    rows_format: Literal["jsonl", "csv"] = "jsonl",
) -> bytes:
    """Return a signed manifest of `rows`."""
    found = list(rows)
    body = _render_csv(found) if rows_format == "csv" else _render_jsonl(found)
    header = Header(
        factory, batch, render_time(at), len(found), rows_format, hashlib.sha256(body).hexdigest()
    )
    envelope = Envelope(msgspec.json.encode(header), PAYLOAD_TYPE, {})
    envelope.sign(CryptoSigner(key))
    return json.dumps(envelope.to_dict()).encode() + b"\n" + body


def verify_manifest(content: bytes, trusted: Mapping[str, FactoryKey]) -> Shipment:
    """Return the shipment of a manifest that a trusted factory signed.

    1. The first line is a DSSE envelope of a shipment header. 2. One of its signatures verifies with a
    trusted key. 3. The rows are those whose digest was signed.

    Args:
        trusted: public keys by the name they are trusted under.

    Raises:
        TooLargeError: over 64 MiB.
        ShipmentRefusedError: one of these fails.
    """
    if len(content) > MAX_MANIFEST_BYTES:
        raise TooLargeError(f"shipment: expected at most {MAX_MANIFEST_BYTES} bytes, found {len(content)}")
    first, mark, rows = content.partition(b"\n")
    envelope = _parse_envelope(first)
    signer = _find_signer(envelope, trusted)
    if signer is None:
        raise ShipmentRefusedError(
            "shipment: expected a signature by a factory trusted here, found none that verifies",
            hint="Trust the factory's public key first: fleetward device import --trust-factory KEY.",
        )
    try:
        header = msgspec.json.decode(envelope.payload, type=Header)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ShipmentRefusedError(f"shipment header: expected it as documented: {error}") from error
    if not mark or hashlib.sha256(rows).hexdigest() != header.rows_sha256:
        raise ShipmentRefusedError("shipment rows: expected the digest the factory signed, found another")
    return Shipment(signer, header, rows, hashlib.sha256(content).hexdigest())


def parse_rows(shipment: Shipment) -> Iterator[ShipmentRow]:
    """Yield the devices of a verified shipment.

    Raises:
        ShipmentRefusedError: a row is not as documented, or there are more or fewer than the header says.
    """
    parse = _parse_csv if shipment.header.rows_format == "csv" else _parse_jsonl
    found = 0
    for row in parse(shipment.rows):
        found += 1
        if found <= shipment.header.devices:
            yield row
    if found != shipment.header.devices:
        raise ShipmentRefusedError(
            f"shipment rows: expected {shipment.header.devices} as signed, found {found}"
        )


def _parse_envelope(line: bytes) -> Envelope:
    if len(line) > _MAX_HEADER_BYTES:
        raise ShipmentRefusedError(
            f"shipment: expected a first line of at most {_MAX_HEADER_BYTES} bytes, found {len(line)}"
        )
    try:
        unverified = json.loads(line)
        unverified["signatures"] = unverified["signatures"][:_MAX_SIGNATURES]
        envelope = Envelope.from_dict(unverified)
    except (SecureSystemsError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ShipmentRefusedError(
            "shipment: expected a DSSE envelope in the first line, found none"
        ) from error
    if envelope.payload_type != PAYLOAD_TYPE:
        raise ShipmentRefusedError(f"shipment: expected an envelope of type {PAYLOAD_TYPE}, found another")
    return envelope


def _find_signer(envelope: Envelope, trusted: Mapping[str, FactoryKey]) -> str | None:
    for name, key in trusted.items():
        try:
            envelope.verify([SSlibKey.from_crypto(key)], 1)
        except SecureSystemsError:
            continue
        return name
    return None


def _render_jsonl(rows: list[ShipmentRow]) -> bytes:
    return b"".join(msgspec.json.encode(row) + b"\n" for row in rows)


def _render_csv(rows: list[ShipmentRow]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(ShipmentRow.__struct_fields__)
    writer.writerows(msgspec.structs.astuple(row) for row in rows)
    return text.getvalue().encode()


def _parse_jsonl(rows: bytes) -> Iterator[ShipmentRow]:
    decoder = msgspec.json.Decoder(ShipmentRow)
    for number, line in enumerate(rows.splitlines(), 1):
        try:
            if len(line) > _MAX_ROW_CHARS:
                raise msgspec.ValidationError("too long")
            yield decoder.decode(line)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise _bad_row(number, error) from error


def _parse_csv(rows: bytes) -> Iterator[ShipmentRow]:
    try:
        reader = csv.DictReader(io.StringIO(rows.decode()), strict=True)
    except UnicodeDecodeError as error:
        raise _bad_row(1, error) from error
    try:
        for row in reader:
            yield msgspec.convert(row, ShipmentRow)
    except (csv.Error, msgspec.MsgspecError, TypeError) as error:
        raise _bad_row(reader.line_num, error) from error


def _bad_row(number: int, error: Exception) -> ShipmentRefusedError:
    return ShipmentRefusedError(
        f"shipment row {number}: expected a device as documented: {error}", row=number
    )
