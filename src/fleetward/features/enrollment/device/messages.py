"""What goes in and out of the enrollment machine. The package's docstring says how to drive it."""

from dataclasses import dataclass, field
from datetime import datetime


@dataclass(frozen=True)
class Started:
    """The agent has (re)started; the first event of every machine."""


@dataclass(frozen=True)
class Tick:
    """Time has passed; tell it at `machine.wake_at`, or as often as convenient."""


@dataclass(frozen=True)
class ClaimOffered:
    """The operator's claim token is at hand (the claim file was read). May be told again at any time."""

    token: str = field(repr=False)


@dataclass(frozen=True)
class KeyReady:
    """Answers MakeKey.

    Attributes:
        csr: PKCS#10, DER, signed by that key, with the device id as its common name.
    """

    label: str
    csr: bytes


@dataclass(frozen=True)
class KeyFailed:
    label: str
    reason: str


@dataclass(frozen=True)
class ResponseReceived:
    """Answers SendRequest: any complete HTTP response, whatever its status. Header names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True)
class RequestFailed:
    """Answers SendRequest: no HTTP response.

    Attributes:
        is_clock_suspect: the server's certificate seemed not yet valid, or expired.
    """

    reason: str
    is_clock_suspect: bool = False


@dataclass(frozen=True)
class ChipProved:
    """Answers ProveChip.

    Attributes:
        secret: what ActivateCredential released.
        certify_info: TPMS_ATTEST of TPM2_Certify over the new key, by the AK, with the challenge's nonce.
        certify_signature: its TPMT_SIGNATURE.
        evidence: JSON of `wire.evidence` over the same nonce, when it was asked for.
    """

    secret: bytes = field(repr=False)
    certify_info: bytes
    certify_signature: bytes
    evidence: bytes | None = None


@dataclass(frozen=True)
class ChipFailed:
    reason: str


@dataclass(frozen=True)
class CertificateStored:
    label: str


@dataclass(frozen=True)
class KeyDeleted:
    label: str


@dataclass(frozen=True)
class Connected:
    """A mutual TLS session with this certificate was accepted."""

    label: str


@dataclass(frozen=True)
class HandshakeRefused:
    """The server's TLS refused this certificate (an alert), while the network works."""

    label: str
    reason: str


@dataclass(frozen=True)
class ClockDoubted:
    """Something outside enrollment met a certificate that seemed not yet valid, or expired."""


@dataclass(frozen=True)
class RenewalAsked:
    """Somebody wants a new certificate before it is due."""


Event = (
    Started
    | Tick
    | ClaimOffered
    | KeyReady
    | KeyFailed
    | ResponseReceived
    | RequestFailed
    | ChipProved
    | ChipFailed
    | CertificateStored
    | KeyDeleted
    | Connected
    | HandshakeRefused
    | ClockDoubted
    | RenewalAsked
)


@dataclass(frozen=True)
class Save:
    """Replace the state file with `content`, durably, before going on."""

    content: bytes


@dataclass(frozen=True)
class MakeKey:
    """Open the key `label`, or make it when there is none, and sign a CSR for the device id with it."""

    label: str


@dataclass(frozen=True)
class SendRequest:
    """Send one HTTPS request to the devices port.

    Attributes:
        path: path and query.
        client_key: label of the key and certificate to authenticate the TLS connection with; None for none.
        is_idevid: authenticate it with the IDevID of the secure element instead.
        is_time_unchecked: verify the server's certificate chain but not its dates: the clock is not known.
    """

    method: str
    path: str
    headers: dict[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    client_key: str | None = None
    is_idevid: bool = False
    is_time_unchecked: bool = False


@dataclass(frozen=True)
class ProveChip:
    """Let the TPM answer a challenge: ActivateCredential, then TPM2_Certify of key `label` over `nonce`.

    Attributes:
        credential_blob: TPM2B_ID_OBJECT.
        encrypted_secret: TPM2B_ENCRYPTED_SECRET.
        with_evidence: also quote over `nonce` and hand in evidence with the event log.
    """

    label: str
    credential_blob: bytes
    encrypted_secret: bytes
    nonce: bytes
    with_evidence: bool


@dataclass(frozen=True)
class StoreCertificate:
    """Write the certificate chain of key `label`: PEM, leaf first, without the root."""

    label: str
    chain_pem: bytes


@dataclass(frozen=True)
class Switch:
    """Connect with key and certificate `label` from now on; keep those of `previous` until told to delete."""

    label: str
    previous: str | None


@dataclass(frozen=True)
class DeleteKey:
    """Delete key and certificate file `label`."""

    label: str


@dataclass(frozen=True)
class ForgetClaim:
    """Delete the claim file: the claim has been used."""


@dataclass(frozen=True)
class SetClock:
    """The server signed this time just now: use it as `now` and count on from it."""

    at: datetime


@dataclass(frozen=True)
class Tell:
    """Something a person may want to know; for the log. Holds no secret."""

    name: str
    message: str


Command = (
    Save
    | MakeKey
    | SendRequest
    | ProveChip
    | StoreCertificate
    | Switch
    | DeleteKey
    | ForgetClaim
    | SetClock
    | Tell
)
