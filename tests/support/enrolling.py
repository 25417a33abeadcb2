"""A device that can be killed: the enrollment machine, a disk, a key store and a link to some server."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from fleetward.features.enrollment import device as d

Link = Callable[[d.SendRequest, "Disk", datetime], d.ResponseReceived | d.RequestFailed]


class KilledError(BaseException):
    """The power went."""


@dataclass
class Disk:
    """What survives a kill."""

    state: bytes | None = None
    keys: dict[str, ec.EllipticCurvePrivateKey] = field(default_factory=dict)
    certificates: dict[str, bytes] = field(default_factory=dict)
    claim: str | None = None


def sign_csr(key: ec.EllipticCurvePrivateKey, name: str) -> bytes:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)


class Device:
    """Drives the machine as the package's docstring says; `steps_left` counts down to a kill."""

    def __init__(
        self, settings: d.Settings, disk: Disk, link: Link, now: datetime, *, steps_left: int | None = None
    ) -> None:
        self.disk = disk
        self.now = now
        self.log: list[str] = []
        self.in_use: str | None = None
        self._steps_left = steps_left
        self._settings = settings
        self._link = link
        self.machine = d.EnrollmentMachine(settings, disk.state)
        self.in_use = self.machine.current.label if self.machine.current else None
        self.tell(d.Started())
        if disk.claim is not None:
            self.tell(d.ClaimOffered(disk.claim))

    def tell(self, event: d.Event) -> None:
        """Hand in an event and all that follows from it."""
        queue = deque([event])
        while queue:
            for command in self.machine.handle(queue.popleft(), self.now):
                self._step()
                answer = self._perform(command)
                if answer is not None:
                    queue.append(answer)

    def run_until(self, end: datetime) -> None:
        """Let time pass, waking the machine whenever it asks."""
        while self.machine.wake_at is not None and self.machine.wake_at <= end:
            self.now = max(self.machine.wake_at, self.now + timedelta(milliseconds=1))
            self.tell(d.Tick())
        self.now = max(self.now, end)

    def make_key(self, label: str) -> bytes:
        key = self.disk.keys.setdefault(label, ec.generate_private_key(ec.SECP256R1()))
        return sign_csr(key, self._settings.device_id)

    def delete_key(self, label: str) -> None:
        self.disk.keys.pop(label, None)

    def prove_chip(self, command: d.ProveChip) -> d.Event:
        raise NotImplementedError(command)

    def _step(self) -> None:
        if self._steps_left is not None:
            if self._steps_left == 0:
                raise KilledError
            self._steps_left -= 1

    def _perform(self, command: d.Command) -> d.Event | None:  # noqa: C901 - a case per command
        self.log.append(type(command).__name__)
        match command:
            case d.Save(content):
                self.disk.state = content
            case d.MakeKey(label):
                return d.KeyReady(label, self.make_key(label))
            case d.ProveChip():
                return self.prove_chip(command)
            case d.SendRequest():
                answer = self._link(command, self.disk, self.now)
                self._step()  # killed with the answer on the way
                return answer
            case d.StoreCertificate(label, chain):
                self.disk.certificates[label] = chain
                self._step()
                return d.CertificateStored(label)
            case d.DeleteKey(label):
                self.delete_key(label)
                self.disk.certificates.pop(label, None)
                self._step()
                return d.KeyDeleted(label)
            case d.Switch(label):
                self.in_use = label
            case d.ForgetClaim():
                self.disk.claim = None
            case d.SetClock(at):
                self.now = at
            case d.Tell(name):
                self.log[-1] = name
        return None
