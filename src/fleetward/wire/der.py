"""What X.509 parsers let pass and DER does not (X.690 section 11.2)."""


def ends_whole(der: bytes, signature: bytes) -> bool:
    """Whether the bit string of a signature, which ends a certificate or a request, has no unused bits.

    Parsers ignore the count of unused bits: another count is another certificate with the same meaning.
    """
    return der[-len(signature) - 1] == 0
