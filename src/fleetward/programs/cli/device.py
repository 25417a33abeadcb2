"""`fleetward device`: the life of devices."""

from pathlib import Path
from typing import Any

import click

from fleetward.base.errors import ConfigError
from fleetward.base.ids import parse_device_id
from fleetward.base.terminal import say
from fleetward.outside.http.platform import Api
from fleetward.programs.cli.certificate import certificate, show_certificates
from fleetward.programs.cli.client import connect
from fleetward.programs.cli.output import json_option, paint, print_facts, print_json, print_table, show_time
from fleetward.programs.cli.overview import bulk, firmware, why
from fleetward.programs.cli.selecting import filter_options, resolve_filter

_LIST_COLUMNS = {
    "id": "Device",
    "model": "Model",
    "group": "Group",
    "state": "State",
    "tier": "Key",
    "firmware_version": "Firmware",
    "state_reason": "Why",
}
_PAGE = 1000
# Why a command is not done, where the device said nothing.
_WHY = {
    "queued": "the device is not connected; it is sent when that changes, until it expires",
    "sent": "the device has not answered yet",
    "timed_out": "the device did not answer in time; see: fleetward device show",
}


class _DeviceId(click.ParamType[str]):
    """A device id, checked here: in a URL `a#b` would mean device a."""

    name = "id"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        del param, ctx
        return parse_device_id(value)


@click.group()
def device() -> None:
    """Devices: add, watch, command, quarantine, revoke."""


for _command in (why, firmware, bulk):
    device.add_command(_command)


@device.command()
@click.argument("device_id", metavar="ID", type=_DeviceId())
@click.option("--model", "model_id", required=True, help="What product it is.")
@click.option("--group", default="default", show_default=True)
@click.option("--claim-lifetime", default="1h", show_default=True, help="How long the claim may be used.")
@json_option
@click.pass_context
def add(
    ctx: click.Context, device_id: str, model_id: str, group: str, claim_lifetime: str, as_json: bool
) -> None:
    """Register ID and print its single-use claim for enrollment."""
    api = connect(ctx)
    body = {"id": device_id, "model": model_id, "group": group, "claim_lifetime": claim_lifetime}
    _show_claim(api, api.post("/devices", body), as_json=as_json)


@device.command()
@click.argument("device_id", metavar="ID", type=_DeviceId())
@click.option("--lifetime", default="1h", show_default=True, help="How long the claim may be used.")
@json_option
@click.pass_context
def claim(ctx: click.Context, device_id: str, lifetime: str, as_json: bool) -> None:
    """Print a fresh claim for ID, e.g. to recover it; its earlier claims stop working."""
    api = connect(ctx)
    _show_claim(api, api.post(f"/devices/{device_id}/claims", {"lifetime": lifetime}), as_json=as_json)


@device.command("import")
@click.argument("manifest", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--trust-factory", type=click.Path(path_type=Path, exists=True, dir_okay=False),
              help="Trust this factory public key (PEM) from now on.")  # fmt: skip
@json_option
@click.pass_context
def import_manifest(ctx: click.Context, manifest: Path, trust_factory: Path | None, as_json: bool) -> None:
    """Register the devices of a signed shipment MANIFEST."""
    from fleetward.wire.shipment import MAX_MANIFEST_BYTES  # noqa: PLC0415 - loads cryptography

    api = connect(ctx)
    if trust_factory is not None:
        api.post("/factories", {"name": trust_factory.stem, "public_key": trust_factory.read_text()})
    if manifest.stat().st_size > MAX_MANIFEST_BYTES:
        raise ConfigError(f"{manifest}: expected at most {MAX_MANIFEST_BYTES} bytes, found more")
    report = api.send("/devices/import", manifest.read_bytes(), content_type="application/octet-stream")
    if as_json:
        print_json(report)
    else:
        print_facts({str(name).replace("_", " ").capitalize(): value for name, value in report.items()})


@device.command("list")
@filter_options
@click.option(
    "--sort", help="id, model, group, state, firmware or changed; with '-' before it, the last first."
)
@click.option("--limit", type=click.IntRange(min=1), help="At most so many.")
@json_option
@click.pass_context
def list_devices(ctx: click.Context, /, limit: int | None, as_json: bool, **given: str | None) -> None:
    """List devices."""
    api = connect(ctx)
    chosen = resolve_filter(api, given)
    found: list[dict[str, Any]] = []
    after: str | None = ""
    while after is not None and (limit is None or len(found) < limit):
        size = _PAGE if limit is None else min(_PAGE, limit - len(found))
        page = api.get("/devices", after=after, limit=size, **chosen)
        found += page["devices"]
        after = page["next_after"]
    if as_json:
        print_json(found)
        return
    more = 0
    if after is not None:
        matching = {name: value for name, value in chosen.items() if name != "sort"}
        more = max(0, api.get("/devices/counts", **matching)["total"] - len(found))
    empty = "No devices. Add one: fleetward device add ID --model MODEL"
    print_table(found, _LIST_COLUMNS, empty=empty, more=more)


