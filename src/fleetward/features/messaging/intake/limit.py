"""The stage that keeps one device from filling the room of all: budgets of messages, bytes and told events.

A budget is a bucket: so much at once, after a long silence too, and so much a second on average. What a
device sends over it is refused, and told; its neighbours have buckets of their own. A worker counts for
itself: of n workers a device gets up to n budgets.
"""

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from threading import Lock

from fleetward.features.messaging.intake.batch import Batch, DeviceMessage, Item, Refused

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
    """The stage; it remembers how much is left to the devices heard last. Thread-safe."""

    def __init__(self, budgets: Budgets, *, max_devices: int = MAX_DEVICES) -> None:
        self._budgets = (
            (MESSAGES, budgets.messages),
            (BYTES, budgets.bytes),
            (TOLD, budgets.told),
        )
        self._max_devices = max_devices
        self._buckets: OrderedDict[str, dict[str, _Bucket]] = OrderedDict()
        self._verdicts: OrderedDict[tuple[str, int, datetime], str] = OrderedDict()
        self._lock = Lock()

    def __call__(self, batch: Batch, now: datetime) -> Batch:
        """Return a batch without what is over a budget; a line over that of told events is kept, untold."""
        items: list[Item] = []
        refused: list[Refused] = []
        with self._lock:
            for item, limit in self._judge(batch.items, now.timestamp()):
                if not limit:
                    items.append(item)
                    continue
                refused.append(Refused(item.message, _reason(limit), limit))
                if limit == TOLD:
                    items.append(replace(item, is_told=False))
        return Batch(tuple(items), batch.refused + tuple(refused))

    def __len__(self) -> int:
        """Return of how many devices something is remembered."""
        return len(self._buckets)

    def _judge(self, items: Iterable[Item], now_s: float) -> Iterable[tuple[Item, str]]:
        for item in items:
            message = item.message
            key = (message.topic.subject, message.sequence, message.received_at)
            verdict = self._verdicts.get(key)
            if verdict is None:
                verdict = self._verdicts[key] = self._charge(message, now_s, is_told=item.is_told)
                if len(self._verdicts) > _MAX_REMEMBERED:
                    self._verdicts.popitem(last=False)
            yield item, verdict

    def _charge(self, message: DeviceMessage, now_s: float, *, is_told: bool) -> str:
        """Return the budget that a message is over, "" when it is within all."""
        buckets = self._buckets.get(message.topic.device)
        if buckets is None:
            buckets = {name: _Bucket(budget.burst, now_s) for name, budget in self._budgets}
            self._buckets[message.topic.device] = buckets
            if len(self._buckets) > self._max_devices:
                self._buckets.popitem(last=False)
        else:
            self._buckets.move_to_end(message.topic.device)
        costs = {MESSAGES: 1, BYTES: len(message.unverified_payload), TOLD: is_told}
        for name, budget in self._budgets:
            if costs[name] and not buckets[name].take(budget, costs[name], now_s):
                return name
        return ""


def _reason(limit: str) -> str:
    return f"the device is over its budget of {limit}"
