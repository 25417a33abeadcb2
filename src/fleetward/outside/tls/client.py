"""TLS contexts of a device: its platform's root pinned, names verified, dates judged by its best clock."""

import _ssl
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from cryptography import x509

from fleetward.base.clock import Clock
from fleetward.base.errors import ConfigError

# X509_V_FLAG_NO_CHECK_TIME of OpenSSL, which Python does not name.
_NO_CHECK_TIME = 0x200000
_NOT_YET_VALID, _EXPIRED = 9, 10
_CERTIFICATE_ALERTS = (
    "ALERT_BAD_CERTIFICATE",
    "ALERT_UNSUPPORTED_CERTIFICATE",
    "ALERT_CERTIFICATE_",
    "ALERT_UNKNOWN_CA",
    "ALERT_ACCESS_DENIED",
)


@dataclass(frozen=True)
class TlsIdentity:
    """What a device shows of itself in a handshake.

    Attributes:
        label: of the key; connections of one label may be reused.
        bind: gives a context the key and the certificate chain.
    """

    label: str
    bind: Callable[[ssl.SSLContext], None]


@dataclass(frozen=True)
class TlsFailure:
    """Why a connection failed.

    Attributes:
        is_clock_suspect: the peer's certificate seemed not yet valid, or expired.
        is_certificate_refused: the peer's TLS refused our certificate.
    """

    reason: str
    is_clock_suspect: bool = False
    is_certificate_refused: bool = False


class DeviceSocket(ssl.SSLSocket):
    """A TLS socket that judges dates by the context's clock and remembers how it failed.

    Attributes:
        failure: the TLS error that ended it. In TLS 1.3 the refusal of our certificate arrives with the first
            read, and libraries above report only that the connection is gone.
    """

    failure: ssl.SSLError | None = None

    def do_handshake(self, block: bool = False) -> None:
        try:
            super().do_handshake(block)
            self._check_dates()
        except BaseException:
            self.close()
            raise

    def read(self, len: int = 1024, buffer: Any = None) -> Any:  # noqa: A002 - the library's own name
        try:
            return super().read(len, buffer)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise
        except ssl.SSLError as error:
            self.failure = error
            raise

    def send(self, data: Any, flags: int = 0) -> int:
        try:
            return super().send(data, flags)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise
        except OSError as error:
            # The server has hung up; why, it may have said before, in an alert that nobody has read yet.
            try:
                self.read(1)
            except ssl.SSLEOFError:
                raise error from None
            except ssl.SSLError as said:
                raise said from error
            except OSError:
                raise error from None
            raise

    def _check_dates(self) -> None:
        context = self.context
        if not isinstance(context, DeviceContext) or context.clock is None:
            return
        now = context.clock.now()
        for der in _verified_chain(self):
            certificate = x509.load_der_x509_certificate(der)
            if now < certificate.not_valid_before_utc:
                raise _date_error(_NOT_YET_VALID, "is not yet valid", certificate.not_valid_before_utc)
            if now > certificate.not_valid_after_utc:
                raise _date_error(_EXPIRED, "has expired", certificate.not_valid_after_utc)


class DeviceContext(ssl.SSLContext):
    """A client context.

    Attributes:
        clock: judges certificates' dates in the system clock's place; None leaves them to OpenSSL.
    """

    sslsocket_class = DeviceSocket
    clock: Clock | None = None


def client_context(
    ca_file: Path,
    *,
    identity: TlsIdentity | None = None,
    clock: Clock | None = None,
    is_time_unchecked: bool = False,
) -> DeviceContext:
    """Return a context that trusts `ca_file` alone: TLS 1.2 or later, the server's name verified.

    Args:
        identity: authenticates us; without it no client certificate is shown.
        clock: a corrected clock, when the system's is known to be wrong.
        is_time_unchecked: no clock is known: chains are verified, their dates are not.

    Raises:
        ConfigError: `ca_file` holds no certificate.
        KeyUnavailableError: the key of `identity` cannot be used.
    """
    context = DeviceContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_verify_locations(cafile=ca_file)
    except (ssl.SSLError, OSError) as error:
        raise ConfigError(f"{ca_file}: expected root certificates in PEM, found it unreadable") from error
    if clock is not None or is_time_unchecked:
        context.verify_flags |= ssl.VerifyFlags(_NO_CHECK_TIME)
    if not is_time_unchecked:
        context.clock = clock
    if identity is not None:
        identity.bind(context)
    return context


def explain(error: BaseException) -> TlsFailure:
    """Return what is known of a failed connection, from the TLS error somewhere beneath `error`."""
    found = _find_tls_error(error)
    if isinstance(found, ssl.SSLCertVerificationError):
        is_dated = found.verify_code in (_NOT_YET_VALID, _EXPIRED)
        return TlsFailure(f"the server's certificate: {found.verify_message}", is_clock_suspect=is_dated)
    if found is not None:
        name = (found.reason or str(found)).upper()
        is_ours = any(alert in name for alert in _CERTIFICATE_ALERTS)
        return TlsFailure(f"TLS: {name}", is_certificate_refused=is_ours)
    return TlsFailure(str(error) or type(error).__name__)


def _find_tls_error(error: BaseException) -> ssl.SSLError | None:
    seen: list[object] = []
    queue: list[object] = [error]
    while queue and len(seen) < 50:  # noqa: PLR2004 - deeper than any library nests
        found = queue.pop(0)
        if isinstance(found, ssl.SSLError):
            return found
        if isinstance(found, BaseException) and not any(found is one for one in seen):
            seen.append(found)
            queue += [*found.args, getattr(found, "reason", None), found.__cause__, found.__context__]
    return None


def _date_error(code: int, what: str, at: datetime) -> ssl.SSLCertVerificationError:
    message = f"certificate {what} ({at:%Y-%m-%d %H:%M:%S}Z) by this device's clock"
    error = ssl.SSLCertVerificationError(1, message)
    error.verify_code, error.verify_message = code, message
    return error


def _verified_chain(sock: ssl.SSLSocket) -> list[bytes]:
    """Return the server's verified chain, DER: public from Python 3.13 on, private under that name before."""
    public = getattr(sock, "get_verified_chain", None)
    if public is not None:
        return list(public())
    certificates = sock._sslobj.get_verified_chain()  # type: ignore[attr-defined]  # noqa: SLF001
    return [certificate.public_bytes(_ssl.ENCODING_DER) for certificate in certificates]
