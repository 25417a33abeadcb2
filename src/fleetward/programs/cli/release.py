"""`fleetward release`: firmware."""

from pathlib import Path

import click

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
    """Sign FILE and offer it to every device of the model."""
    fields = {
        "model": model,
        "version": version,
        "sbom": (sbom.name, sbom.read_bytes(), "application/vnd.cyclonedx+json"),
        "image": (file.name, file.read_bytes(), "application/octet-stream"),
    }
    published = connect(ctx).post_multipart("/releases", fields)
    if as_json:
        print_json(published)
    else:
        print_facts({heading: published.get(key) for key, heading in _COLUMNS.items()})


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
