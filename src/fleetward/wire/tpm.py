"""TPM 2.0 structures, read and written without a TSS (TPM 2.0 Library, Part 2; numbers are its clauses).

Every parser takes untrusted bytes, is bounded by their length, and raises InvalidInputError and nothing else.
"""

import hashlib
import hmac
import os
import struct
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.decrepit.ciphers.modes import CFB
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms

from fleetward.base.errors import InvalidInputError

ALG_RSA, ALG_SHA256, ALG_NULL, ALG_ECDSA, ALG_ECC = 0x0001, 0x000B, 0x0010, 0x0018, 0x0023
CURVE_P256 = 0x0003
FIXED_TPM, FIXED_PARENT, SENSITIVE_DATA_ORIGIN = 1 << 1, 1 << 4, 1 << 5
USER_WITH_AUTH, NO_DA = 1 << 6, 1 << 10
RESTRICTED, DECRYPT, SIGN_ENCRYPT = 1 << 16, 1 << 17, 1 << 18

_MAGIC = 0xFF544347
_ST_CERTIFY, _ST_QUOTE = 0x8017, 0x8018
_BORN_HERE = FIXED_TPM | FIXED_PARENT | SENSITIVE_DATA_ORIGIN
AK_ATTRIBUTES = _BORN_HERE | RESTRICTED | SIGN_ENCRYPT
DEVICE_KEY_ATTRIBUTES = _BORN_HERE | USER_WITH_AUTH | NO_DA | SIGN_ENCRYPT
_MAX_STRUCTURE_BYTES = 4096
_COORDINATE_BYTES = 32
_SYMMETRIC_BITS = 128


@dataclass(frozen=True)
class Public:
    """An ECC P-256 signing key as a TPM describes it (TPMT_PUBLIC, 12.2.4).

    Attributes:
        name: algorithm and digest of the public area (Part 1, clause 16); what certify statements name.
        scheme: TPM_ALG_NULL when the caller chooses.
    """

    attributes: int
    key: ec.EllipticCurvePublicKey
    name: bytes
    scheme: int


@dataclass(frozen=True)
class ClockInfo:
    """The chip's counters: how often it was reset, and restarted since (TPMS_CLOCK_INFO, 10.11.1)."""

    clock_ms: int
    reset_count: int
    restart_count: int
    is_safe: bool


@dataclass(frozen=True)
class Certify:
    """The statement that a key lives in the chip (TPMS_ATTEST of TPM2_Certify, 10.12.12)."""

    nonce: bytes
    name: bytes
    clock: ClockInfo


@dataclass(frozen=True)
class Quote:
    """The statement what PCRs hold (TPMS_ATTEST of TPM2_Quote). `pcrs` are of the SHA-256 bank alone."""

    nonce: bytes
    pcrs: tuple[int, ...]
    digest: bytes
    clock: ClockInfo


def parse_public(content: bytes) -> Public:
    """Return the ECC P-256 key of a TPM2B_PUBLIC. Raises InvalidInputError."""
    outer = _Reader(content, "public area")
    area = outer.sized()
    outer.end()
    reader = _Reader(area, "public area")
    kind, name_algorithm, attributes = reader.u16(), reader.u16(), reader.u32()
    reader.sized()  # authPolicy
    if kind != ALG_ECC or name_algorithm != ALG_SHA256:
        raise InvalidInputError(f"public area: expected an ECC key named by SHA-256, found type {kind:#x}")
    if reader.u16() != ALG_NULL:
        reader.skip(4)  # symmetric key bits and mode
    scheme = reader.u16()
    if scheme != ALG_NULL:
        reader.skip(2)
    curve = reader.u16()
    if reader.u16() != ALG_NULL:
        reader.skip(2)
    x, y = reader.sized(), reader.sized()
    reader.end()
    if curve != CURVE_P256:
        raise InvalidInputError(f"public area: expected curve P-256, found {curve:#x}")
    return Public(attributes, _p256(x, y), _name_of(area), scheme)


