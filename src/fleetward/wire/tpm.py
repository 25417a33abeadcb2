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

ALG_RSA, ALG_SHA256, ALG_NULL, ALG_RSASSA, ALG_ECDSA, ALG_ECC = 0x01, 0x0B, 0x10, 0x14, 0x18, 0x23
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
_RSA_BITS = 2048
_DEFAULT_EXPONENT = 65537
_MAX_SELECT_BYTES = 4

SigningKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey
EndorsementKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey


@dataclass(frozen=True)
class Public:
    """A signing key as a TPM describes it (TPMT_PUBLIC, 12.2.4): P-256, or RSA of 2048 bits.

    Attributes:
        name: algorithm and digest of the public area (Part 1, clause 16); what certify statements name.
        scheme: signature scheme and its digest; TPM_ALG_NULL when the caller chooses.
    """

    attributes: int
    key: SigningKey
    name: bytes
    scheme: tuple[int, int]


@dataclass(frozen=True)
class _EkKind:
    """What an endorsement key's template says (TCG EK Credential Profile 2.5, section B.3 and B.4)."""

    digest: hashes.HashAlgorithm
    symmetric_bits: int

    @property
    def digest_name(self) -> str:
        return self.digest.name


_LOW, _HIGH, _HIGHEST = (
    _EkKind(hashes.SHA256(), 128),
    _EkKind(hashes.SHA384(), 256),
    _EkKind(hashes.SHA512(), 256),
)
_EK_KIND_OF = {
    "rsa2048": _LOW, "secp256r1": _LOW, "rsa3072": _HIGH, "rsa4096": _HIGH, "secp384r1": _HIGH,
    "secp521r1": _HIGHEST,
}  # fmt: skip


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
    """Return the signing key of a TPM2B_PUBLIC. Raises InvalidInputError."""
    outer = _Reader(content, "public area")
    area = outer.sized()
    outer.end()
    reader = _Reader(area, "public area")
    kind, name_algorithm, attributes = reader.u16(), reader.u16(), reader.u32()
    reader.sized()  # authPolicy
    if kind not in (ALG_ECC, ALG_RSA) or name_algorithm != ALG_SHA256:
        raise InvalidInputError(
            f"public area: expected an ECC or RSA key named by SHA-256, found type {kind:#x}"
        )
    if reader.u16() != ALG_NULL:
        raise InvalidInputError("public area: expected a signing key, found one that encrypts")
    scheme = reader.scheme()
    key = _read_p256(reader) if kind == ALG_ECC else _read_rsa(reader)
    reader.end()
    return Public(attributes, key, _name_of(area), scheme)


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
    bank, size = reader.u16(), reader.u8()
    if bank != ALG_SHA256 or size > _MAX_SELECT_BYTES:
        raise InvalidInputError(f"quote: expected the SHA-256 bank, found {bank:#x} of {8 * size} PCRs")
    bitmap, digest = reader.take(size), reader.sized()
    reader.end()
    pcrs = tuple(index for index in range(8 * len(bitmap)) if bitmap[index // 8] >> (index % 8) & 1)
    return Quote(nonce, pcrs, digest, clock)


def verify_signature(key: SigningKey, signature: bytes, content: bytes) -> bool:
    """Whether a TPMT_SIGNATURE over `content` is by `key`: ECDSA or RSASSA, both with SHA-256 (11.3.4).

    Raises:
        InvalidInputError: malformed, or another scheme than the key's.
    """
    reader = _Reader(signature, "signature")
    algorithm, digest = reader.u16(), reader.u16()
    expected = ALG_ECDSA if isinstance(key, ec.EllipticCurvePublicKey) else ALG_RSASSA
    if (algorithm, digest) != (expected, ALG_SHA256):
        raise InvalidInputError(
            f"signature: expected {expected:#x} with SHA-256, found {algorithm:#x} with {digest:#x}"
        )
    first = reader.sized()
    second = reader.sized() if algorithm == ALG_ECDSA else b""
    reader.end()
    try:
        if isinstance(key, ec.EllipticCurvePublicKey):
            der = encode_dss_signature(int.from_bytes(first, "big"), int.from_bytes(second, "big"))
            key.verify(der, content, ec.ECDSA(hashes.SHA256()))
        else:
            key.verify(first, content, padding.PKCS1v15(), hashes.SHA256())
    except InvalidSignature:
        return False
    return True


def digest_pcrs(values: list[bytes]) -> bytes:
    """Return what a quote holds for these PCR values, in order of their indices (Part 3, clause 18.4)."""
    return hashlib.sha256(b"".join(values)).digest()


def make_credential(endorsement_key: EndorsementKey, name: bytes, secret: bytes) -> tuple[bytes, bytes]:
    """Return a secret that only the chip with that EK, holding the key of that name, can open.

    It is a TPM2B_ID_OBJECT and its TPM2B_ENCRYPTED_SECRET (Part 1, clause 24).

    Raises:
        InvalidInputError: an endorsement key of another kind than RSA 2048, 3072 or 4096, P-256, 384 or 521.
    """
    kind = _kind_of(endorsement_key)
    if isinstance(endorsement_key, rsa.RSAPublicKey):
        seed = os.urandom(kind.digest.digest_size)
        oaep = padding.OAEP(padding.MGF1(kind.digest), kind.digest, b"IDENTITY\0")
        encrypted = endorsement_key.encrypt(seed, oaep)
    else:
        seed, encrypted = _agree_seed(endorsement_key, kind)
    symmetric = _kdf_a(kind, seed, b"STORAGE", name, kind.symmetric_bits)
    encryptor = Cipher(algorithms.AES(symmetric), CFB(bytes(16))).encryptor()
    identity = encryptor.update(_sized(secret)) + encryptor.finalize()
    protection = _kdf_a(kind, seed, b"INTEGRITY", b"", 8 * kind.digest.digest_size)
    integrity = hmac.new(protection, identity + name, kind.digest_name).digest()
    return _sized(_sized(integrity) + identity), _sized(encrypted)


def check_endorsement_key(key: object) -> EndorsementKey:
    """Return `key` when it is of a kind `make_credential` knows. Raises InvalidInputError."""
    if not isinstance(key, rsa.RSAPublicKey | ec.EllipticCurvePublicKey):
        raise InvalidInputError("endorsement key: expected RSA or ECC, found another kind")
    _kind_of(key)
    return key


def _kind_of(key: EndorsementKey) -> _EkKind:
    found = f"rsa{key.key_size}" if isinstance(key, rsa.RSAPublicKey) else key.curve.name
    kind = _EK_KIND_OF.get(found)
    if kind is None:
        raise InvalidInputError(
            f"endorsement key: expected RSA of 2048, 3072 or 4096 bits, P-256, P-384 or P-521, found {found}"
        )
    return kind


def _agree_seed(endorsement_key: ec.EllipticCurvePublicKey, kind: _EkKind) -> tuple[bytes, bytes]:
    """Return the seed and the point that carries it (Part 1, clause C.6.1); one round of KDFe is enough."""
    ephemeral = ec.generate_private_key(endorsement_key.curve)
    shared = ephemeral.exchange(ec.ECDH(), endorsement_key)
    ours, theirs = ephemeral.public_key().public_numbers(), endorsement_key.public_numbers()
    x, y, party_v = (
        value.to_bytes((endorsement_key.key_size + 7) // 8, "big") for value in (ours.x, ours.y, theirs.x)
    )
    content = struct.pack(">I", 1) + shared + b"IDENTITY\0" + x + party_v
    return hashlib.new(kind.digest_name, content).digest(), _sized(x) + _sized(y)


def _kdf_a(kind: _EkKind, key: bytes, label: bytes, context: bytes, bits: int) -> bytes:
    """Return `bits` of key material, at most one digest (Part 1, clause 11.4.10.2)."""
    content = struct.pack(">I", 1) + label + b"\0" + context + struct.pack(">I", bits)
    return hmac.new(key, content, kind.digest_name).digest()[: bits // 8]


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


def _read_p256(reader: "_Reader") -> ec.EllipticCurvePublicKey:
    curve = reader.u16()
    reader.scheme()  # kdf
    x, y = reader.sized(), reader.sized()
    if curve != CURVE_P256:
        raise InvalidInputError(f"public area: expected curve P-256, found {curve:#x}")
    try:
        numbers = ec.EllipticCurvePublicNumbers(
            int.from_bytes(x, "big"), int.from_bytes(y, "big"), ec.SECP256R1()
        )
        return numbers.public_key()
    except ValueError as error:
        raise InvalidInputError("public area: expected a point on P-256, found another") from error


def _read_rsa(reader: "_Reader") -> rsa.RSAPublicKey:
    bits, exponent, modulus = reader.u16(), reader.u32(), reader.sized()
    if bits != _RSA_BITS or 8 * len(modulus) != _RSA_BITS or exponent not in (0, _DEFAULT_EXPONENT):
        raise InvalidInputError(f"public area: expected RSA of {_RSA_BITS} bits, found {bits}")
    try:
        return rsa.RSAPublicNumbers(_DEFAULT_EXPONENT, int.from_bytes(modulus, "big")).public_key()
    except ValueError as error:
        raise InvalidInputError("public area: expected an RSA modulus, found another number") from error


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

    def scheme(self) -> tuple[int, int]:
        """Return an algorithm and its digest, which TPM_ALG_NULL has none of (TPMT_ECC_SCHEME, 11.2.5.6)."""
        algorithm = self.u16()
        return algorithm, ALG_NULL if algorithm == ALG_NULL else self.u16()

    def end(self) -> None:
        if self._at != len(self._content):
            raise InvalidInputError(
                f"{self.what}: expected its end, found {len(self._content) - self._at} more bytes"
            )
