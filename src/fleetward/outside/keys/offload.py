"""Any signer as the private key of a stdlib `ssl.SSLContext`.

CPython offers no interface for keys outside memory, so this sets the sign callback of an EC_KEY_METHOD, by
ctypes, in the very libcrypto that `_ssl` uses. It rests on CPython's layout (the SSL_CTX pointer follows the
object's head) and on OpenSSL being a shared library; both are checked before anything is touched, and where
they do not hold the caller gets MissingProgramError instead of a crash.
"""

import ctypes
import functools
import re
import ssl
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from fleetward.base.errors import FleetwardError, InvalidInputError, KeyUnavailableError, MissingProgramError
from fleetward.base.logging import get_logger

log = get_logger("keys")

SignDigest = Callable[[bytes], bytes]

_POINTER = ctypes.sizeof(ctypes.c_void_p)
_P256_BYTES = 32
_SIGN = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.c_int, ctypes.POINTER(ctypes.c_ubyte), ctypes.c_int, ctypes.POINTER(ctypes.c_ubyte),
    ctypes.POINTER(ctypes.c_uint), ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p,
)  # fmt: skip


def install(context: ssl.SSLContext, chain: Path, sign_digest: SignDigest) -> None:
    """Make `context` authenticate with the P-256 certificate chain in `chain` (PEM) and `sign_digest`.

    Args:
        sign_digest: returns the DER ECDSA signature over 32 bytes. What it raises fails the handshake and is
            logged.

    Raises:
        InvalidInputError: no P-256 certificate in `chain`.
        MissingProgramError: this Python's OpenSSL cannot be reached this way.
        KeyUnavailableError: OpenSSL took chain or key not.
    """
    _openssl().install(context, chain, sign_digest)


def check() -> None:
    """Pass when this Python's `ssl` can use keys outside memory. Raises MissingProgramError."""
    _openssl().context_pointer(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))


@functools.cache
def _openssl() -> "_OpenSsl":
    return _OpenSsl()