def device_key_name(key: ec.EllipticCurvePublicKey) -> bytes:
    """Return the name a device key made by our template has: it fixes the key's attributes too."""
    numbers = key.public_numbers()
    x, y = (value.to_bytes(_COORDINATE_BYTES, "big") for value in (numbers.x, numbers.y))
    area = struct.pack(
        ">HHIHHHHH", ALG_ECC, ALG_SHA256, DEVICE_KEY_ATTRIBUTES, 0, ALG_NULL, ALG_NULL, CURVE_P256, ALG_NULL
    )
    return _name_of(area + _sized(x) + _sized(y))


def parse_certify(content: bytes) -> Certify:
    """Return a TPMS_ATTEST of TPM2_Certify. Raises InvalidInputError."""
    reader = _Reader(content, "certify statement")
    nonce, clock = _parse_attest_head(reader, _ST_CERTIFY)
    name = reader.sized()
    reader.sized()  # qualifiedName
    reader.end()
    return Certify(nonce, name, clock)


def parse_quote(content: bytes) -> Quote:
    """Return a TPMS_ATTEST of TPM2_Quote over one SHA-256 selection. Raises InvalidInputError."""
    reader = _Reader(content, "quote")
    nonce, clock = _parse_attest_head(reader, _ST_QUOTE)
    if reader.u32() != 1:
        raise InvalidInputError("quote: expected one PCR bank, found another number")
    bank, bitmap = reader.u16(), reader.take(reader.u8())
    digest = reader.sized()
    reader.end()
    if bank != ALG_SHA256:
        raise InvalidInputError(f"quote: expected the SHA-256 bank, found {bank:#x}")
    pcrs = tuple(index for index in range(8 * len(bitmap)) if bitmap[index // 8] >> (index % 8) & 1)
    return Quote(nonce, pcrs, digest, clock)


def verify_signature(key: ec.EllipticCurvePublicKey, signature: bytes, content: bytes) -> bool:
    """Whether a TPMT_SIGNATURE (ECDSA, SHA-256) over `content` is by `key`. Raises InvalidInputError."""
    reader = _Reader(signature, "signature")
    algorithm, digest = reader.u16(), reader.u16()
    r, s = reader.sized(), reader.sized()
    reader.end()
    if (algorithm, digest) != (ALG_ECDSA, ALG_SHA256):
        raise InvalidInputError(f"signature: expected ECDSA with SHA-256, found {algorithm:#x}/{digest:#x}")
    der = encode_dss_signature(int.from_bytes(r, "big"), int.from_bytes(s, "big"))
    try:
        key.verify(der, content, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        return False
    return True


def digest_pcrs(values: list[bytes]) -> bytes:
    """Return what a quote holds for these PCR values, in order of their indices (Part 3, clause 18.4)."""
    return hashlib.sha256(b"".join(values)).digest()


def make_credential(
    endorsement_key: rsa.RSAPublicKey | ec.EllipticCurvePublicKey, name: bytes, secret: bytes
) -> tuple[bytes, bytes]:
    """Return TPM2B_ID_OBJECT and TPM2B_ENCRYPTED_SECRET for one chip and one key in it.

    Only the chip with that EK, holding a key of that name, can open them (Part 1, clause 24; templates L-1
    and L-2 of the TCG EK Credential Profile).

    Raises:
        InvalidInputError: an ECC endorsement key of another curve than P-256.
    """
    if isinstance(endorsement_key, rsa.RSAPublicKey):
        seed = os.urandom(32)
        oaep = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), b"IDENTITY\0")
        encrypted = endorsement_key.encrypt(seed, oaep)
    else:
        seed, encrypted = _agree_seed(endorsement_key)
    symmetric = _kdf_a(seed, b"STORAGE", name, b"", _SYMMETRIC_BITS)
    encryptor = Cipher(algorithms.AES(symmetric), CFB(bytes(16))).encryptor()
    identity = encryptor.update(_sized(secret)) + encryptor.finalize()
    integrity = hmac.new(_kdf_a(seed, b"INTEGRITY", b"", b"", 256), identity + name, "sha256").digest()
    return _sized(_sized(integrity) + identity), _sized(encrypted)


def _agree_seed(endorsement_key: ec.EllipticCurvePublicKey) -> tuple[bytes, bytes]:
    """Return the seed and the point that carries it (Part 1, clause C.6.1)."""
    if not isinstance(endorsement_key.curve, ec.SECP256R1):
        raise InvalidInputError("endorsement key: expected P-256 or RSA, found another curve")
    ephemeral = ec.generate_private_key(ec.SECP256R1())
    shared = ephemeral.exchange(ec.ECDH(), endorsement_key)
    ours, theirs = ephemeral.public_key().public_numbers(), endorsement_key.public_numbers()
    x, y = (value.to_bytes(_COORDINATE_BYTES, "big") for value in (ours.x, ours.y))
    party_v = theirs.x.to_bytes(_COORDINATE_BYTES, "big")
    seed = hashlib.sha256(struct.pack(">I", 1) + shared + b"IDENTITY\0" + x + party_v).digest()
    return seed, _sized(x) + _sized(y)


def _kdf_a(key: bytes, label: bytes, u: bytes, v: bytes, bits: int) -> bytes:
    """Return `bits` of key material (Part 1, clause 11.4.10.2), at most one SHA-256 block."""
    content = struct.pack(">I", 1) + label + b"\0" + u + v + struct.pack(">I", bits)
    return hmac.new(key, content, "sha256").digest()[: bits // 8]


def _parse_attest_head(reader: "_Reader", expected: int) -> tuple[bytes, ClockInfo]:
    """Return qualifying data and clock; the magic number says that the chip itself composed this."""
    magic, kind = reader.u32(), reader.u16()
    if magic != _MAGIC or kind != expected:
        raise InvalidInputError(f"{reader.what}: expected one made by a TPM, found type {kind:#x}")
    reader.sized()  # qualifiedSigner
    nonce = reader.sized()
    clock = ClockInfo(reader.u64(), reader.u32(), reader.u32(), reader.u8() == 1)
    reader.u64()  # firmwareVersion
    return nonce, clock


def _p256(x: bytes, y: bytes) -> ec.EllipticCurvePublicKey:
    try:
        numbers = ec.EllipticCurvePublicNumbers(
            int.from_bytes(x, "big"), int.from_bytes(y, "big"), ec.SECP256R1()
        )
        return numbers.public_key()
    except ValueError as error:
        raise InvalidInputError("public area: expected a point on P-256, found another") from error


def _name_of(area: bytes) -> bytes:
    return struct.pack(">H", ALG_SHA256) + hashlib.sha256(area).digest()


def _sized(content: bytes) -> bytes:
    return struct.pack(">H", len(content)) + content


class _Reader:
    """Reads big-endian fields and never past the end."""

    def __init__(self, content: bytes, what: str) -> None:
        self.what = what
        if len(content) > _MAX_STRUCTURE_BYTES:
            raise InvalidInputError(
                f"{what}: expected at most {_MAX_STRUCTURE_BYTES} bytes, found {len(content)}"
            )
        self._content, self._at = content, 0

    def take(self, count: int) -> bytes:
        found = self._content[self._at : self._at + count]
        if len(found) < count:
            raise InvalidInputError(f"{self.what}: expected {count} more bytes, found {len(found)}")
        self._at += count
        return found

    def skip(self, count: int) -> None:
        self.take(count)

    def u8(self) -> int:
        return self.take(1)[0]

    def u16(self) -> int:
        return int.from_bytes(self.take(2), "big")

    def u32(self) -> int:
        return int.from_bytes(self.take(4), "big")

    def u64(self) -> int:
        return int.from_bytes(self.take(8), "big")

    def sized(self) -> bytes:
        return self.take(self.u16())

    def end(self) -> None:
        if self._at != len(self._content):
            raise InvalidInputError(
                f"{self.what}: expected its end, found {len(self._content) - self._at} more bytes"
            )
