"""`fleetward audit`: read the log, and prove that nobody altered it."""

import base64
import json
from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any

import click
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from fleetward.base.errors import InvalidInputError
from fleetward.base.layout import DataFolder
from fleetward.base.terminal import say
from fleetward.features.audit.model.documents import (
    ConsistencyDocument,
    InclusionDocument,
    LogDocument,
    convert_document,
    load_key,
    verify_consistency_document,
    verify_inclusion_document,
    verify_log_document,
)
from fleetward.features.audit.model.tree import Tree
from fleetward.outside.auditing.folder import load_public_key, verify_folder
from fleetward.outside.auditing.witness import FileWitness
from fleetward.outside.http.platform import Api
from fleetward.programs.cli.client import connect
from fleetward.programs.cli.output import json_option, print_json, print_table

_PAGE = 2000
_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)
_OUT = click.Path(path_type=Path, dir_okay=False)


@click.group()
def audit() -> None:
    """The tamper-evident log of every change."""


@audit.command()
@click.option("--actor", help="Such as operator:admin or device:cam-1.")
@click.option("--device", help="A device's id: changes of this device.")
@click.option("--action", help="Such as device.revoked, or its beginning: device.")
@click.option("--subject", help="Such as model:camera.")
@click.option("--since", help="Earliest time, RFC 3339.")
@click.option("--until", help="Time before which, RFC 3339.")
@click.option("--limit", type=click.IntRange(min=1), help="How many at most; else all.")
@json_option
@click.pass_context
def search(ctx: click.Context, /, *, as_json: bool, limit: int | None, **filters: str | None) -> None:
    """Print entries, oldest first; with --json as JSON lines."""
    found = islice(_entries(connect(ctx), **filters), limit)
    if as_json:
        for entry in found:
            print_json(entry)
        return
    columns = {"sequence": "#", "time": "Time", "actor": "Actor", "action": "Action", "subject": "Subject"}
    print_table(list(found), columns, empty="No entries match.")


@audit.command()
@click.argument("file", type=_OUT, required=False)
@json_option
@click.pass_context
def export(ctx: click.Context, file: Path | None, as_json: bool) -> None:
    """Write the whole log as JSON lines: first what was signed, then the entries. Without FILE, print it."""
    api = connect(ctx)
    log = _read_log(api)
    size = log["head"]["size"]
    lines = (json.dumps(one) for one in chain([log], islice(_entries(api), size)))
    if file is None:
        for line in lines:
            say(line)
        return
    with file.open("w") as out:
        out.writelines(f"{line}\n" for line in lines)
    if as_json:
        print_json({"file": str(file), "entries": size})
    else:
        say(f"Wrote {file}. Verify it anywhere: fleetward audit verify --file {file}")


@audit.command()
@click.argument("sequence", type=click.IntRange(min=0))
@click.option("--size", type=click.IntRange(min=1), help="Of a kept checkpoint; else the log as it is now.")
@click.option("--out", type=_OUT, help="Write the proof here instead.")
@click.pass_context
def prove(ctx: click.Context, sequence: int, size: int | None, out: Path | None) -> None:
    """Print a proof that entry SEQUENCE is in the signed log, as JSON."""
    _give_proof(connect(ctx).get("/audit/proof/inclusion", sequence=sequence, size=size), None, out)


@audit.command("prove-growth")
@click.argument("first", type=click.IntRange(min=1))
@click.argument("second", type=click.IntRange(min=1), required=False)
@click.option("--out", type=_OUT, help="Write the proof here instead.")
@click.pass_context
def prove_growth(ctx: click.Context, first: int, second: int | None, out: Path | None) -> None:
    """Print a proof that the log of SECOND entries, or as it is now, begins with that of FIRST, as JSON."""
    _give_proof(connect(ctx).get("/audit/proof/consistency", **{"from": first, "to": second}), None, out)


