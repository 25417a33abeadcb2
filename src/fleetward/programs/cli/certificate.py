"""`fleetward device certificate`: what a device was issued, and taking one back by hand."""

from typing import Any

import click

from fleetward.base.terminal import say
from fleetward.programs.cli.client import connect
from fleetward.programs.cli.output import json_option, print_json, print_table, show_time

_COLUMNS = {"serial": "Serial", "issued": "Issued", "until": "Until", "revoked": "Revoked", "why": "Why"}


@click.group()
def certificate() -> None:
    """Certificates of a device: list, revoke."""


@certificate.command("list")
@click.argument("device_id", metavar="ID")
@json_option
@click.pass_context
def list_certificates(ctx: click.Context, device_id: str, as_json: bool) -> None:
    """List what ID was issued, newest first."""
    found = connect(ctx).get(f"/devices/{device_id}/certificates")
    if as_json:
        print_json(found)
        return
    show_certificates(found, whole=True)


@certificate.command()
@click.argument("device_id", metavar="ID")
@click.argument("serial")
@click.option("--reason", required=True, help="Why; kept with it and in the audit log.")
@click.option("--why", type=click.Choice(["key_compromise", "cessation_of_operation", "unspecified"]),
              default="key_compromise", show_default=True,
              help="What relying parties are told by CRL and OCSP.")  # fmt: skip
@json_option
@click.pass_context
def revoke(ctx: click.Context, device_id: str, serial: str, reason: str, why: str, as_json: bool) -> None:
    """Take the certificate SERIAL of ID back: its session ends now, the device stays."""
    path = f"/devices/{device_id}/certificates/{serial}/revoke"
    revoked = connect(ctx).post(path, {"reason": reason, "why": why})
    if as_json:
        print_json(revoked)
    else:
        say(f"Certificate {revoked['serial']} of {device_id} is revoked: {revoked['revocation_note']}")


def show_certificates(certificates: list[dict[str, Any]], *, whole: bool = False) -> None:
    """Print certificates as a table; with `whole`, their serials whole."""
    rows = [
        {
            "serial": one["serial"] if whole else f"{one['serial'][:12]}…",
            "issued": show_time(one["issued_at"]),
            "until": show_time(one["not_after"]),
            "revoked": show_time(one["revoked_at"]) if one["revoked_at"] else "",
            "why": one["revocation_note"] or one["revocation_reason"],
        }
        for one in certificates
    ]
    print_table(rows, _COLUMNS, empty="  none yet")
