"""The device's side of attestation: what to show of the chip, and when. No I/O but the chip's."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from fleetward.features.attestation.ports import AttestationDevice
from fleetward.wire.event_log import BOOT_PCR, FIRMWARE_PCR, LogEntry
from fleetward.wire.evidence import Evidence, render_evidence

_PCRS = (BOOT_PCR, FIRMWARE_PCR)
_FIRST_PAUSE = timedelta(seconds=5)
_LONGEST_PAUSE = timedelta(minutes=10)
_SHARE, _JITTER = 0.5, 0.1
_MAX_DOUBLINGS = 12


def make_evidence(chip: AttestationDevice, nonce: bytes, event_log: Sequence[LogEntry]) -> bytes:
    """Return the JSON evidence of this boot over the server's nonce.

    Raises:
        KeyUnavailableError: the chip does not answer.
    """
    quote, signature = chip.quote(nonce, _PCRS)
    values = chip.read_pcrs(_PCRS)
    pcrs = {str(index): values[index].hex() for index in _PCRS}
    return render_evidence(Evidence(quote, signature, pcrs, tuple(event_log)))


@dataclass(frozen=True)
class Schedule:
    """When to hand in evidence next. A value: each step returns the next one.

    Attributes:
        due_at: hand in evidence at or after this time.
        failures: attempts in a row without an answer, or with a bad one.
    """

    due_at: datetime
    failures: int = 0

    def after_good(self, now: datetime, expires_at: datetime, *, roll: float | None = None) -> "Schedule":
        """Return the schedule after a good appraisal: half of what is left, up to a tenth off."""
        chance = random.random() if roll is None else roll  # noqa: S311 - spreads load, guards nothing
        left = max(expires_at - now, timedelta(0))
        return Schedule(now + left * (_SHARE + _JITTER * (2 * chance - 1)))

    def after_failure(self, now: datetime, *, roll: float | None = None) -> "Schedule":
        """Return the schedule after no answer or a bad one: growing pauses, full jitter, never giving up."""
        chance = random.random() if roll is None else roll  # noqa: S311 - as above
        longest = min(_FIRST_PAUSE * 2 ** min(self.failures, _MAX_DOUBLINGS), _LONGEST_PAUSE)
        return Schedule(now + longest * (0.5 + 0.5 * chance), self.failures + 1)

    def is_due(self, now: datetime) -> bool:
        return now >= self.due_at