@audit.command()
@click.option("--file", type=_FILE, help="An export, verified without any platform.")
@click.option("--proof", type=_FILE, help="A proof of `audit prove` or `prove-growth`.")
@click.option("--offline", is_flag=True, help="Read the database in the data folder, not the platform.")
@click.option("--witness", type=_FILE, help="The witness: the log must hold what it saw.")
@click.option("--public-key", help="The log's key as you noted it, base64; else the one that came along.")
@json_option
@click.pass_context
def verify(
    ctx: click.Context,
    *,
    file: Path | None,
    proof: Path | None,
    offline: bool,
    witness: Path | None,
    public_key: str | None,
    as_json: bool,
) -> None:
    """Prove that no entry was altered, removed or reordered.

    Asks the platform; where --data names a folder with no running platform, reads its database. Exit code 1
    and the entry's number when something is not as it was signed.
    """
    pinned = None if public_key is None else load_key(_decode(public_key))
    if proof is not None:
        _give_proof(_load(proof.read_text()), pinned, None, as_json=as_json)
        return
    witnessed = [] if witness is None else FileWitness(witness).read()
    if file is not None:
        with file.open() as lines:
            log = _parse_log(_load(lines.readline()))
            key = pinned or load_key(log.public_key)
            tree = verify_log_document(log, map(_load, lines), key, witnessed=witnessed)
    elif folder := _stopped_folder(ctx, offline=offline):
        key = pinned or load_public_key(folder)
        tree = verify_folder(folder, key, witnessed)
    else:
        api = connect(ctx)
        log = _parse_log(_read_log(api))
        key = pinned or load_key(log.public_key)
        entries = islice(_entries(api), log.head.size)
        tree = verify_log_document(log, entries, key, witnessed=witnessed)
    _tell_verified(tree, key, len(witnessed), as_json=as_json)


def _tell_verified(tree: Tree, key: Ed25519PublicKey, witnessed: int, *, as_json: bool) -> None:
    if as_json:
        print_json({"verified": True, "entries": tree.size, "root": tree.root.hex(), "witnessed": witnessed,
                    "public_key": base64.b64encode(key.public_bytes_raw()).decode()})  # fmt: skip
        return
    seen = f", {witnessed} checkpoints witnessed" if witnessed else ""
    verified = click.style("verified", fg="green", bold=True)
    say(f"{verified}: {tree.size} entries, root {tree.root.hex()}{seen}")


def _give_proof(
    proof: object, pinned: Ed25519PublicKey | None, out: Path | None, *, as_json: bool = True
) -> None:
    """Verify a proof and write it to `out`, print it, or print that it holds."""
    if isinstance(proof, dict) and "entry" in proof:
        inclusion = convert_document(proof, InclusionDocument, what="audit proof")
        verify_inclusion_document(inclusion, pinned or load_key(inclusion.public_key))
        told = f"entry {inclusion.entry.sequence} is in the log of {inclusion.size} entries"
    else:
        growth = convert_document(proof, ConsistencyDocument, what="audit proof")
        verify_consistency_document(growth, pinned or load_key(growth.public_key))
        told = f"the log of {growth.second_size} entries begins with that of {growth.first_size}"
    if out is not None:
        out.write_text(json.dumps(proof) + "\n")
        say(f"Wrote {out}. Verify it anywhere: fleetward audit verify --proof {out}")
    elif as_json:
        print_json(proof)
    else:
        say(f"{click.style('verified', fg='green', bold=True)}: {told}")


def _stopped_folder(ctx: click.Context, *, offline: bool) -> DataFolder | None:
    data = ctx.find_root().obj["data"]
    if data is None or ctx.find_root().obj["server"]:
        return None
    folder = DataFolder(data)
    folder.check()
    return folder if offline or not folder.ready.exists() else None


def _read_log(api: Api) -> dict[str, Any]:
    """Return the log's signed end and the checkpoints before it. The log may grow while we read."""
    log: dict[str, Any] = api.get("/audit/checkpoints")
    after = log.pop("next_after")
    while after is not None:
        page = api.get("/audit/checkpoints", after=after)
        log["notes"] += page["notes"]
        after = page["next_after"]
    size = log["head"]["size"]
    log["notes"] = [note for note in log["notes"] if int(note.split("\n")[1]) <= size]
    return log


def _entries(api: Api, **filters: str | None) -> Iterator[dict[str, Any]]:
    after: int | None = -1
    while after is not None:
        page = api.get("/audit/entries", after=after, limit=_PAGE, **filters)
        yield from page["entries"]
        after = page["next_after"]


def _parse_log(value: object) -> LogDocument:
    return convert_document(value, LogDocument, what="audit log")


def _load(text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidInputError("audit log: expected a JSON value a line, found something else") from error


def _decode(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError as error:
        raise InvalidInputError("audit public key: expected base64, found something else") from error
