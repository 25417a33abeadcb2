"""A certificate request signed by a key that is not in memory."""

from collections.abc import Callable
from typing import Any, NoReturn

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric import utils as asymmetric_utils
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

SignDigest = Callable[[bytes], bytes]


def sign_csr(device_id: str, public_key: ec.EllipticCurvePublicKey, sign_digest: SignDigest) -> bytes:
    """Return a PKCS#10 request, DER, with `device_id` as common name (RFC 2986)."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, device_id)])
    builder = x509.CertificateSigningRequestBuilder().subject_name(name)
    return builder.sign(_RemoteKey(public_key, sign_digest), hashes.SHA256()).public_bytes(Encoding.DER)


class _RemoteKey(ec.EllipticCurvePrivateKey):
    """What `cryptography` asks of a key that signs; it cannot be exported or agree on secrets."""

    def __init__(self, public_key: ec.EllipticCurvePublicKey, sign_digest: SignDigest) -> None:
        self._public_key = public_key
        self._sign_digest = sign_digest

    def public_key(self) -> ec.EllipticCurvePublicKey:
        return self._public_key

    @property
    def curve(self) -> ec.EllipticCurve:
        return self._public_key.curve

    @property
    def key_size(self) -> int:
        return self._public_key.key_size

    def sign(self, data: Any, signature_algorithm: ec.EllipticCurveSignatureAlgorithm) -> bytes:
        algorithm = signature_algorithm.algorithm
        if isinstance(algorithm, asymmetric_utils.Prehashed):
            return self._sign_digest(bytes(data))
        digest = hashes.Hash(algorithm)
        digest.update(data)
        return self._sign_digest(digest.finalize())

    def exchange(self, *_: Any) -> NoReturn:
        raise TypeError("this key only signs")

    def private_numbers(self) -> NoReturn:
        raise TypeError("this key cannot be exported")

    def private_bytes(self, *_: Any, **__: Any) -> NoReturn:
        raise TypeError("this key cannot be exported")

    def __copy__(self) -> "_RemoteKey":
        return self

    def __deepcopy__(self, _memo: dict[int, Any]) -> "_RemoteKey":
        return self
