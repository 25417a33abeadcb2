"""What keeps one device from filling the room of all: budgets of messages, bytes and told events.

The first two are asked before a message is read, for reading is most of what it costs; the third is a stage.
A budget is a bucket: so much at once, after a long silence too, and so much a second on average. What a
device sends over it is refused, and told; its neighbours have buckets of their own. A worker counts for
itself: of n workers a device gets up to n budgets.
"""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from threading import Lock

from fleetward.features.messaging.intake.batch import Batch, DeviceMessage, Item, Refused
from fleetward.features.messaging.intake.flood import Patience

MESSAGES, BYTES, TOLD = "messages", "bytes", "told"
# Who floods was heard a moment ago and is never the one forgotten: forgetting fills a quiet device's buckets.
MAX_DEVICES = 50_000
# A batch comes again in halves when one of its messages is bad; what it cost is not counted twice.
_MAX_REMEMBERED = 20_000
# Threads disagree by less on what time it is. A clock set back by more is believed: else nothing would come
# back to anybody until it has caught up.
_DISAGREEMENT_S = 30.0


@dataclass(frozen=True)
class Budget:
    """So much at once, and so much a second."""

    burst: float
    per_s: float


@dataclass(frozen=True)
class Budgets:
    """What each device has. The first two let an agent send all that its spool holds as fast as it can.

    Attributes:
        told: log lines that become events.
    """

    messages: Budget = Budget(100_000, 500)
    bytes: Budget = Budget(64 * 1024**2, 1024**2)
    told: Budget = Budget(60, 0.5)


class _Bucket:
    __slots__ = ("at_s", "left")

    def __init__(self, left: float, at_s: float) -> None:
        self.left, self.at_s = left, at_s

    def take(self, budget: Budget, cost: float, now_s: float) -> bool:
        self.left = min(budget.burst, self.left + max(0.0, now_s - self.at_s) * budget.per_s)
        if now_s > self.at_s or now_s < self.at_s - _DISAGREEMENT_S:
            self.at_s = now_s
        if self.left < cost:
            return False
        self.left -= cost
        return True


class Limit:
    """Remembers how much is left to the devices heard last. Thread-safe."""

    def __init__(self, budgets: Budgets, *, max_devices: int = MAX_DEVICES) -> None:
        self._budgets = {MESSAGES: budgets.messages, BYTES: budgets.bytes, TOLD: budgets.told}
        self._max_devices = max_devices
        self._buckets: OrderedDict[str, dict[str, _Bucket]] = OrderedDict()
        self._verdicts: OrderedDict[tuple[str, int, datetime, bool], str] = OrderedDict()
        self._lock = Lock()

    def most_within(self, seconds: float) -> Patience:
        """Return what a device can send within a time and be within its budgets."""
        messages, size = self._budgets[MESSAGES], self._budgets[BYTES]
        return Patience(
            int(messages.burst + seconds * messages.per_s), int(size.burst + seconds * size.per_s)
        )

    def admit(
        self, messages: Sequence[DeviceMessage], now: datetime
    ) -> tuple[list[DeviceMessage], list[Refused]]:
        """Return the messages that are within the budgets of messages and bytes, and those that are not."""
        admitted: list[DeviceMessage] = []
        refused: list[Refused] = []
        with self._lock:
            for message in messages:
                costs = {MESSAGES: 1, BYTES: len(message.unverified_payload)}
                limit = self._judge(message, costs, now.timestamp(), is_told=False)
                if limit:
                    refused.append(Refused(message, _reason(limit), limit))
                else:
                    admitted.append(message)
        return admitted, refused

    def __call__(self, batch: Batch, now: datetime) -> Batch:
        """Return a batch in which a line over the budget of told events is kept, untold."""
        items: list[Item] = []
        refused: list[Refused] = []
        with self._lock:
            for item in batch.items:
                limit = item.is_told and self._judge(item.message, {TOLD: 1}, now.timestamp(), is_told=True)
                if limit:
                    refused.append(Refused(item.message, _reason(limit), limit))
                items.append(replace(item, is_told=False) if limit else item)
        return Batch(tuple(items), batch.refused + tuple(refused))

    def __len__(self) -> int:
        """Return of how many devices something is remembered."""
        return len(self._buckets)

    def _judge(self, message: DeviceMessage, costs: Mapping[str, int], now_s: float, *, is_told: bool) -> str:
        """Return the budget that a message is over, or "": the same when the message comes again."""
        key = (message.topic.subject, message.sequence, message.received_at, is_told)
        verdict = self._verdicts.get(key)
        if verdict is None:
            verdict = self._verdicts[key] = self._charge(message.topic.device, costs, now_s)
            if len(self._verdicts) > _MAX_REMEMBERED:
                self._verdicts.popitem(last=False)
        return verdict

    def _charge(self, device: str, costs: Mapping[str, int], now_s: float) -> str:
        buckets = self._buckets.get(device)
        if buckets is None:
            buckets = {name: _Bucket(budget.burst, now_s) for name, budget in self._budgets.items()}
            self._buckets[device] = buckets
            if len(self._buckets) > self._max_devices:
                self._buckets.popitem(last=False)
        else:
            self._buckets.move_to_end(device)
        for name, cost in costs.items():
            if not buckets[name].take(self._budgets[name], cost, now_s):
                return name
        return ""


def admit_all(
    messages: Sequence[DeviceMessage], _now: datetime
) -> tuple[Sequence[DeviceMessage], list[Refused]]:
    """Admit messages that somebody else has counted, or nobody counts."""
    return messages, []


def _reason(limit: str) -> str:
    return f"the device is over its budget of {limit}"
