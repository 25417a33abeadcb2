"""Gathers the cards of the front page: decisions that wait, drawn from the rows as they are."""

from collections.abc import Iterable, Mapping
from datetime import timedelta

from fleetward.base.db import Tx
from fleetward.base.events import Event, Severity
from fleetward.features.attestation import service as attestation
from fleetward.features.devices import service as devices
from fleetward.features.devices.model import ENDED, DeviceState, Selection
from fleetward.features.overview import store
from fleetward.features.overview.model.alerts import ALERTS_SHOWN_FOR
from fleetward.features.overview.model.situation import say_time
from fleetward.features.overview.model.why_update import TROUBLES
from fleetward.features.overview.service.cards import (
    AUTHORITY_WARNING,
    MAX_ITEMS,
    OVERDUE_PART,
    ROLLOUT_PATIENCE,
    TROUBLE_SHOWN_FOR,
    Card,
    CardKind,
    Item,
    count_of,
    device_href,
)
from fleetward.features.pki import service as pki
from fleetward.features.pki.model import EndingCertificate
from fleetward.features.pki.service import PkiContext
from fleetward.features.updates import service as updates
from fleetward.features.updates.model import Release

_TROUBLES = 5_000
_ALIVE = frozenset(DeviceState) - ENDED
_SPEAKING = frozenset({DeviceState.ENROLLED, DeviceState.ACTIVE})
Groups = frozenset[str] | None


def list_device_cards(tx: Tx, groups: Groups) -> list[Card]:
    """Return the cards about devices of these groups (None: of all)."""
    ending, ended = _certificates(tx, groups)
    current = updates.list_current_releases(tx)
    return [
        _failing(tx, groups),
        ending,
        ended,
        _stuck(tx, groups, current),
        _behind(tx, groups, current),
        _quarantined(tx, groups),
    ]


def find_alerts(tx: Tx, groups: Groups) -> Card:
    """Return the alerting events of the last day that nobody has acknowledged."""
    among = None if groups is None else devices.select_ids(groups=groups)
    count, found = store.list_alerts(tx, tx.now - ALERTS_SHOWN_FOR, among, limit=MAX_ITEMS)
    gravest = max(found, key=lambda event: event.severity is Severity.CRITICAL, default=None)
    return Card(
        CardKind.ALERTS,
        gravest.severity if gravest else Severity.WARNING,
        count_of(count, "alert nobody has acknowledged", "alerts nobody has acknowledged"),
        count,
        tuple(_alert_item(event) for event in found),
        "fleetward events --since 24h",
    )


def find_ending_authorities(tx: Tx, context: PkiContext) -> Card:
    """Return the CA certificates that end within 60 days."""
    ending = {name: at for name, at in context.ends.items() if at - tx.now < AUTHORITY_WARNING}
    return Card(
        CardKind.AUTHORITIES_EXPIRING,
        Severity.CRITICAL,
        count_of(len(ending), "certificate authority ends soon", "certificate authorities end soon"),
        len(ending),
        tuple(Item(f"{name} ends at {say_time(at)}", href="/settings", at=at) for name, at in ending.items()),
        "fleetward checklist",
    )


def _failing(tx: Tx, groups: Groups) -> Card:
    among = devices.select_ids(groups=groups, states=_ALIVE)
    count, found = attestation.list_failing(tx, among, limit=MAX_ITEMS)
    items = (
        Item(
            f"{one.device_id}: {' '.join(reason.message for reason in one.reasons)}",
            one.device_id,
            device_href(one.device_id),
            one.at,
        )
        for one in found
    )
    title = count_of(count, "device fails attestation", "devices fail attestation")
    return Card(CardKind.APPRAISALS_FAILING, Severity.CRITICAL, title, count, tuple(items), "fleetward today")


