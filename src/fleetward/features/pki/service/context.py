"""The authorities of a platform, as one value."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache

from cryptography import x509

from fleetward.features.pki.authority.profiles import RevocationUrls, subject_key_id
from fleetward.features.pki.model import parse_certificate, verify_issuer
from fleetward.features.pki.ports import CaSigner

_REMEMBERED = 8192


@dataclass(frozen=True)
class PkiContext:
    """The authorities of a platform; in `app.state.pki`.

    Attributes:
        device_ca: signs new device certificates.
        earlier_device_cas: still trusted, signing no more certificates (rollover).
    """

    trust_domain: str
    root: x509.Certificate
    device_ca: CaSigner
    server_ca: CaSigner
    urls: RevocationUrls
    earlier_device_cas: tuple[CaSigner, ...] = ()
    issuers: dict[bytes, x509.Certificate] = field(init=False, repr=False)
    # A client shows its certificate again with each request; who signed it is seen to once.
    read_issued: Callable[[bytes], x509.Certificate] = field(init=False, repr=False, compare=False)

    @property
    def ends(self) -> dict[str, datetime]:
        """When the certificate of each CA that signs ends."""
        found = {
            "root": self.root,
            "device CA": self.device_ca.certificate,
            "server CA": self.server_ca.certificate,
        }
        return {name: one.not_valid_after_utc for name, one in found.items()}

    def __post_init__(self) -> None:
        trusted = [one.certificate for one in self.device_cas]
        object.__setattr__(self, "issuers", {subject_key_id(one): one for one in trusted})
        object.__setattr__(self, "read_issued", lru_cache(_REMEMBERED)(self._read_issued))

    @property
    def device_cas(self) -> tuple[CaSigner, ...]:
        """Every CA whose device certificates are trusted, the one that signs first."""
        return (self.device_ca, *self.earlier_device_cas)

    def _read_issued(self, der: bytes) -> x509.Certificate:
        """Return a certificate that one of our device CAs has signed. Raises CertificateRefusedError."""
        certificate = parse_certificate(der)
        verify_issuer(certificate, self.issuers)
        return certificate
