"""`fleetward audit`: read the log, and prove that nobody altered it."""

import base64
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from fleetward.base.errors import InvalidInputError
from fleetward.features.audit.model import Entry, verify_log
from fleetward.outside.http.platform import Api
from fleetward.programs.cli.client import connect
from fleetward.programs.cli.output import json_option, print_json, print_table

_PAGE = 2000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@click.group()
def audit() -> None:
    """The tamper-evident log of every change."""


@audit.command()
@click.option("--actor", help="Such as operator:admin or device:cam-1.")
@click.option("--action", help="Such as device.revoked.")
@click.option("--subject", help="Such as device:cam-1.")
@json_option
@click.pass_context
def search(
    ctx: click.Context, actor: str | None, action: str | None, subject: str | None, as_json: bool
) -> None:
    """Print entries, oldest first."""
    found = list(_entries(connect(ctx), actor=actor, action=action, subject=subject))
    if as_json:
        for entry in found:
            print_json(entry)
        return
    columns = {"sequence": "#", "time": "Time", "actor": "Actor", "action": "Action", "subject": "Subject"}
    print_table(found, columns, empty="No entries match.")


@audit.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.pass_context
def export(ctx: click.Context, file: Path) -> None:
    """Write the whole log to FILE as JSON lines: first the signed checkpoints, then the entries."""
    api = connect(ctx)
    checkpoints = api.get("/audit/checkpoints")
    with file.open("w") as out:
        out.write(json.dumps(checkpoints) + "\n")
        for entry in _entries(api):
            out.write(json.dumps(entry) + "\n")
    click.echo(f"Wrote {file}. Verify it anywhere: fleetward audit verify --file {file}")


@audit.command()
@click.option("--file", type=click.Path(path_type=Path, exists=True, dir_okay=False),
              help="An export, verified without any platform.")  # fmt: skip
@click.option("--public-key", help="The log's key as you noted it, base64; else the one in the log.")
@json_option
@click.pass_context
def verify(ctx: click.Context, file: Path | None, public_key: str | None, as_json: bool) -> None:
    """Prove that no entry was altered, removed or reordered since it was signed."""
    if file is not None:
        lines = _read_export(file)
        checkpoints: dict[str, Any] = next(lines, {})
        entries: Iterator[dict[str, Any]] = lines
    else:
        api = connect(ctx)
        checkpoints = api.get("/audit/checkpoints")
        entries = _entries(api)
    key = _parse_key(public_key or str(checkpoints.get("public_key", "")))
    tree = verify_log((_as_entry(entry) for entry in entries), checkpoints.get("notes", []), key)
    if as_json:
        print_json({"verified": True, "entries": tree.size, "root": tree.root.hex(),
                    "public_key": base64.b64encode(key.public_bytes_raw()).decode()})  # fmt: skip
    else:
        click.echo(
            f"{click.style('verified', fg='green', bold=True)}: {tree.size} entries, root {tree.root.hex()}"
        )


def _entries(api: Api, **filters: str | None) -> Iterator[dict[str, Any]]:
    after: int | None = -1
    while after is not None:
        page = api.get("/audit/entries", after=after, limit=_PAGE, **filters)
        yield from page["entries"]
        after = page["next_after"]


def _read_export(file: Path) -> Iterator[dict[str, Any]]:
    with file.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            try:
                found = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise InvalidInputError(
                    f"{file}: line {number}: expected JSON of an export, found something else"
                ) from error
            if not isinstance(found, dict):
                raise InvalidInputError(f"{file}: line {number}: expected an object, found something else")
            yield found


def _as_entry(view: dict[str, Any]) -> tuple[Entry, bytes]:
    try:
        at = _EPOCH + timedelta(microseconds=view["at_us"])
        entry = Entry(view["sequence"], at, view["actor"], view["action"], view["subject"], view["details"])
        return entry, base64.b64decode(view["leaf_hash"])
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise InvalidInputError("audit entry: expected one of an export, found something else") from error


def _parse_key(text: str) -> Ed25519PublicKey:
    try:
        return Ed25519PublicKey.from_public_bytes(base64.b64decode(text, validate=True))
    except ValueError as error:
        raise InvalidInputError(
            "audit public key: expected 32 bytes in base64, found something else"
        ) from error
