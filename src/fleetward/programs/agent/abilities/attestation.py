"""Shows the platform, by the TPM, what this device booted: at start, before a verdict ends, when asked."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from fleetward.base.clock import parse_time, render_time, render_time_or_none
from fleetward.base.errors import FleetwardError, InvalidInputError
from fleetward.features.attestation.device import Schedule, make_evidence
from fleetward.features.attestation.ports import AttestationDevice
from fleetward.outside.http.device import Answer, DeviceHttp
from fleetward.outside.mqtt.link import Refused
from fleetward.outside.tls.client import TlsIdentity
from fleetward.programs.agent.abilities.ability import Ability
from fleetward.programs.agent.chip import read_event_log
from fleetward.programs.agent.keys import DeviceKeys
from fleetward.programs.agent.loop import Timer
from fleetward.programs.agent.tools import Tools
from fleetward.wire.command import Command, CommandResult
from fleetward.wire.evidence import EVIDENCE_PATH, NONCE_PATH, parse_answer, parse_nonce

_OK = 200
_LONGEST_SLEEP_S = 60.0
_STALE = timedelta(seconds=20)


@dataclass(frozen=True)
class Verdict:
    """What came of an attempt.

    Attributes:
        expires_at: end of a good verdict; None without one.
        reason: why there is no good verdict; "" with one.
    """

    expires_at: datetime | None
    reason: str = ""


class Attestation(Ability):
    """Keeps the platform's verdict on this device fresh. Without a TPM it has nothing to show."""

    name = "attestation"
    commands = frozenset({"attest-now"})

    def __init__(self, tools: Tools) -> None:
        super().__init__(tools)
        self._chip: AttestationDevice | None = None
        self._last: Verdict | None = None
        self._schedule = Schedule(tools.clock.now())
        self._good_at: datetime | None = None
        self._is_busy = False
        self._asked: list[Callable[[CommandResult], None]] = []
        self._timer: Timer | None = None

    def on_keys(self, keys: DeviceKeys) -> None:
        self._chip = keys.chip

    def on_identity(self, identity: TlsIdentity) -> None:
        del identity
        self._consider()

    def on_refused(self, label: str, refused: Refused) -> None:
        """Doubt the verdict: the platform may have lost it, unless it is fresh."""
        del label
        if not refused.is_policy:
            return
        now = self.tools.clock.now()
        if self._good_at is not None and now - self._good_at > _STALE:
            self._good_at, self._schedule = None, Schedule(now)
        self._consider()

    def allows_session(self) -> bool:
        """A session before the first verdict would only be refused."""
        return self._chip is None or self._last is not None

    def perform(self, command: Command, finish: Callable[[CommandResult], None]) -> None:
        del command
        if self._chip is None:
            finish(CommandResult(ok=False, error="this device has no TPM to attest with"))
            return
        self._asked.append(finish)
        self._consider()

    def status(self) -> dict[str, Any] | None:
        if self._chip is None:
            return None
        if self._last is None:
            return {"good": None}
        until = render_time_or_none(self._last.expires_at)
        return {"good": until is not None, "until": until, "reason": self._last.reason}

    def _consider(self) -> None:
        """Attest when it is due; cheap to call at any time."""
        chip = self._chip
        if self._is_busy or chip is None:
            return
        now = self.tools.clock.now()
        identity = self.tools.core.identity()
        if identity is not None and (self._asked or self._schedule.is_due(now)):
            self._is_busy = True
            self.tools.submit(lambda: attest(self.tools, chip, identity), self._end)
            return
        if self._timer is not None:
            self._timer.cancel()
        wait_s = (self._schedule.due_at - now).total_seconds() if identity is not None else _LONGEST_SLEEP_S
        self._timer = self.tools.after(min(max(wait_s, 0.1), _LONGEST_SLEEP_S), self._consider)

    def _end(self, verdict: Verdict) -> None:
        now = self.tools.clock.now()
        self._is_busy = False
        self._last = verdict
        if verdict.expires_at is not None:
            self._schedule = self._schedule.after_good(now, verdict.expires_at)
            self._good_at = now
            self.tools.log.info("attested", until=render_time(verdict.expires_at))
        else:
            self._schedule = self._schedule.after_failure(now)
            self._good_at = None
            self.tools.log.warning("attestation_failed", reason=verdict.reason)
        self.tools.core.connect_now()
        self.tools.changed()
        asked, self._asked = self._asked, []
        for finish in asked:
            finish(CommandResult(ok=not verdict.reason, error=verdict.reason))
        self._consider()


def attest(tools: Tools, chip: AttestationDevice, identity: TlsIdentity) -> Verdict:
    """Fetch a nonce, quote over it, hand in the evidence; return the platform's verdict. It blocks."""
    try:
        nonce = parse_nonce(_expect_ok(_ask(tools.http, "GET", NONCE_PATH, b"", identity)))
        evidence = make_evidence(chip, nonce.nonce, read_event_log(tools.config.event_log))
        answer = parse_answer(_expect_ok(_ask(tools.http, "POST", EVIDENCE_PATH, evidence, identity)))
        if answer.good:
            return Verdict(parse_time(answer.expires_at))
        reasons = [one.get("message", one.get("code", "?")) for one in answer.reasons]
        return Verdict(None, "; ".join(reasons)[:1000] or "the platform gave no reason")
    except FleetwardError as error:
        return Verdict(None, str(error))


def _ask(http: DeviceHttp, method: str, path: str, body: bytes, identity: TlsIdentity) -> Answer:
    headers = {"content-type": "application/json"} if body else {}
    return http.request(method, path, headers=headers, body=body, identity=identity)


def _expect_ok(answer: Answer) -> bytes:
    if answer.status != _OK:
        raise InvalidInputError(
            f"attestation: expected status {_OK}, found {answer.status}: {_detail(answer)}"
        )
    return answer.body


def _detail(answer: Answer) -> str:
    return answer.body[:300].decode(errors="replace")