class _OpenSsl:
    """The libssl and libcrypto of `_ssl`, with one EC_KEY_METHOD that finds its signer by key."""

    def __init__(self) -> None:
        libssl, libcrypto = _find_libraries()
        try:
            self._bind_functions(libssl, libcrypto)
        except AttributeError as error:
            raise _unsupported(f"its OpenSSL lacks {error}") from error
        self._signers: dict[int, SignDigest] = {}
        self._callback = _SIGN(self._on_sign)  # must live as long as the method
        self._method = self._make_method()

    def install(self, context: ssl.SSLContext, chain: Path, sign_digest: SignDigest) -> None:
        pointer = self.context_pointer(context)
        key = self._make_key(_read_spki(chain))
        private = self._pkey_new()
        try:
            if self._pkey_set1_ec(private, key) != 1:
                raise KeyUnavailableError(f"{chain}: expected OpenSSL to take its key, found it refused")
            self._signers[key] = sign_digest
            weakref.finalize(context, self._signers.pop, key, None)
            if self._use_chain(pointer, str(chain).encode()) != 1:
                raise KeyUnavailableError(f"{chain}: expected OpenSSL to take the chain, found it refused")
            if self._use_key(pointer, private) != 1:
                raise KeyUnavailableError(f"{chain}: expected its key, found another")
        finally:
            self._pkey_free(private)
            self._key_free(key)  # the context holds its own reference now
            self._clear_errors()

    def context_pointer(self, context: ssl.SSLContext) -> int:
        """Return the SSL_CTX of `context`, once two of its settings read the same through it."""
        address = id(context) + 2 * _POINTER
        pointer = ctypes.c_void_p.from_address(address).value or 0
        if pointer % _POINTER or not _is_mapped(pointer):
            raise _unsupported("its SSLContext has another layout")
        is_right = (
            self._get_options(pointer) & 0xFFFFFFFF == context.options & 0xFFFFFFFF
            and self._get_verify_mode(pointer) == _VERIFY_MODE[context.verify_mode]
        )
        if not is_right:
            raise _unsupported("its SSLContext has another layout")
        return pointer

    def _on_sign(
        self,
        _type: int,
        digest: Any,
        length: int,
        out: Any,
        out_length: Any,
        _inverse: Any,
        _r: Any,
        key: int,
    ) -> int:
        """Sign for OpenSSL; 0 fails the handshake. Nothing may be raised into C."""
        try:
            # ECDSA takes the leftmost bits of a longer digest (FIPS 186-5 section 6.4.1).
            signature = self._signers[key](bytes(digest[: min(length, _P256_BYTES)]))
            if not 0 < len(signature) <= self._signature_size(key):
                log.error("key_signature_malformed", bytes=len(signature))
                return 0
            ctypes.memmove(out, signature, len(signature))
            out_length[0] = len(signature)
        except FleetwardError as error:
            log.warning("key_sign_failed", code=error.code, reason=error.message)
            return 0
        except Exception:
            log.exception("key_sign_failed")
            return 0
        return 1

    def _make_method(self) -> int:
        method = self._method_new(self._method_default())
        sign, setup, sign_raw = ctypes.c_void_p(), ctypes.c_void_p(), ctypes.c_void_p()
        self._method_get_sign(method, ctypes.byref(sign), ctypes.byref(setup), ctypes.byref(sign_raw))
        self._method_set_sign(method, self._callback, setup, sign_raw)
        return int(method)

    def _make_key(self, spki: bytes) -> int:
        start = ctypes.c_char_p(spki)
        key = self._read_public(None, ctypes.byref(start), len(spki))
        if not key or self._key_set_method(key, self._method) != 1:
            raise KeyUnavailableError("certificate: expected a key that OpenSSL reads, found it refused")
        return int(key)

    def _bind_functions(self, libssl: ctypes.CDLL, libcrypto: ctypes.CDLL) -> None:
        pointer, integer, text = ctypes.c_void_p, ctypes.c_int, ctypes.c_char_p

        def take(library: ctypes.CDLL, name: str, result: Any, *arguments: Any) -> Any:
            function = getattr(library, name)
            function.restype, function.argtypes = result, arguments
            return function

        self._read_public = take(
            libcrypto, "d2i_EC_PUBKEY", pointer, pointer, ctypes.POINTER(text), ctypes.c_long
        )
        self._key_free = take(libcrypto, "EC_KEY_free", None, pointer)
        self._key_set_method = take(libcrypto, "EC_KEY_set_method", integer, pointer, pointer)
        self._signature_size = take(libcrypto, "ECDSA_size", integer, pointer)
        self._method_default = take(libcrypto, "EC_KEY_OpenSSL", pointer)
        self._method_new = take(libcrypto, "EC_KEY_METHOD_new", pointer, pointer)
        self._method_get_sign = take(
            libcrypto, "EC_KEY_METHOD_get_sign", None, pointer, pointer, pointer, pointer
        )
        self._method_set_sign = take(
            libcrypto, "EC_KEY_METHOD_set_sign", None, pointer, _SIGN, pointer, pointer
        )
        self._pkey_new = take(libcrypto, "EVP_PKEY_new", pointer)
        self._pkey_free = take(libcrypto, "EVP_PKEY_free", None, pointer)
        self._pkey_set1_ec = take(libcrypto, "EVP_PKEY_set1_EC_KEY", integer, pointer, pointer)
        self._clear_errors = take(libcrypto, "ERR_clear_error", None)
        self._use_chain = take(libssl, "SSL_CTX_use_certificate_chain_file", integer, pointer, text)
        self._use_key = take(libssl, "SSL_CTX_use_PrivateKey", integer, pointer, pointer)
        self._get_options = take(libssl, "SSL_CTX_get_options", ctypes.c_uint64, pointer)
        self._get_verify_mode = take(libssl, "SSL_CTX_get_verify_mode", integer, pointer)


_VERIFY_MODE = {ssl.CERT_NONE: 0, ssl.CERT_OPTIONAL: 1, ssl.CERT_REQUIRED: 3}


def _find_libraries() -> tuple[ctypes.CDLL, ctypes.CDLL]:
    """Return the loaded libssl and libcrypto that `_ssl` uses, not those of a wheel."""
    found: dict[str, str] = {}
    for line in Path("/proc/self/maps").read_text().splitlines():
        match = re.search(r"(/\S*/lib(ssl|crypto)(?:-\w+)?\.so\S*)$", line)
        if match and "site-packages" not in match[1]:
            found.setdefault(match[2], match[1])
    if set(found) != {"ssl", "crypto"}:
        raise _unsupported("it carries OpenSSL inside itself")
    return ctypes.CDLL(found["ssl"]), ctypes.CDLL(found["crypto"])


def _is_mapped(pointer: int) -> bool:
    for line in Path("/proc/self/maps").read_text().splitlines():
        span, permissions, _ = line.split(" ", 2)
        start, _, end = span.partition("-")
        if int(start, 16) <= pointer < int(end, 16):
            return permissions.startswith("rw")
    return False


def _read_spki(chain: Path) -> bytes:
    try:
        leaf = x509.load_pem_x509_certificates(chain.read_bytes())[0]
    except (OSError, ValueError) as error:
        raise InvalidInputError(f"{chain}: expected a PEM certificate chain, found none") from error
    key = leaf.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise InvalidInputError(f"{chain}: expected a P-256 certificate, found another kind of key")
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _unsupported(why: str) -> MissingProgramError:
    return MissingProgramError(
        f"this Python: expected an ssl module that can use keys in a chip, found that {why}",
        hint="Run the agent on a Python linked against the system's OpenSSL, such as Debian's.",
    )
