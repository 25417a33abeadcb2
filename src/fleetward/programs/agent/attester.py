"""Shows the platform, by the TPM, what this device booted: at start, before a verdict ends, when asked."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from fleetward.base.clock import parse_time, render_time
from fleetward.base.errors import FleetwardError, InvalidInputError
from fleetward.features.attestation.device import Schedule, make_evidence
from fleetward.features.attestation.ports import AttestationDevice
from fleetward.features.enrollment import device as enrollment
from fleetward.outside.http.device import Answer, DeviceHttp
from fleetward.outside.tls.client import TlsIdentity
from fleetward.programs.agent.loop import Timer, Worker
from fleetward.programs.agent.parts import Parts
from fleetward.wire.event_log import MAX_LOG_BYTES, LogEntry, parse_event_log
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


class Attester:
    """Keeps the platform's verdict on this device fresh.

    Attributes:
        on_verdict: told after each attempt.
        last: the last verdict; None before the first attempt.
    """

    def __init__(
        self, parts: Parts, chip: AttestationDevice, identity: Callable[[], TlsIdentity | None]
    ) -> None:
        """Attest `chip` whenever `identity` gives a certificate to connect with."""
        self.on_verdict: Callable[[], None] = lambda: None
        self.last: Verdict | None = None
        self._parts = parts
        self._chip = chip
        self._identity = identity
        self._worker = Worker(parts.loop, "attestation")
        self._schedule = Schedule(parts.clock.now())
        self._good_at: datetime | None = None
        self._is_busy = False
        self._asked: list[Callable[[str], None]] = []
        self._timer: Timer | None = None

    def consider(self) -> None:
        """Attest when it is due; cheap to call at any time."""
        if self._is_busy:
            return
        now = self._parts.clock.now()
        identity = self._identity()
        if identity is not None and (self._asked or self._schedule.is_due(now)):
            self._is_busy = True
            self._worker.submit(lambda: attest(self._parts, self._chip, identity), self._end)
            return
        if self._timer is not None:
            self._timer.cancel()
        wait_s = (self._schedule.due_at - now).total_seconds() if identity is not None else _LONGEST_SLEEP_S
        self._timer = self._parts.loop.after(min(max(wait_s, 0.1), _LONGEST_SLEEP_S), self.consider)

    def ask(self, finish: Callable[[str], None]) -> None:
        """Attest now; `finish` is told "" or why the verdict is not good."""
        self._asked.append(finish)
        self.consider()

    def doubt(self) -> None:
        """The platform refused a session: it may have lost its verdict, unless that is fresh."""
        now = self._parts.clock.now()
        if self._good_at is not None and now - self._good_at > _STALE:
            self._good_at, self._schedule = None, Schedule(now)
        self.consider()

    def prove(self, command: enrollment.ProveChip) -> enrollment.ChipProved | enrollment.ChipFailed:
        """Answer the enrollment lane's challenge. It blocks: for a worker."""
        try:
            secret = self._chip.activate_credential(command.credential_blob, command.encrypted_secret)
            info, signature = self._chip.certify_key(command.label, command.nonce)
            evidence = None
            if command.with_evidence:
                log = read_event_log(self._parts.config.event_log)
                evidence = make_evidence(self._chip, command.nonce, log)
        except FleetwardError as error:
            return enrollment.ChipFailed(str(error))
        return enrollment.ChipProved(secret, info, signature, evidence)

    def _end(self, verdict: Verdict) -> None:
        now = self._parts.clock.now()
        self._is_busy = False
        self.last = verdict
        if verdict.expires_at is not None:
            self._schedule = self._schedule.after_good(now, verdict.expires_at)
            self._good_at = now
            self._parts.log.info("attested", until=render_time(verdict.expires_at))
        else:
            self._schedule = self._schedule.after_failure(now)
            self._good_at = None
            self._parts.log.warning("attestation_failed", reason=verdict.reason)
        self.on_verdict()
        asked, self._asked = self._asked, []
        for finish in asked:
            finish(verdict.reason)
        self.consider()


def attest(parts: Parts, chip: AttestationDevice, identity: TlsIdentity) -> Verdict:
    """Fetch a nonce, quote over it, hand in the evidence; return the platform's verdict. It blocks."""
    try:
        nonce = parse_nonce(_expect_ok(_ask(parts.http, "GET", NONCE_PATH, b"", identity)))
        evidence = make_evidence(chip, nonce.nonce, read_event_log(parts.config.event_log))
        answer = parse_answer(_expect_ok(_ask(parts.http, "POST", EVIDENCE_PATH, evidence, identity)))
        if answer.good:
            return Verdict(parse_time(answer.expires_at))
        reasons = [one.get("message", one.get("code", "?")) for one in answer.reasons]
        return Verdict(None, "; ".join(reasons)[:1000] or "the platform gave no reason")
    except FleetwardError as error:
        return Verdict(None, str(error))


def read_event_log(path: Path) -> tuple[LogEntry, ...]:
    """Return what the boot stage measured; nothing when the agent was started without one.

    Raises:
        InvalidInputError: the file is damaged; a quote could not be explained by it.
    """
    try:
        with path.open("rb") as file:
            return parse_event_log(file.read(MAX_LOG_BYTES + 1))
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise InvalidInputError(f"{path}: expected the boot stage's log, found it unreadable") from error


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
