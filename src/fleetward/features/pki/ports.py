"""What pki needs from outside: a CA's key, wherever it lives."""

from typing import Protocol

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec


class CaSigner(Protocol):
    """A certificate authority that can sign.

    Attributes:
        certificate: its own.
        chain: its issuers, nearest first, without the root.
        private_key: signs by `cryptography`'s EC interface; the key itself may be in a module.
    """

    @property
    def certificate(self) -> x509.Certificate: ...

    @property
    def chain(self) -> tuple[x509.Certificate, ...]: ...

    @property
    def private_key(self) -> ec.EllipticCurvePrivateKey: ...