@device.command()
@click.argument("device_id", metavar="ID", type=_DeviceId())
@json_option
@click.pass_context
def show(ctx: click.Context, device_id: str, as_json: bool) -> None:
    """Show all that is known of ID: state, certificates, appraisal, presence."""
    api = connect(ctx)
    found = api.get(f"/devices/{device_id}")
    found["certificates"] = api.get(f"/devices/{device_id}/certificates")
    found["appraisals"] = api.get(f"/devices/{device_id}/appraisals")
    found["presence"] = api.get(f"/devices/{device_id}/presence")
    if as_json:
        print_json(found)
        return
    nested = ("certificates", "appraisals", "presence")
    print_facts({name.replace("_", " "): value for name, value in found.items() if name not in nested})
    say("\nCertificates, newest first")
    show_certificates(found["certificates"])
    if found["appraisals"]:
        _show_appraisal(found["appraisals"][0])
    presence = found["presence"]
    if presence["since"]:
        verb = "connected" if presence["connected"] else "disconnected"
        why = f": {presence['reason']}" if presence["reason"] else ""
        say(f"\nPresence: {verb} since {show_time(presence['since'])}{why}")
    else:
        say("\nPresence: never connected")


def _show_appraisal(last: dict[str, Any]) -> None:
    verdict = click.style("good", fg="green") if last["good"] else click.style("bad", fg="red")
    say(f"\nLast appraisal: {verdict}, until {show_time(last['expires_at'])}")
    for reason in last["reasons"]:
        say(f"  {reason['message'] if isinstance(reason, dict) else reason}")


def _reason_command(verb: str, help_text: str, *, is_required: bool = False) -> None:
    # A default of None would count as given, and the option as not missing.
    default: dict[str, Any] = (
        {"required": True} if is_required else {"default": "by an operator", "show_default": True}
    )

    @device.command(verb, help=help_text)
    @click.argument("device_id", metavar="ID", type=_DeviceId())
    @click.option("--reason", help="Why; goes into the audit log.", **default)
    @json_option
    @click.pass_context
    def act(ctx: click.Context, device_id: str, reason: str, as_json: bool) -> None:
        changed = connect(ctx).post(f"/devices/{device_id}/{verb}", {"reason": reason})
        if as_json:
            print_json(changed)
        else:
            say(f"{device_id} is {paint(changed['state'])}: {changed['state_reason']}")


_reason_command("quarantine", "Cut ID off until it is released; its certificates stay.")
_reason_command("release", "Let a quarantined ID work again.")
_reason_command("revoke", "Cut ID off for good: its certificates are revoked now.", is_required=True)
_reason_command("retire", "End the life of ID; it is kept for the record.")


@device.command()
@click.argument("device_id", metavar="ID", type=_DeviceId())
@click.argument("name")
@click.argument("arguments", nargs=-1, metavar="[KEY=VALUE]...")
@click.option("--timeout", "timeout_s", default=30, show_default=True, help="Seconds to wait for the result.")
@json_option
@click.pass_context
def command(
    ctx: click.Context, device_id: str, name: str, arguments: tuple[str, ...], timeout_s: int, as_json: bool
) -> None:
    """Have ID do NAME (reboot, ping, attest-now, …) and print the result."""
    args: dict[str, str] = {}
    for argument in arguments:
        key, mark, value = argument.partition("=")
        if not mark:
            raise click.BadParameter(f"expected KEY=VALUE, found {argument!r}", param_hint="arguments")
        args[key] = value
    api = connect(ctx)
    sent = api.post(f"/devices/{device_id}/commands", {"name": name, "args": args, "timeout_s": timeout_s})
    done = _await_command(api, device_id, sent, timeout_s)
    if as_json:
        print_json(done)
    else:
        said = done.get("result") or done.get("error") or _WHY.get(str(done["state"]), "")
        say(f"{name}: {paint(str(done['state']))} {said}")
    if done["state"] != "done":
        ctx.exit(1)


@device.command()
@click.argument("device_id", metavar="ID", type=_DeviceId())
@json_option
@click.pass_context
def watch(ctx: click.Context, device_id: str, as_json: bool) -> None:
    """Print what ID sends, live: telemetry, logs, shadow, presence."""
    try:
        for item in connect(ctx).stream(f"/devices/{device_id}/watch"):
            if as_json:
                print_json(item)
            else:
                print_facts({str(item.get("kind", "")): item.get("value", item)})
    except KeyboardInterrupt:
        return


@device.command()
@click.argument("device_id", metavar="ID", type=_DeviceId())
@json_option
@click.pass_context
def view(ctx: click.Context, device_id: str, as_json: bool) -> None:
    """Open a live view of ID: prints an address that works once, within 30 seconds."""
    granted = connect(ctx).post(f"/devices/{device_id}/views")
    if as_json:
        print_json(granted)
    else:
        print_facts({"open": granted["url"], "until": granted["expires_at"], "view": granted["id"]})


def _await_command(api: Api, device_id: str, sent: dict[str, Any], timeout_s: int) -> dict[str, Any]:
    import time  # noqa: PLC0415

    deadline = time.monotonic() + timeout_s + 2
    found = sent
    while found["state"] in ("queued", "sent") and time.monotonic() < deadline:
        time.sleep(0.2)
        found = api.get(f"/devices/{device_id}/commands/{sent['id']}")
    return found


def _show_claim(api: Api, added: dict[str, Any], *, as_json: bool) -> None:
    added["ca_file"] = None if api.ca_file is None else str(api.ca_file)
    if as_json:
        print_json(added)
        return
    print_facts(
        {"device": added["id"], "claim": added["claim"], "good until": added["expires_at"],
         "EST": added["est_url"], "root": added["ca_file"]}
    )  # fmt: skip
    import segno  # noqa: PLC0415 - only for people

    say("\nThe claim works once. As a QR code:")
    segno.make(added["claim"], micro=False).terminal(compact=True)


device.add_command(certificate)
