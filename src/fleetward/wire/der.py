"""What X.509 parsers raise, and what they let pass and DER does not (X.690 section 11.2)."""

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

# What cryptography raises over bytes that are no certificate, request or key: early, or when a part of it is
# first looked at. Some of it is no ValueError.
MALFORMED = (
    ValueError,
    TypeError,
    OverflowError,
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)


def ends_whole(der: bytes, signature: bytes) -> bool:
    """Whether the bit string of a signature, which ends a certificate or a request, has no unused bits.

    Parsers ignore the count of unused bits: another count is another certificate with the same meaning.
    """
    return der[-len(signature) - 1] == 0
