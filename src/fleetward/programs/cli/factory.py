"""`fleetward factory`: plays manufacturing. Writes a signed shipment manifest; speaks to no platform."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import click
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from fleetward.base.clock import SystemClock
from fleetward.base.errors import ConfigError, ConflictError, InvalidInputError
from fleetward.base.files import write_atomically, write_secret
from fleetward.base.ids import new_id, parse_device_id, parse_id
from fleetward.base.terminal import say
from fleetward.features.enrollment.model import fingerprint_of
from fleetward.programs.cli.output import json_option, print_facts, print_json
from fleetward.wire import est
from fleetward.wire.der import MALFORMED
from fleetward.wire.shipment import FactorySigningKey, ShipmentRow, render_manifest

_MAX_FILE_BYTES = 64 * 1024
_PEM_MARK = b"-----BEGIN"
_Kind = Literal["tpm-ek", "idevid", "csr-key"]
_file_or_folder = click.Path(path_type=Path, exists=True)
_old_file = click.Path(path_type=Path, exists=True, dir_okay=False)
_new_file = click.Path(path_type=Path, dir_okay=False)


@click.group()
def factory() -> None:
    """What happens at manufacturing."""


@factory.command()
@click.option("--model", required=True, help="What product the devices are.")
@click.option("--out", type=_new_file, required=True, help="The manifest to write.")
@click.option("--key", "key_file", type=_new_file, required=True,
              help="The factory's signing key; made at the first use.")  # fmt: skip
@click.option("--passphrase-file", type=_old_file, help="Encrypts the signing key.")
@click.option("--name", default="factory", show_default=True, help="What the factory is called.")
@click.option("--batch", help="What the shipment is called.  [default: random]")
@click.option("--group", default="default", show_default=True, help="The devices' group.")
@click.option("--format", "rows_format", type=click.Choice(["jsonl", "csv"]), default="jsonl",
              show_default=True, help="How rows are written.")  # fmt: skip
@click.option("--ek", "eks", type=_file_or_folder, multiple=True,
              help="TPM endorsement key certificates: a file, or a folder of them. Repeatable.")  # fmt: skip
@click.option(
    "--idevid", "idevids", type=_file_or_folder, multiple=True, help="IDevID certificates, likewise."
)
@click.option("--csr", "csrs", type=_file_or_folder, multiple=True,
              help="Certificate requests by keys in secure elements, likewise.")  # fmt: skip
@click.option("--idevid-ca", type=_old_file,
              help="The CAs of the IDevIDs, PEM; they go into the factory's public file.")  # fmt: skip
@click.option("--tcti", help="Read a live TPM, e.g. device:/dev/tpmrm0; --id names its device.")
@click.option("--id", "device_id", help="The device's id when there is one; else files are named after ids.")
@json_option
def provision(
    model: str,
    out: Path,
    key_file: Path,
    passphrase_file: Path | None,
    name: str,
    batch: str | None,
    group: str,
    rows_format: Literal["jsonl", "csv"],
    eks: tuple[Path, ...],
    idevids: tuple[Path, ...],
    csrs: tuple[Path, ...],
    idevid_ca: Path | None,
    tcti: str | None,
    device_id: str | None,
    as_json: bool,
) -> None:
    """Write a signed manifest of devices, and the public file that a platform trusts the factory by."""
    for text, what in ((model, "model"), (name, "factory"), (group, "group")):
        parse_id(text, what=what)
    if tcti is not None and device_id is None:
        raise ConfigError("--tcti: expected the device's name too, found none", hint="Give --id ID.")
    files = [*_of_kind("tpm-ek", eks), *_of_kind("idevid", idevids), *_of_kind("csr-key", csrs)]
    found = [
        (device_id or path.name.partition(".")[0], kind, _read_fingerprint(kind, path))
        for kind, path in _with_progress(files, is_quiet=as_json)
    ]
    if tcti is not None:
        found.append((str(device_id), "tpm-ek", _read_tpm(tcti)))
    _check(found)
    key, batch = _ensure_key(key_file, passphrase_file), batch or new_id("batch")
    rows = [ShipmentRow(device, model, kind, fingerprint, group) for device, kind, fingerprint in found]
    now = SystemClock().now()
    manifest = render_manifest(rows, key, factory=name, batch=batch, at=now, rows_format=rows_format)
    write_atomically(out, manifest)
    public_file = _write_public_file(key_file.with_name(f"{name}.pem"), key, idevid_ca)
    report = {
        "manifest": str(out), "devices": len(rows), "batch": batch, "factory": name,
        "public_key": str(public_file),
    }  # fmt: skip
    if as_json:
        print_json(report)
    else:
        print_facts({title.replace("_", " "): value for title, value in report.items()})
        say(f"\nNext: fleetward device import {out} --trust-factory {public_file}")


def _of_kind(kind: _Kind, paths: tuple[Path, ...]) -> list[tuple[_Kind, Path]]:
    found: list[Path] = []
    for path in paths:
        found += sorted(child for child in path.iterdir() if child.is_file()) if path.is_dir() else [path]
    return [(kind, path) for path in found]


def _with_progress(files: list[tuple[_Kind, Path]], *, is_quiet: bool) -> Iterator[tuple[_Kind, Path]]:
    if is_quiet or not files:
        return iter(files)
    from rich.console import Console  # noqa: PLC0415 - only for people
    from rich.progress import track  # noqa: PLC0415

    console = Console(stderr=True)
    return iter(track(files, description="Reading devices", console=console, transient=True))


def _read_fingerprint(kind: _Kind, path: Path) -> str:
    """Return the SHA-256 of the key of a certificate, or of a request that proves its possession."""
    content = path.read_bytes()[: _MAX_FILE_BYTES + 1]
    if len(content) > _MAX_FILE_BYTES:
        raise InvalidInputError(f"{path}: expected at most {_MAX_FILE_BYTES} bytes, found more")
    is_pem = content.lstrip().startswith(_PEM_MARK)
    try:
        if kind == "csr-key":
            csr = x509.load_pem_x509_csr(content) if is_pem else x509.load_der_x509_csr(content)
            return fingerprint_of(est.parse_csr_der(csr.public_bytes(Encoding.DER)))
        load = x509.load_pem_x509_certificate if is_pem else x509.load_der_x509_certificate
        return fingerprint_of(load(content))
    except MALFORMED as error:
        what = "certificate request" if kind == "csr-key" else "certificate"
        raise InvalidInputError(f"{path}: expected a {what} in PEM or DER, found something else") from error


def _read_tpm(tcti: str) -> str:
    from fleetward.outside.keys.tpm import TpmKeyStore  # noqa: PLC0415 - needs the tpm extra

    with tempfile.TemporaryDirectory() as folder:
        chain = TpmKeyStore(tcti, Path(folder)).ek_certificate_chain()
    return fingerprint_of(x509.load_der_x509_certificate(chain[0]))


def _check(found: list[tuple[str, _Kind, str]]) -> None:
    """Pass when every device has an id and a key of its own."""
    if not found:
        raise ConfigError(
            "devices: expected at least one, found none", hint="Give --ek, --idevid, --csr or --tcti."
        )
    seen: set[str] = set()
    for device, _, fingerprint in found:
        parse_device_id(device)
        if seen & {device, fingerprint}:
            raise ConflictError(
                f"device {device}: expected an id and key of its own, found them twice",
                hint="With several devices leave out --id, and name the files after the devices.",
            )
        seen |= {device, fingerprint}


def _ensure_key(path: Path, passphrase_file: Path | None) -> FactorySigningKey:
    """Return the factory's key; make it when there is none. An existing one is never overwritten."""
    passphrase = passphrase_file.read_bytes().strip() if passphrase_file else None
    if not path.exists():
        made = ed25519.Ed25519PrivateKey.generate()
        encryption: KeySerializationEncryption = NoEncryption()
        if passphrase:
            encryption = BestAvailableEncryption(passphrase)
        write_secret(path, made.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption))
        return made
    try:
        key = load_pem_private_key(path.read_bytes(), passphrase)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise ConfigError(
            f"{path}: expected a key that opens with the passphrase given, found none"
        ) from error
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return key
    if isinstance(key, ec.EllipticCurvePrivateKey) and isinstance(key.curve, ec.SECP256R1):
        return key
    raise ConfigError(f"{path}: expected an Ed25519 or P-256 key, found another kind")


def _write_public_file(path: Path, key: FactorySigningKey, idevid_ca: Path | None) -> Path:
    pem = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    write_atomically(path, pem + (idevid_ca.read_bytes() if idevid_ca else b""))
    return path
