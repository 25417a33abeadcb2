"""`fleetward model`: products."""

import click

from fleetward.programs.cli.client import connect
from fleetward.programs.cli.output import json_option, print_facts, print_json, print_table

_COLUMNS = {
    "id": "Model",
    "attestation": "Attestation",
    "min_tier": "Least key tier",
    "cert_lifetime": "Certificate",
    "appraisal_lifetime": "Appraisal",
}


@click.group()
def model() -> None:
    """Products and what their devices must fulfil."""


@model.command()
@click.argument("model_id", metavar="MODEL")
@click.option("--attestation", type=click.Choice(["required", "none"]), default="required", show_default=True)
@click.option("--min-tier", type=click.Choice(["software", "pkcs11", "tpm"]), default="software",
              show_default=True,
              help="Worst place a device key may live in.")  # fmt: skip
@click.option("--cert-lifetime", default="24h", show_default=True, help="Such as 15m, 24h, 7d.")
@click.option(
    "--appraisal-lifetime", default="6h", show_default=True, help="How long a good appraisal counts."
)
@json_option
@click.pass_context
def add(
    ctx: click.Context,
    model_id: str,
    attestation: str,
    min_tier: str,
    cert_lifetime: str,
    appraisal_lifetime: str,
    as_json: bool,
) -> None:
    """Add MODEL."""
    body = {
        "id": model_id,
        "attestation": attestation,
        "min_tier": min_tier,
        "cert_lifetime": cert_lifetime,
        "appraisal_lifetime": appraisal_lifetime,
    }
    added = connect(ctx).post("/models", body)
    if as_json:
        print_json(added)
    else:
        print_facts({heading: added[key] for key, heading in _COLUMNS.items()})


@model.command("list")
@json_option
@click.pass_context
def list_models(ctx: click.Context, as_json: bool) -> None:
    """List models."""
    found = connect(ctx).get("/models")
    if as_json:
        print_json(found)
    else:
        print_table(found, _COLUMNS, empty="No models yet. Add one: fleetward model add MODEL")
