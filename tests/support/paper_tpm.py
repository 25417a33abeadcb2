"""A chip on paper: makes any TPM statement, true or forged, with ordinary keys. For rules, not for trust."""

import hashlib
import struct
from dataclasses import dataclass, field

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from fleetward.wire import tpm
from fleetward.wire.event_log import LogEntry, Measured, make_entry, replay
from fleetward.wire.evidence import Evidence

MAGIC, ST_CERTIFY, ST_QUOTE = 0xFF544347, 0x8017, 0x8018
PCRS = (8, 9)
DIGESTS = {
    kind: hashlib.sha256(kind.value.encode()).digest()
    for kind in (Measured.BOOT_STAGE, Measured.PINNED_KEYS, Measured.IMAGE, Measured.MANIFEST)
}


def sized(content: bytes) -> bytes:
    return struct.pack(">H", len(content)) + content


def make_log(**changed: bytes) -> tuple[LogEntry, ...]:
    """Return the log of a start as it should be; `changed` replaces digests by kind."""
    found = {**DIGESTS, **{Measured(kind): digest for kind, digest in changed.items()}}
    return tuple(make_entry(index, kind, digest) for index, (kind, digest) in enumerate(found.items()))


def render_public(
    key: ec.EllipticCurvePublicKey | rsa.RSAPublicKey,
    attributes: int = tpm.AK_ATTRIBUTES | tpm.USER_WITH_AUTH,
    *,
    scheme: tuple[int, int] | None = None,
) -> bytes:
    """Return a TPM2B_PUBLIC; the scheme is the one of its algorithm with SHA-256, unless given."""
    if isinstance(key, ec.EllipticCurvePublicKey):
        kind, usual, numbers = tpm.ALG_ECC, tpm.ALG_ECDSA, key.public_numbers()
        point = sized(numbers.x.to_bytes(32, "big")) + sized(numbers.y.to_bytes(32, "big"))
        rest = struct.pack(">HH", tpm.CURVE_P256, tpm.ALG_NULL) + point
    else:
        kind, usual, modulus = tpm.ALG_RSA, tpm.ALG_RSASSA, key.public_numbers().n
        rest = struct.pack(">HI", key.key_size, 0) + sized(modulus.to_bytes(key.key_size // 8, "big"))
    algorithm, digest = scheme or (usual, tpm.ALG_SHA256)
    head = struct.pack(">HHIHHH", kind, tpm.ALG_SHA256, attributes, 0, tpm.ALG_NULL, algorithm)
    return sized(head + (b"" if algorithm == tpm.ALG_NULL else struct.pack(">H", digest)) + rest)


def select(pcrs: tuple[int, ...], *, bank: int = tpm.ALG_SHA256) -> bytes:
    bits = sum(1 << index for index in pcrs)
    return struct.pack(">IHB", 1, bank, 3) + bits.to_bytes(3, "little")


@dataclass
class PaperTpm:
    """Holds an attestation key and what its PCRs would be."""

    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey = field(
        default_factory=lambda: ec.generate_private_key(ec.SECP256R1())
    )

    @property
    def ak_public(self) -> bytes:
        return render_public(self.key.public_key())

    @property
    def ak(self) -> tpm.Public:
        return tpm.parse_public(self.ak_public)

    def sign(self, content: bytes) -> bytes:
        """Return the TPMT_SIGNATURE over `content`."""
        if isinstance(self.key, rsa.RSAPrivateKey):
            plain = self.key.sign(content, padding.PKCS1v15(), hashes.SHA256())
            return struct.pack(">HH", tpm.ALG_RSASSA, tpm.ALG_SHA256) + sized(plain)
        r, s = decode_dss_signature(self.key.sign(content, ec.ECDSA(hashes.SHA256())))
        parts = sized(r.to_bytes(32, "big")) + sized(s.to_bytes(32, "big"))
        return struct.pack(">HH", tpm.ALG_ECDSA, tpm.ALG_SHA256) + parts

    def state(
        self, kind: int, nonce: bytes, body: bytes, *, magic: int = MAGIC, resets: int = 7, restarts: int = 3
    ) -> bytes:
        """Return a TPMS_ATTEST with this body."""
        clock = struct.pack(">QIIB", 123_456, resets, restarts, 1)
        return struct.pack(">IH", magic, kind) + sized(b"signer") + sized(nonce) + clock + bytes(8) + body

    def certify(self, key: ec.EllipticCurvePublicKey, nonce: bytes) -> bytes:
        return self.state(ST_CERTIFY, nonce, sized(tpm.device_key_name(key)) + sized(b"qualified"))

    def evidence(
        self,
        nonce: bytes,
        log: tuple[LogEntry, ...] | None = None,
        *,
        pcrs: tuple[int, ...] = PCRS,
        magic: int = MAGIC,
    ) -> Evidence:
        """Return evidence of a start with this log."""
        log = make_log() if log is None else log
        values = {index: replay(log).get(index, bytes(32)) for index in pcrs}
        digest = tpm.digest_pcrs([values[index] for index in sorted(pcrs)])
        quote = self.state(ST_QUOTE, nonce, select(pcrs) + sized(digest), magic=magic)
        shown = {str(index): value.hex() for index, value in values.items()}
        return Evidence(quote, self.sign(quote), shown, log)
