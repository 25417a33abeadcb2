"""`fleetward attestation`: whose chips are trusted, and what devices may measure."""

from pathlib import Path

import click

from fleetward.base.errors import InvalidInputError
from fleetward.base.ids import parse_id
from fleetward.base.terminal import say
from fleetward.programs.cli.client import connect
from fleetward.programs.cli.output import json_option, print_json, print_table, show_time

_VENDOR_COLUMNS = {"subject": "Certificate", "until": "Until", "fingerprint": "SHA-256"}
_REFERENCE_COLUMNS = {
    "kind": "Kind", "version": "Version", "model": "Model", "digest": "Digest", "withdrawn": "Withdrawn",
}  # fmt: skip
_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)


@click.group()
def attestation() -> None:
    """Whose chips are trusted, and what devices may measure."""


@attestation.group()
def vendor() -> None:
    """TPM vendors: the roots that endorsement key certificates lead to."""


@vendor.command("trust")
@click.argument("file", type=_FILE)
@json_option
@click.pass_context
def trust_vendor(ctx: click.Context, file: Path, as_json: bool) -> None:
    """Trust the CA certificates in FILE (PEM) to name real chips."""
    try:
        pem = file.read_text()
    except UnicodeDecodeError as error:
        raise InvalidInputError(f"{file}: expected PEM, found something else") from error
    added = connect(ctx).post("/attestation/ek-roots", {"pem": pem})
    if as_json:
        print_json(added)
    else:
        say(f"{added['added']} new certificates trusted.")


@vendor.command("list")
@json_option
@click.pass_context
def list_vendors(ctx: click.Context, as_json: bool) -> None:
    """List the vendors' certificates."""
    _show_vendors(connect(ctx).get("/attestation/ek-roots"), as_json=as_json)


@vendor.command("withdraw")
@click.argument("fingerprint")
@json_option
@click.pass_context
def withdraw_vendor(ctx: click.Context, fingerprint: str, as_json: bool) -> None:
    """Trust the certificate with this SHA-256 FINGERPRINT no longer."""
    _check_hex(fingerprint, "fingerprint")
    left = connect(ctx).post(f"/attestation/ek-roots/{fingerprint}/withdraw")
    _show_vendors(left, as_json=as_json)


@attestation.group()
def reference() -> None:
    """What a model's devices may measure besides their published releases."""


@reference.command("list")
@click.argument("model")
@json_option
@click.pass_context
def list_references(ctx: click.Context, model: str, as_json: bool) -> None:
    """List the digests that devices of MODEL may measure."""
    parse_id(model, what="model")
    _show_references(connect(ctx).get(f"/models/{model}/references"), as_json=as_json)


@reference.command("add")
@click.argument("model")
@click.argument("digest")
@click.option("--version", default="", help="What people call it.")
@click.option(
    "--kind", type=click.Choice(["boot_stage", "pinned_keys"]), default="boot_stage", show_default=True
)
@json_option
@click.pass_context
def add_reference(
    ctx: click.Context, model: str, digest: str, version: str, kind: str, as_json: bool
) -> None:
    """Let devices of MODEL boot by the stage, or the keys, with this SHA-256 DIGEST."""
    parse_id(model, what="model")
    body = {"kind": kind, "digest": digest, "version": version}
    _show_references([connect(ctx).post(f"/models/{model}/references", body)], as_json=as_json)


@reference.command("withdraw")
@click.argument("model")
@click.argument("digest")
@json_option
@click.pass_context
def withdraw_reference(ctx: click.Context, model: str, digest: str, as_json: bool) -> None:
    """Accept a DIGEST no longer: devices that measure it fail their next attestation."""
    parse_id(model, what="model")
    _check_hex(digest, "digest")
    left = connect(ctx).post(f"/models/{model}/references/{digest}/withdraw")
    _show_references(left, as_json=as_json)


def _check_hex(text: str, what: str) -> None:
    """Pass when `text` is a SHA-256: it becomes part of an address. Raises InvalidInputError."""
    if len(text) != 64 or set(text) - set("0123456789abcdef"):  # noqa: PLR2004 - digits of a SHA-256
        raise InvalidInputError(f"{what}: expected 64 digits of lower-case hexadecimal, found {text[:80]!r}")


def _show_vendors(found: list[dict[str, str]], *, as_json: bool) -> None:
    if as_json:
        print_json(found)
        return
    rows = [{**one, "until": show_time(one["not_after"])[:10]} for one in found]
    print_table(rows, _VENDOR_COLUMNS, empty="No vendor is trusted: devices with a TPM cannot enroll.")


def _show_references(found: list[dict[str, str]], *, as_json: bool) -> None:
    if as_json:
        print_json(found)
        return
    rows = [
        {**one, "withdrawn": show_time(one["withdrawn_at"]) if one["withdrawn_at"] else ""} for one in found
    ]
    print_table(rows, _REFERENCE_COLUMNS, empty="None yet: publish a release.")
