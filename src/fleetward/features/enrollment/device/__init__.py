"""The device's side of enrollment: a machine that takes events and gives commands; the agent does the I/O.

How to drive it:

    machine = EnrollmentMachine(settings, saved)       # saved: the bytes of the last Save, or None
    commands = machine.handle(Started(), now)
    loop:
        for command in commands:                       # strictly in order, each finished before the next
            perform it; if it asks for an answer, put that event at the end of a queue
        take the next event: one of the queue, or Tick() when machine.wake_at has come
        commands = machine.handle(event, now)

Rules for the driver:
- `Save.content` replaces the state file (`base.files.write_secret`) before the next command is touched, and
  `StoreCertificate` writes its file with `write_atomically`. Then a kill between any two steps, or inside
  one, is recovered from: construct the machine anew from the last saved bytes and hand it `Started()`.
- Commands that ask for an answer, and the events that answer them:
  `MakeKey` → `KeyReady` | `KeyFailed`; `SendRequest` → `ResponseReceived` | `RequestFailed`; `ProveChip` →
  `ChipProved` | `ChipFailed`; `StoreCertificate` → `CertificateStored`; `DeleteKey` → `KeyDeleted`.
  `Save`, `Switch`, `SetClock`, `ForgetClaim` and `Tell` have no answer.
- `MakeKey(label)` opens the key of that label when the key store holds it, else makes it; it is repeated
  after a crash. `DeleteKey(label)` deletes key and certificate file, and succeeds when they are gone already.
- `now` is the device's best knowledge of the time: its own clock, corrected by the last `SetClock`.
- `Connected(label)` is told whenever a mutual TLS session with that certificate was accepted (the MQTT
  connection, say); until then the certificate before it, and its key, are kept. `HandshakeRefused(label)` is
  told when the server's TLS refused that certificate while the network works; being denied for policy
  (quarantine, missing attestation) is not that.
- `ClaimOffered` is told after `Started` when there is a claim file, and whenever a new one appears.
- `machine.current` names the certificate to connect with, or None; it changes only together with a `Switch`.

Phases (`machine.phase(now)`): `none` (nothing yet) → `enrolling` → `enrolled` ⇄ `renewing`; `expired` when
the certificate ran out: the TPM tier then recovers by its chip, the others by a new claim. The machine never
gives up: while the server is away it tries again with growing pauses, before and after expiry.

Renewal is due at half of the lifetime, up to a tenth of it earlier or later (a fixed choice per certificate,
so that a fleet spreads), always with a new key.
"""

from fleetward.features.enrollment.device.machine import EnrollmentMachine
from fleetward.features.enrollment.device.messages import (
    CertificateStored,
    ChipFailed,
    ChipProved,
    ClaimOffered,
    ClockDoubted,
    Command,
    Connected,
    DeleteKey,
    Event,
    ForgetClaim,
    HandshakeRefused,
    KeyDeleted,
    KeyFailed,
    KeyReady,
    MakeKey,
    ProveChip,
    RenewalAsked,
    RequestFailed,
    ResponseReceived,
    Save,
    SendRequest,
    SetClock,
    Started,
    StoreCertificate,
    Switch,
    Tell,
    Tick,
)
from fleetward.features.enrollment.device.state import CertifiedKey, Chip, Phase, Settings

__all__ = [
    "CertificateStored",
    "CertifiedKey",
    "Chip",
    "ChipFailed",
    "ChipProved",
    "ClaimOffered",
    "ClockDoubted",
    "Command",
    "Connected",
    "DeleteKey",
    "EnrollmentMachine",
    "Event",
    "ForgetClaim",
    "HandshakeRefused",
    "KeyDeleted",
    "KeyFailed",
    "KeyReady",
    "MakeKey",
    "Phase",
    "ProveChip",
    "RenewalAsked",
    "RequestFailed",
    "ResponseReceived",
    "Save",
    "SendRequest",
    "SetClock",
    "Settings",
    "Started",
    "StoreCertificate",
    "Switch",
    "Tell",
    "Tick",
]
