"""`fleetward release`: firmware."""

from pathlib import Path
from typing import Any

import click

from fleetward.base.terminal import say
from fleetward.programs.cli.client import connect
from fleetward.programs.cli.output import json_option, print_facts, print_json, print_table

_COLUMNS = {
    "model": "Model",
    "version": "Version",
    "security_counter": "Counter",
    "length": "Bytes",
    "state": "State",
    "created_at": "Published",
}


@click.group()
def release() -> None:
    """Signed firmware releases."""


@release.command()
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--model", required=True)
@click.option("--version", required=True)
@click.option("--sbom", type=click.Path(path_type=Path, exists=True, dir_okay=False), required=True,
              help="CycloneDX JSON: what the firmware is made of.")  # fmt: skip
@json_option
@click.pass_context
def publish(ctx: click.Context, file: Path, model: str, version: str, sbom: Path, as_json: bool) -> None:
    """Hand FILE in for every device of the model.

    It waits for two other operators to approve it; while there are no operators it is published at once.
    """
    fields = {
        "model": model,
        "version": version,
        "sbom": (sbom.name, sbom.read_bytes(), "application/vnd.cyclonedx+json"),
        "image": (file.name, file.read_bytes(), "application/octet-stream"),
    }
    published = connect(ctx).post_multipart("/releases", fields)
    if as_json:
        print_json(published)
        return
    print_facts({heading: published.get(key) for key, heading in _COLUMNS.items()})
    if published["state"] == "pending":
        say(f"It waits for two approvals: fleetward release approve {model} {version}")


@release.command()
@click.argument("model")
@click.argument("version")
@json_option
@click.pass_context
def approve(ctx: click.Context, model: str, version: str, as_json: bool) -> None:
    """Approve another's pending release; the second approval signs it and offers it to devices."""
    _show_judged(connect(ctx).post(f"/releases/{model}/{version}/approve"), as_json=as_json)


@release.command()
@click.argument("model")
@click.argument("version")
@click.option("--reason", required=True, help="Why; its author reads it.")
@json_option
@click.pass_context
def reject(ctx: click.Context, model: str, version: str, reason: str, as_json: bool) -> None:
    """Refuse a pending release for good; mended firmware takes another version."""
    body = {"reason": reason}
    _show_judged(connect(ctx).post(f"/releases/{model}/{version}/reject", body), as_json=as_json)


@release.command()
@click.argument("model")
@click.argument("version")
@click.option("--reason", required=True, help="Why; goes into the audit log.")
@json_option
@click.pass_context
def withdraw(ctx: click.Context, model: str, version: str, reason: str, as_json: bool) -> None:
    """Offer a published release to no device any more; those that run it stay on it."""
    body = {"reason": reason}
    _show_judged(connect(ctx).post(f"/releases/{model}/{version}/withdraw", body), as_json=as_json)


@release.command("list")
@click.option("--model")
@json_option
@click.pass_context
def list_releases(ctx: click.Context, model: str | None, as_json: bool) -> None:
    """List releases."""
    found = connect(ctx).get("/releases", model=model)
    if as_json:
        print_json(found)
    else:
        print_table(found, _COLUMNS, empty="No releases. Publish one: fleetward release publish FILE …")


def _show_judged(found: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(found)
        return
    approvals = ", ".join(one["operator"] for one in found["approvals"])
    facts = {heading: found.get(key) for key, heading in _COLUMNS.items()}
    print_facts({**facts, "Approved by": approvals, "Rejected by": found["rejected_by"],
                 "Why": found["rejected_reason"]})  # fmt: skip
