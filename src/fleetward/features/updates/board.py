"""Cards of the front page about firmware: what waits for approval, is stuck, or does not run everywhere."""

from collections.abc import Mapping
from datetime import timedelta

from fleetward.base.board import MAX_ITEMS, Card, Item, count_of, event_item
from fleetward.base.db import Tx
from fleetward.base.events import Event, Severity
from fleetward.base.feature import Groups, House
from fleetward.features.devices import service as devices
from fleetward.features.devices.model import ENDED, DeviceState, Selection
from fleetward.features.updates import service, store
from fleetward.features.updates.model import APPROVALS_NEEDED, TROUBLES, Release, ReleaseState

STUCK = "updates_stuck"
BEHIND = "rollouts_behind"
APPROVALS_PENDING = "approvals_pending"
_ALIVE = frozenset(DeviceState) - ENDED
_SHOWN_FOR = timedelta(days=7)
_PATIENCE = timedelta(hours=24)
_MAX_TROUBLES = 5_000


def find_device_cards(_house: House, tx: Tx, groups: Groups) -> list[Card]:
    """Return the cards about updates of devices of these groups."""
    current = service.list_current_releases(tx)
    return [_stuck(tx, groups, current), _behind(tx, groups, current)]


def find_approvals(_house: House, tx: Tx, _groups: Groups) -> list[Card]:
    """Return the releases that wait for approval, the longest waiting first."""
    waiting = [one for one in service.list_releases(tx) if one.state is ReleaseState.PENDING]
    waiting.sort(key=lambda one: one.created_at)
    given = service.list_approvals(tx) if waiting else {}
    items = []
    for one in waiting[:MAX_ITEMS]:
        counted = len(service.list_counted(tx, one, given.get(one.id, ())))
        label = f"{one.model} {one.version} by {one.author}: {counted} of {APPROVALS_NEEDED} approvals"
        items.append(Item(label, href=f"/releases/{one.model}/{one.version}", at=one.created_at))
    title = count_of(len(waiting), "release waits for approval", "releases wait for approval")
    command = "fleetward release list"
    return [Card(APPROVALS_PENDING, Severity.NOTICE, title, len(waiting), tuple(items), command)]


def _stuck(tx: Tx, groups: Groups, current: Mapping[str, Release]) -> Card:
    """Devices whose last word on an update was a trouble, and that do not run what they should."""
    among = devices.select_ids(groups=groups, states=_ALIVE)
    troubles = {
        event.device: event
        for event in store.list_troubles(tx, TROUBLES, tx.now - _SHOWN_FOR, among, limit=_MAX_TROUBLES)
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
        STUCK,
        Severity.WARNING,
        count_of(len(stuck), "device does not get its update", "devices do not get their update"),
        len(stuck),
        tuple(event_item(event) for event in stuck[:MAX_ITEMS]),
        "fleetward device why ID",
    )


def _behind(tx: Tx, groups: Groups, current: Mapping[str, Release]) -> Card:
    """Releases that are out for a day and do not run everywhere yet."""
    items = []
    for model, release in current.items():
        if release.published_at is None or tx.now - release.published_at < _PATIENCE:
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
    return Card(BEHIND, Severity.NOTICE, title, len(items), tuple(items[:MAX_ITEMS]), command)
