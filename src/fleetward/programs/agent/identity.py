"""Keeps the device's certificate alive: performs what the enrollment machine commands, strictly in order."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from fleetward.base.errors import CorruptDataError, FleetwardError, KeyUnavailableError
from fleetward.base.files import write_atomically, write_secret
from fleetward.features.enrollment import device as m
from fleetward.features.enrollment.ports import DeviceKeyStore
from fleetward.outside.http.device import HttpFailedError
from fleetward.outside.tls.client import TlsIdentity
from fleetward.programs.agent.config import read_secret
from fleetward.programs.agent.loop import Timer, Worker
from fleetward.programs.agent.parts import Parts

_STATE = "enrollment.json"
_CLAIM_LOOK_S = 2.0
_DISK_PAUSE_S = 5.0
_MAX_WAIT_S = 3600.0

ProveChip = Callable[[m.ProveChip], m.ChipProved | m.ChipFailed]


@dataclass(frozen=True)
class _NotDone:
    """A command the disk refused; it is performed again after a pause."""

    reason: str


class Identity:
    """The device's key and certificate.

    Attributes:
        on_switch: told the identity to connect with from now on.
        on_change: told that something worth showing has changed.
    """

    def __init__(
        self,
        parts: Parts,
        store: DeviceKeyStore,
        settings: m.Settings,
        prove_chip: ProveChip | None,
        worker: Worker,
    ) -> None:
        """Continue from the state file; `worker` does what blocks.

        Raises:
            CorruptDataError: the state file is not what this agent wrote.
        """
        self.on_switch: Callable[[TlsIdentity], None] = lambda _identity: None
        self.on_change: Callable[[], None] = lambda: None
        self._parts = parts
        self._store = store
        self._prove_chip = prove_chip
        self._folder = parts.config.state_dir / "certificates"
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._state = parts.config.state_dir / _STATE
        try:
            self._machine = m.EnrollmentMachine(settings, _read(self._state))
        except CorruptDataError as error:
            raise CorruptDataError(f"{self._state}: {error.message}", hint=error.hint) from error
        self._worker = worker
        self._events: deque[m.Event] = deque()
        self._commands: deque[m.Command] = deque()
        self._is_busy = False
        self._wake: Timer | None = None
        self._claim_seen: tuple[int, int] | None = None
        self._last_failure = ""

    @property
    def phase(self) -> m.Phase:
        return self._machine.phase(self._parts.clock.now())

    @property
    def current(self) -> m.CertifiedKey | None:
        return self._machine.current

    @property
    def last_failure(self) -> str:
        """Why the last attempt to get a certificate failed; "" after one that did not."""
        return self._last_failure

    def live(self) -> TlsIdentity | None:
        """Return what to connect with now, None while there is no certificate or it has expired."""
        current = self._machine.current
        if current is None or self.phase is m.Phase.EXPIRED:
            return None
        return self._identity(current.label)

    def start(self) -> None:
        # First the claim: without one the machine would call for its operator.
        self._look_for_claim()
        self.tell(m.Started())

    def tell(self, event: m.Event) -> None:
        """Hand an event to the machine; what follows from it happens in order after what is under way."""
        self._events.append(event)
        self._advance()

    def _advance(self) -> None:
        while not self._is_busy:
            if self._commands:
                self._begin(self._commands.popleft())
            elif self._events:
                self._commands += self._machine.handle(self._events.popleft(), self._parts.clock.now())
            else:
                self._sleep()
                return

    def _sleep(self) -> None:
        if self._wake is not None:
            self._wake.cancel()
        at = self._machine.wake_at
        if at is not None:
            wait_s = (at - self._parts.clock.now()).total_seconds()
            # The clock may be corrected meanwhile: look again now and then.
            self._wake = self._parts.loop.after(min(wait_s, _MAX_WAIT_S), lambda: self.tell(m.Tick()))

    def _begin(self, command: m.Command) -> None:
        match command:
            case m.Switch(label):
                self._last_failure = ""
                self.on_switch(self._identity(label))
            case m.SetClock(at):
                self._parts.clock.correct(at)
                self._parts.log.warning("clock_corrected", system_was_off=self._parts.clock.is_off())
                if self._parts.clock.is_off():
                    self._parts.http.correct_clock(self._parts.clock)
            case m.Tell(name, message):
                if name == "enrollment_attempt_failed":
                    self._last_failure = message
                write = self._parts.log.info if name == "certificate_obtained" else self._parts.log.warning
                write(name, reason=message)
                self.on_change()
            case _:
                self._is_busy = True
                self._worker.submit(lambda: self._perform(command), lambda done: self._end(command, done))

    def _end(self, command: m.Command, done: list[m.Event] | _NotDone) -> None:
        if isinstance(done, _NotDone):
            self._parts.log.error("identity_storage_failed", reason=done.reason)
            self._commands.appendleft(command)
            self._parts.loop.after(_DISK_PAUSE_S, self._resume)
            return
        self._events += done
        self._resume()

    def _resume(self) -> None:
        self._is_busy = False
        self._advance()

    def _perform(self, command: m.Command) -> list[m.Event] | _NotDone:
        """Do what blocks, in the worker; return the events that answer it."""
        answers: list[m.Event] = []
        try:
            match command:
                case m.Save(content):
                    write_secret(self._state, content)
                case m.StoreCertificate(label, chain_pem):
                    write_atomically(self._chain_file(label), chain_pem)
                    answers = [m.CertificateStored(label)]
                case m.ForgetClaim() if self._parts.config.claim_file is not None:
                    self._parts.config.claim_file.unlink(missing_ok=True)
                case m.MakeKey(label):
                    answers = [self._make_key(label)]
                case m.SendRequest():
                    answers = self._send(command)
                case m.ProveChip() if self._prove_chip is not None:
                    answers = [self._prove_chip(command)]
                case m.DeleteKey(label):
                    answers = self._delete_key(label)
        except OSError as error:
            return _NotDone(f"{type(command).__name__}: {error.strerror or error}")
        return answers

    def _make_key(self, label: str) -> m.Event:
        try:
            key = self._store.find_key(label) or self._store.create_key(label)
            return m.KeyReady(label, key.sign_csr(self._parts.config.device_id))
        except FleetwardError as error:
            return m.KeyFailed(label, str(error))

    def _send(self, request: m.SendRequest) -> list[m.Event]:
        label = request.client_key
        try:
            answer = self._parts.http.request(
                request.method,
                request.path,
                headers=request.headers,
                body=request.body,
                identity=self._idevid()
                if request.is_idevid
                else None
                if label is None
                else self._identity(label),
                is_time_unchecked=request.is_time_unchecked,
            )
        except HttpFailedError as error:
            failed = m.RequestFailed(error.message, error.is_clock_suspect)
            is_refused = error.is_certificate_refused and label is not None
            return [failed, m.HandshakeRefused(label, error.message)] if is_refused and label else [failed]
        except FleetwardError as error:
            return [m.RequestFailed(str(error))]
        return [m.ResponseReceived(answer.status, answer.headers, answer.body)]

    def _delete_key(self, label: str) -> list[m.Event]:
        self._parts.http.forget(label)
        try:
            self._store.delete_key(label)
        except KeyUnavailableError as error:
            # Told again after the next start; a key without certificate is no danger meanwhile.
            self._parts.log.warning("key_not_deleted", label=label, reason=str(error))
            return []
        self._chain_file(label).unlink(missing_ok=True)
        return [m.KeyDeleted(label)]

    def _identity(self, label: str) -> TlsIdentity:
        chain = self._chain_file(label)
        return TlsIdentity(label, lambda context: self._store.open_key(label).bind(context, chain))

    def _idevid(self) -> TlsIdentity:
        """Return the secure element's manufacturer identity.

        Raises:
            KeyUnavailableError: the settings name none, or the element does not hold it.
        """
        label = getattr(self._parts.config.keys, "idevid", None)
        find = getattr(self._store, "find_certificate", None)
        der = find(label) if label and find is not None else None
        if label is None or der is None:
            raise KeyUnavailableError("IDevID: expected a certificate in the secure element, found none")
        chain = self._chain_file("idevid")
        write_atomically(chain, x509.load_der_x509_certificate(der).public_bytes(Encoding.PEM))
        return TlsIdentity(label, lambda context: self._store.open_key(label).bind(context, chain))

    def _look_for_claim(self) -> None:
        """Offer the claim whenever its file is new; an operator may bring one at any time."""
        path = self._parts.config.claim_file
        if path is None:
            return
        self._parts.loop.after(_CLAIM_LOOK_S, self._look_for_claim)
        try:
            stat = path.stat()
        except OSError:
            self._claim_seen = None
            return
        seen = (stat.st_mtime_ns, stat.st_ino)
        if seen == self._claim_seen:
            return
        self._claim_seen = seen
        try:
            token = read_secret(path)
        except FleetwardError as error:
            self._parts.log.warning("claim_unreadable", reason=str(error))
            return
        if token:
            self.tell(m.ClaimOffered(token))

    def _chain_file(self, label: str) -> Path:
        return self._folder / f"{label}.pem"


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
