"""OCSP about several certificates at once (RFC 6960 sections 4.1 and 4.2), whose library knows one at a time.

A request is taken apart into requests about one certificate each; their answers are put together into one.
"""

from collections.abc import Callable

from fleetward.base.errors import InvalidInputError

_SEQUENCE, _BIT_STRING = 0x30, 0x03
_SHORT = 0x80
_SHORT_HEAD = 2
_MAX_LENGTH_BYTES = 2


def split_request(der: bytes) -> list[bytes]:
    """Return a request about each certificate, with the extensions of the whole one; at least one.

    Raises:
        InvalidInputError: not the form of RFC 6960 section 4.1.1, as far as it is read here.
    """
    whole = _only(der)
    fields = _children(_children(whole)[0])
    # Before the list: a version [0] and who asks [1]; after it: extensions [2].
    lists = [at for at, field in enumerate(fields) if field[0] == _SEQUENCE]
    if len(lists) != 1:
        raise _malformed()
    asked = _children(fields[lists[0]])
    if not asked:
        raise _malformed()
    rest = b"".join(fields[lists[0] + 1 :])
    return [_tlv(_SEQUENCE, _tlv(_SEQUENCE, _tlv(_SEQUENCE, one) + rest)) for one in asked]


def join_answers(answers: list[bytes], sign: Callable[[bytes], bytes]) -> bytes:
    """Return one answer that says what all these say, under the name, time and extensions of the first.

    Args:
        answers: successful ones about one certificate each, by one signer.
        sign: returns a signature by that signer's key and the first answer's algorithm.
    """
    outer = [_children(_only(answer)) for answer in answers]
    basics = [_unwrap(one[1]) for one in outer]
    parts = [_children(basic) for basic in basics]
    responder, produced, _first, *extensions = _children(parts[0][0])
    said = b"".join(_children(_children(one[0])[2])[0] for one in parts)
    about = _tlv(_SEQUENCE, b"".join([responder, produced, _tlv(_SEQUENCE, said), *extensions]))
    signature = _tlv(_BIT_STRING, b"\0" + sign(about))
    basic = _tlv(_SEQUENCE, about + parts[0][1] + signature + b"".join(parts[0][3:]))
    kind = _children(_children(outer[0][1])[0])[0]
    named = _tlv(_SEQUENCE, kind + _tlv(0x04, basic))
    return _tlv(_SEQUENCE, outer[0][0] + _tlv(0xA0, named))


def _unwrap(explicit: bytes) -> bytes:
    """Return the BasicOCSPResponse in `[0] SEQUENCE { OID, OCTET STRING }`."""
    octets = _children(_children(explicit)[0])[1]
    return _content(octets)


def _only(der: bytes) -> bytes:
    found = _split(der)
    if len(found) != 1 or found[0][0] != _SEQUENCE:
        raise _malformed()
    return found[0]


def _children(element: bytes) -> list[bytes]:
    found = _split(_content(element))
    if not found:
        raise _malformed()
    return found


def _content(element: bytes) -> bytes:
    return element[_head_size(element) :]


def _split(der: bytes) -> list[bytes]:
    """Return the elements that stand one after another, each with its head."""
    found = []
    while der:
        head = _head_size(der)
        size = der[1] if head == _SHORT_HEAD else int.from_bytes(der[_SHORT_HEAD:head], "big")
        if head + size > len(der):
            raise _malformed()
        found.append(der[: head + size])
        der = der[head + size :]
    return found


def _head_size(der: bytes) -> int:
    """Return the bytes of tag and length. Tags over 30 and lengths over 65,535 do not occur here."""
    if len(der) < _SHORT_HEAD:
        raise _malformed()
    if der[1] < _SHORT:
        return _SHORT_HEAD
    count = der[1] & ~_SHORT
    if not 1 <= count <= _MAX_LENGTH_BYTES or len(der) < _SHORT_HEAD + count:
        raise _malformed()
    return _SHORT_HEAD + count


def _tlv(tag: int, content: bytes) -> bytes:
    size = len(content)
    if size < _SHORT:
        return bytes([tag, size]) + content
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([tag, _SHORT | len(length)]) + length + content


def _malformed() -> InvalidInputError:
    return InvalidInputError("OCSP request: expected RFC 6960's form, found something else")
