"""Files sealed by a passphrase, in the age format, version 1 (C2SP, "The age file encryption format").

Whoever has the passphrase opens one without us: `age --decrypt FILE`. A file is a header, which wraps the
file's own key by the passphrase (scrypt) and is authenticated by that key, and a payload in pieces of 64 KiB,
each sealed by ChaCha20-Poly1305 under its number and whether it is the last: no piece can be changed, moved,
left out or cut off without being noticed.
"""

import hmac
import secrets
from base64 import b64decode, b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from fleetward.base.errors import CorruptDataError, ForbiddenError

PIECE_BYTES = 64 * 1024
_INTRO = b"age-encryption.org/v1\n"
_SALT_LABEL = b"age-encryption.org/v1/scrypt"
_STANZA = b"-> scrypt "
_MAC_MARK = b"---"
_KEY_BYTES, _SALT_BYTES, _NONCE_BYTES, _TAG_BYTES, _MAC_BYTES = 16, 16, 16, 16, 32
LOG_WORK = 17  # 128 MiB and about a third of a second for each guess
_MAX_LOG_WORK = 20  # what is asked of us by a file that nobody has proven yet
_MAX_LINE_BYTES = 200
_HINT = "Take another copy of the backup: this one cannot be trusted."


class WrongPassphraseError(ForbiddenError):
    """The passphrase does not open the file."""


class SealedWriter:
    """Takes plain bytes and writes them sealed; `finish` ends it, without which it is broken."""

    def __init__(self, file: IO[bytes], passphrase: bytes, *, log_work: int = LOG_WORK) -> None:
        """Write the header to `file`.

        Args:
            log_work: of two, what a guess at the passphrase costs.
        """
        key = secrets.token_bytes(_KEY_BYTES)
        salt, nonce = secrets.token_bytes(_SALT_BYTES), secrets.token_bytes(_NONCE_BYTES)
        wrapped = _wrapper(passphrase, salt, log_work).encrypt(bytes(12), key, None)
        work = str(log_work).encode()
        header = _INTRO + _STANZA + _encode(salt) + b" " + work + b"\n" + _encode(wrapped) + b"\n" + _MAC_MARK
        file.write(header + b" " + _encode(_mac(key, header)) + b"\n" + nonce)
        self._file = file
        self._cipher = ChaCha20Poly1305(_derive(key, nonce, b"payload"))
        self._number = 0
        self._rest = bytearray()

    def write(self, content: bytes) -> int:
        self._rest += content
        while len(self._rest) > PIECE_BYTES:  # a full piece may be the last: it waits for what follows
            self._seal(bytes(self._rest[:PIECE_BYTES]), is_last=False)
            del self._rest[:PIECE_BYTES]
        return len(content)

    def finish(self) -> None:
        self._seal(bytes(self._rest), is_last=True)
        self._rest.clear()

    def _seal(self, piece: bytes, *, is_last: bool) -> None:
        self._file.write(self._cipher.encrypt(_nonce_of(self._number, is_last=is_last), piece, None))
        self._number += 1


class SealedReader:
    """Gives the plain bytes of a sealed file; none of a piece before the whole piece is proven.

    Attributes:
        is_at_end: whether the last piece was read, and was the last.
    """

    def __init__(self, file: IO[bytes], passphrase: bytes) -> None:
        """Read the header.

        Raises:
            WrongPassphraseError: the passphrase does not open it.
            CorruptDataError: it is no such file, or its header was changed.
        """
        self._file = file
        key = _open_header(file, passphrase)
        nonce = file.read(_NONCE_BYTES)
        if len(nonce) != _NONCE_BYTES:
            raise _broken("header")
        self._cipher = ChaCha20Poly1305(_derive(key, nonce, b"payload"))
        self._number = 0
        self._rest = b""
        self._ahead = file.read(PIECE_BYTES + _TAG_BYTES)
        self.is_at_end = False

    def read(self, count: int) -> bytes:
        """Return `count` bytes, fewer at the end. Raises CorruptDataError."""
        found = []
        while count > 0 and (self._rest or self._fill()):
            found.append(self._rest[:count])
            self._rest = self._rest[count:]
            count -= len(found[-1])
        return b"".join(found)

    def _fill(self) -> bool:
        if self.is_at_end:
            return False
        sealed, self._ahead = self._ahead, self._file.read(PIECE_BYTES + _TAG_BYTES)
        is_last = not self._ahead
        with _telling_damage(f"piece {self._number}"):
            self._rest = self._cipher.decrypt(_nonce_of(self._number, is_last=is_last), sealed, None)
        if is_last and not self._rest and self._number:
            raise _broken(f"piece {self._number}")  # only an empty file ends with an empty piece
        self._number += 1
        self.is_at_end = is_last
        return bool(self._rest)


def _open_header(file: IO[bytes], passphrase: bytes) -> bytes:
    lines = [file.readline(_MAX_LINE_BYTES) for _ in range(4)]
    intro, stanza, body, end = lines
    fields = stanza.removeprefix(_STANZA).rstrip(b"\n").split(b" ")
    if intro != _INTRO or not stanza.startswith(_STANZA) or len(fields) != 2:  # noqa: PLR2004 - salt and work
        raise CorruptDataError(
            "backup: expected a file sealed by a passphrase (age), found something else", hint=_HINT
        )
    salt, wrapped = _decode(fields[0], _SALT_BYTES), _decode(body.rstrip(b"\n"), _KEY_BYTES + _TAG_BYTES)
    given = _decode(end.removeprefix(_MAC_MARK + b" ").rstrip(b"\n"), _MAC_BYTES)
    if not fields[1].isdigit() or not 1 <= int(fields[1]) <= _MAX_LOG_WORK or fields[1].startswith(b"0"):
        raise _broken("header")
    try:
        key = _wrapper(passphrase, salt, int(fields[1])).decrypt(bytes(12), wrapped, None)
    except InvalidTag as error:
        raise WrongPassphraseError(
            "passphrase: expected the one this backup was sealed by, found another",
            hint="Give the file that backup was given; nothing opens a backup without its passphrase.",
        ) from error
    if not hmac.compare_digest(given, _mac(key, intro + stanza + body + _MAC_MARK)):
        raise _broken("header")
    return key


def _wrapper(passphrase: bytes, salt: bytes, log_work: int) -> ChaCha20Poly1305:
    kdf = Scrypt(salt=_SALT_LABEL + salt, length=32, n=2**log_work, r=8, p=1)
    return ChaCha20Poly1305(kdf.derive(passphrase))


def _mac(key: bytes, header: bytes) -> bytes:
    return hmac.digest(_derive(key, b"", b"header"), header, "sha256")


def _derive(key: bytes, salt: bytes, info: bytes) -> bytes:
    return HKDF(SHA256(), length=32, salt=salt, info=info).derive(key)


def _nonce_of(number: int, *, is_last: bool) -> bytes:
    return number.to_bytes(11, "big") + bytes([is_last])


def _encode(content: bytes) -> bytes:
    return b64encode(content).rstrip(b"=")


def _decode(text: bytes, length: int) -> bytes:
    with _telling_damage("header"):
        content = b64decode(text + b"=" * (-len(text) % 4), validate=True)
    if len(content) != length or _encode(content) != text:
        raise _broken("header")
    return content


@contextmanager
def _telling_damage(where: str) -> Iterator[None]:
    try:
        yield
    except (InvalidTag, ValueError) as error:
        raise _broken(where) from error


def _broken(where: str) -> CorruptDataError:
    return CorruptDataError(
        f"backup: expected its {where} as it was sealed, found it changed or cut off", hint=_HINT
    )
