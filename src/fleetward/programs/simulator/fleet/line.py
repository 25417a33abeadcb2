"""One device's TLS line to the broker, non-blocking, and as small as OpenSSL makes it.

pyOpenSSL, because there a connection takes its own certificate while all share one context: Python's own
`ssl` wants a context for each device.
"""

import socket
from contextlib import suppress
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from OpenSSL import SSL

from fleetward.base.errors import ConfigError, UnavailableError

_CHUNK = 16 * 1024


class Stage(IntEnum):
    CONNECTING = 0
    HANDSHAKE = 1
    GREETING = 2
    LIVE = 3


class Wants(IntEnum):
    READ = 1
    WRITE = 2


class LineLostError(UnavailableError):
    """The line is gone; the message says at which stage and how."""


@dataclass
class Broker:
    """Where all devices connect to, and the one TLS context they share."""

    address: tuple[str, int]
    name: str
    family: int
    context: SSL.Context
    _known: set[int] = field(default_factory=set)

    def check_name(self, certificate: x509.Certificate) -> None:
        """Pass when a verified certificate is for our broker's name (RFC 9525). Raises LineLostError."""
        serial = certificate.serial_number
        if serial in self._known:
            return
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        found = {*names.get_values_for_type(x509.DNSName)}
        found |= {str(one) for one in names.get_values_for_type(x509.IPAddress)}
        if self.name not in found:
            raise LineLostError(f"broker: expected a certificate for {self.name}, found {sorted(found)}")
        self._known.add(serial)


def find_broker(mqtt: str, ca_file: Path) -> Broker:
    """Return the broker at `host:port`, trusting the root in `ca_file` alone.

    Raises:
        ConfigError: its name leads nowhere, or the root is unreadable.
    """
    host, _, port = mqtt.rpartition(":")
    try:
        family, _, _, _, address = socket.getaddrinfo(host, int(port), type=socket.SOCK_STREAM)[0]
    except (OSError, ValueError) as error:
        raise ConfigError(f"broker {mqtt}: expected an address, found none") from error
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_min_proto_version(SSL.TLS1_2_VERSION)
    context.set_mode(SSL.MODE_RELEASE_BUFFERS)
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    try:
        context.load_verify_locations(str(ca_file))
    except SSL.Error as error:
        raise ConfigError(f"{ca_file}: expected root certificates in PEM, found it unreadable") from error
    context.set_verify(SSL.VERIFY_PEER)
    return Broker((str(address[0]), int(address[1])), host, family, context)


class Line:
    """A connection on its way, or open. `stage` says how far it is; `wants` what it waits for."""

    __slots__ = ("_broker", "_out", "_sock", "_tls", "opened_at", "stage", "wants")

    def __init__(self, broker: Broker, leaf: bytes, key: ec.EllipticCurvePrivateKey, now_s: float) -> None:
        """Begin to connect with a device's certificate (DER) and key. Raises LineLostError."""
        self._broker, self._out, self.opened_at = broker, b"", now_s
        self.stage, self.wants = Stage.CONNECTING, Wants.WRITE
        self._sock = socket.socket(broker.family, socket.SOCK_STREAM)
        self._sock.setblocking(False)  # noqa: FBT003 - the library's own signature
        self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._tls = SSL.Connection(broker.context, self._sock)
        self._tls.use_certificate(x509.load_der_x509_certificate(leaf))
        self._tls.use_privatekey(key)
        self._tls.set_tlsext_host_name(broker.name.encode())
        self._tls.set_connect_state()
        try:
            self._sock.connect(broker.address)
        except BlockingIOError:
            pass
        except OSError as error:
            self.close()
            raise LineLostError(f"connect: {error.strerror}") from error

    def fileno(self) -> int:
        return self._sock.fileno()

    def advance(self) -> bool:
        """Go on with connecting; return True once the handshake is done. Raises LineLostError."""
        if self.stage is Stage.CONNECTING:
            number = self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if number:
                raise LineLostError(f"connect: error {number}")
            self.stage = Stage.HANDSHAKE
        try:
            self._tls.do_handshake()
        except SSL.WantReadError:
            self.wants = Wants.READ
            return False
        except SSL.WantWriteError:
            self.wants = Wants.WRITE
            return False
        except (SSL.Error, OSError) as error:
            raise LineLostError(f"handshake: {_explain(error)}") from error
        certificate = self._tls.get_peer_certificate(as_cryptography=True)
        if certificate is None:
            raise LineLostError("handshake: expected the broker's certificate, found none")
        self._broker.check_name(certificate)
        self.stage, self.wants = Stage.GREETING, Wants.READ
        return True

    def write(self, content: bytes) -> None:
        """Send, now or when there is room. Raises LineLostError."""
        self._out += content
        try:
            while self._out:
                self._out = self._out[self._tls.send(self._out[:_CHUNK]) :]
        except SSL.WantWriteError:
            self.wants = Wants.WRITE
            return
        except SSL.WantReadError:
            pass
        except (SSL.Error, OSError) as error:
            raise LineLostError(f"send: {_explain(error)}") from error
        self.wants = Wants.READ

    def read(self) -> bytes:
        """Return what has come, b"" for nothing yet. Raises LineLostError when there is no more to come."""
        found = b""
        try:
            while True:
                found += self._tls.recv(_CHUNK)
        except (SSL.WantReadError, SSL.WantWriteError):
            return found
        except (SSL.Error, OSError) as error:
            if found:
                return found
            raise LineLostError(f"receive: {_explain(error)}") from error

    def close(self) -> None:
        with suppress(SSL.Error, OSError):  # a line that is dead already needs no farewell
            if self.stage >= Stage.GREETING:
                self._tls.shutdown()
        self._sock.close()


def _explain(error: Exception) -> str:
    """Return OpenSSL's words for a failure, or the kernel's."""
    if isinstance(error, SSL.ZeroReturnError):
        return "closed by the broker"
    if error.args and isinstance(error.args[0], list):
        return "; ".join(str(one[-1]) for one in error.args[0]) or type(error).__name__
    return str(error) or type(error).__name__
