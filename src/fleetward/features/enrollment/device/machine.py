"""The enrollment machine itself. The package's docstring says how to drive it and what its phases mean."""

import hashlib
from collections.abc import Callable
from datetime import datetime, timedelta
from enum import Enum, auto
from typing import Any, ClassVar

import msgspec
from cryptography import x509

from fleetward.base.errors import InvalidInputError
from fleetward.features.enrollment.device import messages as m
from fleetward.features.enrollment.device import requests
from fleetward.features.enrollment.device.state import (
    CertifiedKey,
    Memory,
    Phase,
    Settings,
    is_clock_credible,
    is_pausing,
    live_key,
    parse_memory,
    pause_after,
    phase_of,
    render_memory,
    renewal_at,
    wants_certificate,
)
from fleetward.wire import enroll, est, signed_time


class _Awaited(Enum):
    """The one answer that is outstanding."""

    TIME = auto()
    KEY = auto()
    LEAF = auto()
    ISSUERS = auto()
    CHALLENGE = auto()
    PROOF = auto()
    CHAIN = auto()
    STORED = auto()


class EnrollmentMachine:
    """Keeps one device's certificate alive.

    Attributes:
        wake_at: when to hand in a Tick at the latest; None while only another event can bring it on.
    """

    def __init__(self, settings: Settings, saved: bytes | None) -> None:
        """Continue from `saved`, the content of the last Save.

        Raises:
            CorruptDataError: `saved` is not what this machine wrote.
        """
        self.wake_at: datetime | None = None
        self._settings = settings
        self._memory = parse_memory(saved)
        self._saved = saved
        self._now = settings.earliest
        self._awaited: _Awaited | None = None
        self._claim: str | None = None
        self._is_claim_missed = self._is_clock_doubted = False
        self._time_checked_for: str | None = None
        self._nonce = ""
        self._csr: bytes | None = None
        self._leaf: x509.Certificate | None = None
        self._challenge: enroll.TpmChallenge | None = None
        self._fresh: CertifiedKey | None = None
        self._deleting: frozenset[str] = frozenset()

    @property
    def current(self) -> CertifiedKey | None:
        """The key and certificate to connect with."""
        return self._memory.current

    @property
    def memory(self) -> Memory:
        return self._memory

    def phase(self, now: datetime) -> Phase:
        return phase_of(self._memory, now)

    def handle(self, event: m.Event, now: datetime) -> list[m.Command]:
        """Return what to do, in order, now that `event` has happened."""
        self._now = now
        commands = self._HANDLERS[type(event)](self, event)
        commands += self._delete_retired()
        commands += self._advance()
        self.wake_at = self._next_wake()
        content = render_memory(self._memory)
        if content != self._saved:
            self._saved = content
            commands.insert(0, m.Save(content))
        return commands

    def _advance(self) -> list[m.Command]:
        """Take the next step towards a certificate, when one is wanted and nothing is outstanding."""
        if self._awaited is not None or is_pausing(self._memory, self._now):
            return []
        if self._must_ask_time():
            self._awaited, self._nonce = _Awaited.TIME, signed_time.new_nonce()
            return [requests.ask_time(self._nonce)]
        if not wants_certificate(self._memory, self._settings.device_id, self._now):
            return []
        if not self._may_apply():
            return self._miss_claim()
        if self._memory.pending is None or self._must_use_factory_key():
            self._plan_key()
        if self._csr is None:
            self._awaited = _Awaited.KEY
            return [m.MakeKey(str(self._memory.pending))]
        return [self._apply(self._csr)]

    def _plan_key(self) -> None:
        made, self._csr = self._memory.made + 1, None
        given_up = (self._memory.pending,) if self._memory.pending else ()
        factory_key = None if self._live() else self._settings.factory_key
        self._remember(
            made=made, pending=factory_key or f"device-{made}", retired=self._memory.retired + given_up
        )

    def _apply(self, csr: bytes) -> m.SendRequest:
        """Return the first request of the lane for this device's tier and phase."""
        settings, live = self._settings, self._live()
        if settings.chip is not None:
            self._awaited = _Awaited.CHALLENGE
            if live is not None:
                purpose = enroll.Purpose.RENEW
            elif self._memory.current is not None and self._claim is None:
                purpose = enroll.Purpose.RECOVER
            else:
                purpose = enroll.Purpose.ENROLL
            return requests.begin_tpm(
                settings.device_id,
                purpose,
                settings.chip,
                claim=self._claim if purpose is enroll.Purpose.ENROLL else None,
                client_key=_label_of(live),
            )
        self._awaited = _Awaited.LEAF
        if live is not None:
            return requests.reenroll(csr, live.label)
        if self._claim is not None:
            return requests.enroll_by_claim(csr, settings.device_id, self._claim)
        return requests.enroll_by_hardware(csr, is_idevid=settings.has_idevid)

    def _on_nothing(self, _event: m.Event) -> list[m.Command]:
        return []

    def _on_claim(self, event: m.ClaimOffered) -> list[m.Command]:
        if _digest(event.token) == self._memory.used_claim:
            return [m.ForgetClaim()]
        if event.token != self._claim:
            self._claim = event.token
            self._is_claim_missed = False
            self._remember(failures=0, retry_at=None)
        return []

    def _on_key(self, event: m.KeyReady) -> list[m.Command]:
        if self._awaited is _Awaited.KEY and event.label == self._memory.pending:
            self._awaited, self._csr = None, event.csr
        return []

    def _on_failure(self, event: m.KeyFailed | m.RequestFailed | m.ChipFailed) -> list[m.Command]:
        if isinstance(event, m.RequestFailed) and event.is_clock_suspect:
            self._is_clock_doubted = True
        return self._fail(event.reason)

    def _on_response(self, event: m.ResponseReceived) -> list[m.Command]:
        take = self._ON_RESPONSE.get(self._awaited)
        if take is None:
            return []
        if event.status != requests.OK:
            return self._fail(requests.refusal_of(event), at_least_s=requests.retry_after_s(event))
        self._awaited = None
        try:
            return take(self, event.body)
        except InvalidInputError as error:
            return self._fail(str(error))

    def _take_time(self, body: bytes) -> list[m.Command]:
        roots = x509.load_pem_x509_certificates(self._settings.root_pem)
        at = signed_time.verify_signed_time(body, nonce=self._nonce, roots=roots)
        self._now = at
        self._is_clock_doubted = False
        self._time_checked_for = _label_of(self._memory.current)
        self._remember(seen_at=at, failures=0, retry_at=None)
        return [m.SetClock(at)]

    def _take_leaf(self, body: bytes) -> list[m.Command]:
        self._leaf = requests.pick_leaf(est.parse_certificates(body), self._csr or b"")
        self._awaited = _Awaited.ISSUERS
        return [requests.ask_issuers()]

    def _take_issuers(self, body: bytes) -> list[m.Command]:
        return self._store(est.parse_certificates(body))

    def _take_challenge(self, body: bytes) -> list[m.Command]:
        found = self._challenge = enroll.parse_challenge(body)
        self._awaited = _Awaited.PROOF
        label = str(self._memory.pending)
        return [
            m.ProveChip(
                label, found.credential_blob, found.encrypted_secret, found.nonce, found.is_evidence_needed
            )
        ]

    def _on_proof(self, event: m.ChipProved) -> list[m.Command]:
        if self._awaited is not _Awaited.PROOF or self._challenge is None or self._csr is None:
            return []
        self._awaited = _Awaited.CHAIN
        client_key = _label_of(self._live())
        return [requests.finish_tpm(self._challenge.challenge_id, self._csr, event, client_key)]

    def _take_chain(self, body: bytes) -> list[m.Command]:
        found = requests.load_issued(body)
        self._leaf = requests.pick_leaf(found, self._csr or b"")
        return self._store([*found, *x509.load_pem_x509_certificates(self._settings.root_pem)])

    def _store(self, known: list[x509.Certificate]) -> list[m.Command]:
        """Have the certificate written; it counts only once that is confirmed."""
        leaf, label = self._leaf, self._memory.pending
        if leaf is None or label is None:
            return []
        if leaf.not_valid_after_utc <= self._now:
            self._is_clock_doubted = True
            return self._fail(
                f"the certificate issued now ended at {leaf.not_valid_after_utc}: the clock is off"
            )
        chain = requests.complete_chain(leaf, known)
        self._fresh = CertifiedKey(label, obtained_at=self._now, not_after=leaf.not_valid_after_utc)
        self._awaited = _Awaited.STORED
        return [m.StoreCertificate(label, chain)]

    def _on_stored(self, event: m.CertificateStored) -> list[m.Command]:
        fresh, old, older = self._fresh, self._memory.current, self._memory.previous
        if self._awaited is not _Awaited.STORED or fresh is None or event.label != fresh.label:
            return []
        if old is not None and old.label == fresh.label:
            old = None  # the factory's key, certified again
        if old is not None and older is not None and not old.is_proven:
            old, older = older, old  # never let go of the last one that has connected
        is_claim_used = self._claim is not None and self._live() is None
        self._remember(
            current=fresh,
            previous=old,
            retired=self._retired_with(older),
            pending=None,
            failures=0,
            retry_at=None,
            used_claim=_digest(self._claim) if is_claim_used and self._claim else self._memory.used_claim,
        )
        self._awaited, self._csr, self._leaf, self._fresh, self._challenge = None, None, None, None, None
        commands: list[m.Command] = [m.Switch(fresh.label, _label_of(old))]
        if is_claim_used:
            self._claim = None
            commands.append(m.ForgetClaim())
        return [
            *commands,
            m.Tell("certificate_obtained", f"A certificate until {fresh.not_after} was obtained."),
        ]

    def _on_connected(self, event: m.Connected) -> list[m.Command]:
        current, previous = self._memory.current, self._memory.previous
        if current is None or event.label != current.label or (current.is_proven and previous is None):
            return []
        self._remember(
            current=msgspec.structs.replace(current, is_proven=True),
            previous=None,
            retired=self._retired_with(previous),
        )
        return []

    def _on_handshake_refused(self, event: m.HandshakeRefused) -> list[m.Command]:
        """Go back to the certificate before a new one that is refused; doubt the clock for any other."""
        current, previous = self._memory.current, self._memory.previous
        if current is None or event.label != current.label:
            return []
        if current.is_proven or previous is None or self._now >= previous.not_after:
            self._is_clock_doubted = True
            return []
        self._remember(current=previous, previous=None, retired=self._retired_with(current))
        return [
            m.Switch(previous.label, None),
            *self._fail(f"the new certificate was refused: {event.reason}"),
        ]

    def _on_clock_doubted(self, _event: m.ClockDoubted) -> list[m.Command]:
        self._is_clock_doubted = True
        return []

    def _on_renewal_asked(self, _event: m.RenewalAsked) -> list[m.Command]:
        if self._memory.current is not None and self._memory.pending is None:
            self._plan_key()
        return []

    def _on_deleted(self, event: m.KeyDeleted) -> list[m.Command]:
        self._deleting -= {event.label}
        self._remember(retired=tuple(label for label in self._memory.retired if label != event.label))
        return []

    def _fail(self, reason: str, *, at_least_s: int = 0) -> list[m.Command]:
        self._awaited, self._leaf, self._challenge = None, None, None
        self._remember(failures=self._memory.failures + 1)
        pause = max(
            pause_after(self._memory, self._settings.device_id, self._now), timedelta(seconds=at_least_s)
        )
        self._remember(retry_at=self._now + pause)
        return [m.Tell("enrollment_attempt_failed", reason)]

    def _delete_retired(self) -> list[m.Command]:
        due = [label for label in self._memory.retired if label not in self._deleting]
        self._deleting |= set(due)
        return [m.DeleteKey(label) for label in due]

    def _miss_claim(self) -> list[m.Command]:
        if self._is_claim_missed:
            return []
        self._is_claim_missed = True
        return [m.Tell("claim_needed", "This device needs a claim token from its operator.")]

    def _live(self) -> CertifiedKey | None:
        return live_key(self._memory, self._now)

    def _may_apply(self) -> bool:
        """Whether there is something to be authorised by."""
        settings = self._settings
        has_hardware = settings.chip is not None or settings.has_idevid or settings.factory_key is not None
        return self._live() is not None or self._claim is not None or has_hardware

    def _must_use_factory_key(self) -> bool:
        """Whether nothing but the factory's key vouches for this device, and it is not the one at work."""
        key = self._settings.factory_key
        return key not in (None, self._memory.pending) and self._claim is None and self._live() is None

    def _must_ask_time(self) -> bool:
        """Whether the clock must be checked first. An expiry is only believed by signed time."""
        if self._is_clock_doubted or not is_clock_credible(self._memory, self._settings, self._now):
            return True
        current = self._memory.current
        return (
            current is not None and self._now >= current.not_after and self._time_checked_for != current.label
        )

    def _next_wake(self) -> datetime | None:
        if self._awaited is not None:
            return None
        if self._must_ask_time() or (
            wants_certificate(self._memory, self._settings.device_id, self._now) and self._may_apply()
        ):
            return self._memory.retry_at or self._now
        current = self._memory.current
        if current is None or wants_certificate(self._memory, self._settings.device_id, self._now):
            return None
        return renewal_at(current, self._settings.device_id)

    def _retired_with(self, key: CertifiedKey | None) -> tuple[str, ...]:
        if key is None or key.label == self._settings.factory_key:
            return self._memory.retired
        return (*self._memory.retired, key.label)

    def _remember(self, **changes: Any) -> None:
        self._memory = msgspec.structs.replace(self._memory, **changes)

    _HANDLERS: ClassVar[dict[type, Callable[["EnrollmentMachine", Any], list[m.Command]]]] = {
        m.Started: _on_nothing,
        m.Tick: _on_nothing,
        m.ClaimOffered: _on_claim,
        m.KeyReady: _on_key,
        m.KeyFailed: _on_failure,
        m.ResponseReceived: _on_response,
        m.RequestFailed: _on_failure,
        m.ChipProved: _on_proof,
        m.ChipFailed: _on_failure,
        m.CertificateStored: _on_stored,
        m.KeyDeleted: _on_deleted,
        m.Connected: _on_connected,
        m.HandshakeRefused: _on_handshake_refused,
        m.ClockDoubted: _on_clock_doubted,
        m.RenewalAsked: _on_renewal_asked,
    }
    _ON_RESPONSE: ClassVar[dict[_Awaited | None, Callable[["EnrollmentMachine", bytes], list[m.Command]]]] = {
        _Awaited.TIME: _take_time,
        _Awaited.LEAF: _take_leaf,
        _Awaited.ISSUERS: _take_issuers,
        _Awaited.CHALLENGE: _take_challenge,
        _Awaited.CHAIN: _take_chain,
    }


def _label_of(key: CertifiedKey | None) -> str | None:
    return None if key is None else key.label


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
