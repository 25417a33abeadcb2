"""One process of a simulated fleet: some thousand devices over one epoll loop."""

import heapq
import os
import select
import socket
from collections import Counter, deque
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from multiprocessing.connection import Connection

from fleetward.base.clock import Clock, SystemClock
from fleetward.base.errors import InvalidInputError
from fleetward.programs.simulator.fleet.device import (
    Action,
    FleetDevice,
    Leave,
    LookForUpdate,
    Renew,
    Send,
)
from fleetward.programs.simulator.fleet.dice import Dice
from fleetward.programs.simulator.fleet.faults import Fault, faults_of
from fleetward.programs.simulator.fleet.identities import Identity, Keys, Wallet, ends_at
from fleetward.programs.simulator.fleet.line import Line, LineLostError, Stage, Wants, find_broker
from fleetward.programs.simulator.fleet.plan import ShardPlan, Slot, device_id
from fleetward.programs.simulator.fleet.upkeep import Failed, Fetched, Outcome, Renewed, Upkeep
from fleetward.wire import mqtt_packets as mqtt

_CONNECTING_AT_ONCE = 64
_CONNECT_TIMEOUT_S = 20.0
_REPORT_EVERY_S = 1.0
_LONGEST_WAIT_S = 0.2
_EVENTS = 512
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 30.0
_ACCEPTED = 0