def _certificates(tx: Tx, groups: Groups) -> tuple[Card, Card]:
    """Return the cards of certificates whose renewal is overdue, and of those that have ended."""
    found: list[EndingCertificate] = []
    for model in devices.list_models(tx):
        among = devices.select_ids(groups=groups, states=_SPEAKING, model=model.id)
        found += pki.list_ending(tx, tx.now + model.cert_lifetime / OVERDUE_PART, among)
    found.sort(key=lambda one: one.not_after)
    ended = [one for one in found if one.not_after <= tx.now]
    ending = found[len(ended) :]
    return (
        Card(
            CardKind.CERTIFICATES_EXPIRING, Severity.WARNING,
            count_of(len(ending), "certificate ends soon and was not renewed",
                     "certificates end soon and were not renewed"),
            len(ending), _certificate_items(ending, "ends"), "fleetward device list --state active",
        ),
        Card(
            CardKind.CERTIFICATES_EXPIRED, Severity.WARNING,
            count_of(len(ended), "certificate ran out", "certificates ran out"),
            len(ended), _certificate_items(ended[::-1], "ended"), "fleetward device why ID",
        ),
    )  # fmt: skip


def _certificate_items(found: Iterable[EndingCertificate], word: str) -> tuple[Item, ...]:
    items = [
        Item(f"{one.device_id} {word} at {say_time(one.not_after)}", one.device_id,
             device_href(one.device_id), one.not_after)
        for one in list(found)[:MAX_ITEMS]
    ]  # fmt: skip
    return tuple(items)


def _stuck(tx: Tx, groups: Groups, current: Mapping[str, Release]) -> Card:
    """Devices whose last word on an update was a trouble, and that do not run what they should."""
    among = devices.select_ids(groups=groups, states=_ALIVE)
    troubles = {
        event.device: event
        for event in store.list_troubles(tx, TROUBLES, tx.now - TROUBLE_SHOWN_FOR, among, limit=_TROUBLES)
        if event.device is not None
    }
    stuck: list[Event] = []
    for device in devices.list_by_ids(tx, list(troubles)):
        wanted, event = current.get(device.model), troubles[device.id]
        is_of_now = wanted is None or wanted.published_at is None or event.at >= wanted.published_at
        if is_of_now and (wanted is None or device.firmware_version != wanted.version):
            stuck.append(event)
    stuck.sort(key=lambda event: event.id, reverse=True)
    return Card(
        CardKind.UPDATES_STUCK,
        Severity.WARNING,
        count_of(len(stuck), "device does not get its update", "devices do not get their update"),
        len(stuck),
        tuple(_event_item(event) for event in stuck[:MAX_ITEMS]),
        "fleetward device why ID",
    )


def _behind(tx: Tx, groups: Groups, current: Mapping[str, Release]) -> Card:
    """Releases that are out for a day and do not run everywhere yet."""
    items = []
    for model, release in current.items():
        if release.published_at is None or tx.now - release.published_at < ROLLOUT_PATIENCE:
            continue
        selection = Selection(model=model, state=DeviceState.ACTIVE, groups=groups)
        counts = devices.count_devices(tx, selection)
        behind = counts.total - counts.by_firmware.get(release.version, 0)
        if behind:
            days = (tx.now - release.published_at) // timedelta(days=1)
            label = (
                f"{model} {release.version}: {behind:,} of {counts.total:,} active devices do not run it, "
                f"{count_of(days, 'day', 'days')} after it was published"
            )
            items.append(Item(label, href=f"/releases/{model}/{release.version}", at=release.published_at))
    title = count_of(len(items), "release does not run everywhere", "releases do not run everywhere")
    command = "fleetward device list --model MODEL --sort firmware"
    return Card(
        CardKind.ROLLOUTS_BEHIND, Severity.NOTICE, title, len(items), tuple(items[:MAX_ITEMS]), command
    )


def _quarantined(tx: Tx, groups: Groups) -> Card:
    selection = Selection(state=DeviceState.QUARANTINED, groups=groups)
    count = devices.count_devices(tx, selection).total
    found = devices.list_devices(tx, selection, limit=MAX_ITEMS) if count else []
    items = (
        Item(f"{one.id}: {one.state_reason}", one.id, device_href(one.id), one.state_changed_at)
        for one in found
    )
    title = count_of(count, "device is quarantined: release or revoke it",
                     "devices are quarantined: release or revoke them")  # fmt: skip
    command = "fleetward device list --state quarantined"
    return Card(CardKind.DEVICES_QUARANTINED, Severity.NOTICE, title, count, tuple(items), command)


def _alert_item(event: Event) -> Item:
    href = device_href(event.device) if event.device else ""
    return Item(event.message, event.device, href, event.at, event.id)


def _event_item(event: Event) -> Item:
    href = device_href(event.device) if event.device else ""
    return Item(event.message, event.device, href, event.at)