class Shard:
    """Connects its devices, keeps them connected, and does what they want done."""

    def __init__(self, plan: ShardPlan, clock: Clock) -> None:
        self._plan, self._clock = plan, clock
        self._keys, self._wallet = Keys(plan.folder.parent), Wallet(plan.folder)
        self._broker = find_broker(plan.mqtt, plan.ca_file)
        self._epoll = select.epoll()
        self._slots: dict[str, Slot] = {}
        self._by_file: dict[int, Slot] = {}
        self._due: list[tuple[float, int, Callable[[float], None]]] = []
        self._order = 0
        self._waiting: deque[Slot] = deque()
        self._connecting: dict[int, Slot] = {}
        self._outcomes: deque[Outcome] = deque()
        self._bell, bell = socket.socketpair()
        self._bell.setblocking(False)  # noqa: FBT003 - the library's own signature
        self._epoll.register(self._bell, select.EPOLLIN)

        def ring(outcome: Outcome) -> None:
            self._outcomes.append(outcome)
            bell.send(b"!")

        self._upkeep = Upkeep(
            plan.server, plan.ca_file, plan.folder / f"metadata-{plan.number}",
            keys=self._keys, trust=plan.trust, clock=clock, on_outcome=ring,
        )  # fmt: skip
        self.counts: Counter[str] = Counter()
        self.last_trouble = ""
        self._live = 0

    def start(self) -> None:
        """Line the devices up; they connect one after another, some at once."""
        now = self._clock.now()
        identities = self._wallet.find((one for _, one in self._plan.devices), good_at=now)
        for number, name in self._plan.devices:
            slot = self._make(number, name, identities[name], now.timestamp())
            self._slots[name] = slot
            self._waiting.append(slot)
            self._tick_later(slot)

    def step(self) -> None:
        """Do one round: what has come, what is due, who may connect."""
        now_s = self._now()
        wait_s = min(_LONGEST_WAIT_S, max(0.0, self._due[0][0] - now_s)) if self._due else _LONGEST_WAIT_S
        for file, mask in self._epoll.poll(wait_s, _EVENTS):
            if file == self._bell.fileno():
                self._bell.recv(4096)
            elif (slot := self._by_file.get(file)) is not None:
                self._on_file(slot, mask)
        now_s = self._now()
        while self._due and self._due[0][0] <= now_s:
            heapq.heappop(self._due)[2](now_s)
        while self._outcomes:
            self._on_outcome(self._outcomes.popleft())
        while self._waiting and len(self._connecting) < _CONNECTING_AT_ONCE:
            self._connect(self._waiting.popleft())

    def report(self) -> dict[str, int]:
        """Return counts since the start, and how many devices are where."""
        found = Counter(self.counts)
        for slot in self._slots.values():
            device = slot.device
            found["published"] += device.published
            found["acknowledged"] += device.acknowledged
            found["dropped"] += device.dropped
            found["answered"] += device.answered
            found["held"] += device.held
            found["refused"] += device.refused
        return {**found, "live": self._live, "connecting": len(self._connecting), "devices": len(self._slots)}

    def close(self) -> None:
        for slot in list(self._by_file.values()):
            if slot.line is not None and slot.line.stage is Stage.LIVE:
                with suppress(LineLostError):
                    slot.line.write(mqtt.DISCONNECT_PACKET)
            self._drop(slot)
        self._upkeep.close()

    def _make(self, number: int, name: str, identity: Identity, now_s: float) -> Slot:
        plan = self._plan
        dice = Dice(plan.seed, number)
        device = FleetDevice(
            name, plan.behaviour, Dice(plan.seed, number + plan.size),
            faults=faults_of(plan.seed, number, plan.faults),
            neighbour=device_id(plan.prefix, (number + 1) % plan.size),
            firmware=plan.firmware,
        )  # fmt: skip
        slot = Slot(device, dice, identity)
        self._renew_later(slot, now_s)
        if plan.update_s:
            self._later(now_s + dice.between(0, plan.update_s), lambda at: self._look_again(slot, at))
        return slot

    def _connect(self, slot: Slot) -> None:
        if slot.line is not None:
            return
        key = self._keys.derive(slot.identity.device, slot.identity.generation)
        try:
            line = Line(self._broker, slot.identity.leaf, key, self._now())
        except LineLostError as error:
            self._again(slot, error)
            return
        slot.line, slot.reader = line, mqtt.PacketReader()
        file = line.fileno()
        self._by_file[file] = self._connecting[file] = slot
        self._epoll.register(file, select.EPOLLOUT)
        self._later(line.opened_at + _CONNECT_TIMEOUT_S, lambda _: self._give_up(slot, line))

    def _give_up(self, slot: Slot, line: Line) -> None:
        if slot.line is line and line.stage is not Stage.LIVE:
            self.counts["timed_out"] += 1
            self._again(slot, LineLostError(f"{line.stage.name.lower()}: no answer in time"))

    def _on_file(self, slot: Slot, _mask: int) -> None:
        line = slot.line
        if line is None:
            return
        try:
            if line.stage < Stage.GREETING:
                if not line.advance():
                    self._watch(line)
                    return
                line.write(slot.device.connect_packet())
            elif line.wants is Wants.WRITE:
                line.write(b"")
            self._read(slot, line)
            if slot.line is line:
                self._watch(line)
        except (LineLostError, InvalidInputError) as error:
            self._again(slot, error)

    def _read(self, slot: Slot, line: Line) -> None:
        for packet in slot.reader.feed(line.read()):
            now_s = self._now()
            if line.stage is Stage.GREETING:
                self._greet(slot, line, mqtt.parse_connack(packet), now_s)
            else:
                self._do(slot, slot.device.received(packet, now_s))
                self._replan(slot)
            if slot.line is not line:
                return

    def _greet(self, slot: Slot, line: Line, code: int, now_s: float) -> None:
        if code != _ACCEPTED:
            self.counts[f"connack_{code}"] += 1
            raise LineLostError(f"CONNACK {code}")
        line.stage = Stage.LIVE
        self._connecting.pop(line.fileno(), None)
        self._live += 1
        self.counts["connected"] += 1
        slot.attempts = 0
        self._do(slot, slot.device.accepted(now_s))
        self._replan(slot)

    def _do(self, slot: Slot, actions: list[Action]) -> None:
        for action in actions:
            match action:
                case Send():
                    if slot.line is not None and slot.line.stage is Stage.LIVE:
                        slot.line.write(action.content)
                        self._watch(slot.line)
                case Leave():
                    self._drop(slot)
                    self._later(self._now() + action.pause_s, lambda _: self._waiting.append(slot))
                    return
                case LookForUpdate():
                    self._look(slot)
                case Renew():
                    self._upkeep.renew(slot.identity)

    def _act(self, slot: Slot, actions: list[Action]) -> None:
        """As `_do`, from a timer: a line that is lost meanwhile ends nothing but itself."""
        try:
            self._do(slot, actions)
        except LineLostError as error:
            self._again(slot, error)

    def _again(self, slot: Slot, error: Exception) -> None:
        """Connect again later, each time after a longer pause."""
        stage = slot.line.stage.name.lower() if slot.line is not None else "connecting"
        self.counts[f"lost_{stage}"] += 1
        self.last_trouble = str(error)
        self._drop(slot)
        ceiling_s = min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2 ** min(slot.attempts, 10))
        slot.attempts += 1
        at = self._now() + slot.dice.between(ceiling_s / 2, ceiling_s)
        self._later(at, lambda _: self._waiting.append(slot))

    def _drop(self, slot: Slot) -> None:
        line, slot.line = slot.line, None
        if line is None:
            return
        file = line.fileno()
        self._by_file.pop(file, None)
        self._connecting.pop(file, None)
        if line.stage is Stage.LIVE:
            self._live -= 1
        self._epoll.unregister(file)
        line.close()
        slot.device.lost()

    def _watch(self, line: Line) -> None:
        mask = select.EPOLLIN | (select.EPOLLOUT if line.wants is Wants.WRITE else 0)
        self._epoll.modify(line.fileno(), mask)

    def _tick_later(self, slot: Slot) -> None:
        at = slot.planned_at = slot.device.next_at
        self._later(at, lambda now_s: self._tick(slot, at, now_s))

    def _replan(self, slot: Slot) -> None:
        """Plan an earlier tick where the device wants one; the planned one finds out about a later one."""
        if slot.device.next_at < slot.planned_at:
            self._tick_later(slot)

    def _tick(self, slot: Slot, planned_at: float, now_s: float) -> None:
        if slot.planned_at != planned_at:
            return
        if slot.device.next_at <= now_s:
            self._act(slot, slot.device.tick(now_s))
        self._tick_later(slot)

    def _look_again(self, slot: Slot, at: float) -> None:
        self._look(slot)
        every_s = self._plan.update_s * slot.dice.between(0.9, 1.1)
        self._later(at + every_s, lambda next_at: self._look_again(slot, next_at))

    def _look(self, slot: Slot) -> None:
        is_slow = Fault.SLOW in slot.device.faults
        self._upkeep.look(slot.identity, slot.device.firmware, is_slow=is_slow)

    def _on_outcome(self, outcome: Outcome) -> None:
        now_s = self._now()
        match outcome:
            case Renewed():
                self._on_renewed(outcome.identity, now_s)
            case Fetched() if outcome.version:
                slot = self._slots[outcome.device]
                if outcome.version != slot.failed_firmware:
                    self._try(slot, outcome.version, now_s)
            case Fetched():
                pass
            case Failed():
                self.counts[f"{outcome.what}_failed"] += 1
                slot = self._slots[outcome.device]
                if outcome.what == "renew":
                    identity = slot.identity
                    self._later(now_s + slot.dice.between(30, 90), lambda _: self._renew(slot, identity))
                elif outcome.is_refusal:
                    self._act(slot, slot.device.tell("update.refused", "critical", outcome.reason, now_s))

    def _try(self, slot: Slot, version: str, now_s: float) -> None:
        """Play the trial of new firmware: a reboot, some seconds of the new version, then its verdict."""
        before = slot.device.firmware
        self.counts["update_tried"] += 1
        actions = slot.device.say_firmware(version, "trial", now_s)
        self._act(slot, [*actions, Leave(slot.dice.between(1, 5))])
        self._later(now_s + slot.dice.between(6, 15), lambda at: self._decide(slot, version, before, at))

    def _decide(self, slot: Slot, version: str, before: str, now_s: float) -> None:
        device = slot.device
        if Fault.ROLLBACK in device.faults:
            slot.failed_firmware = version
            self.counts["update_rolled_back"] += 1
            reason = "the application did not say that it is well"
            message = f"Firmware {version} was rolled back to {before}: {reason}"
            said = device.tell(
                "update.rolled_back",
                "critical",
                message,
                now_s,
                version=version,
                running=before,
                reason=reason,
            )
            actions = [*said, *device.say_firmware(before, "idle", now_s, error=message)]
        else:
            self.counts["update_confirmed"] += 1
            message = f"Firmware {version} proved its health and is confirmed."
            said = device.tell("update.confirmed", "notice", message, now_s, version=version)
            actions = [*said, *device.say_firmware(version, "idle", now_s)]
        self._act(slot, actions)

    def _on_renewed(self, identity: Identity, now_s: float) -> None:
        """Use the new certificate from the next connection on, which begins at once."""
        self.counts["renewed"] += 1
        self._wallet.put([identity])
        slot = self._slots[identity.device]
        slot.identity = identity
        self._renew_later(slot, now_s)
        if slot.line is not None:
            self._act(slot, [Leave(slot.dice.between(0, 2))])

    def _renew_later(self, slot: Slot, now_s: float) -> None:
        """Renew at about half of what is left of the certificate's life."""
        left_s = max(0.0, ends_at(slot.identity.leaf).timestamp() - now_s)
        at = now_s + left_s * slot.dice.between(0.45, 0.55)
        identity = slot.identity
        self._later(at, lambda _: self._renew(slot, identity))

    def _renew(self, slot: Slot, identity: Identity) -> None:
        if slot.identity is identity:
            self._upkeep.renew(identity)

    def _later(self, at: float, act: Callable[[float], None]) -> None:
        self._order += 1
        heapq.heappush(self._due, (at, self._order, act))

    def _now(self) -> float:
        return self._clock.now().timestamp()


def run_shard(plan: ShardPlan, parent: Connection) -> None:
    """Simulate until the parent says so or is gone; tell it the counts once a second."""
    os.setpgid(0, 0)  # Ctrl-C is the parent's to hear: it ends us in good order
    clock = SystemClock()
    shard = Shard(plan, clock)
    shard.start()
    report_at = clock.now()
    with suppress(EOFError, BrokenPipeError):
        while not parent.poll():
            shard.step()
            now = clock.now()
            if now >= report_at:
                parent.send((shard.report(), shard.last_trouble))
                report_at = now + timedelta(seconds=_REPORT_EVERY_S)
    shard.close()
    with suppress(BrokenPipeError):
        parent.send((shard.report(), shard.last_trouble))
