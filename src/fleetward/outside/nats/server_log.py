"""Reads nats-server's log: keeps it in a bounded file, and finds in it what a device was refused."""

import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from fleetward.base.logging import get_logger
from fleetward.outside.nats.config import MAX_PAYLOAD_BYTES

log = get_logger("nats")

MAX_LINE_CHARS = 4096
_MAX_FILE_BYTES = 10 * 1024 * 1024
# Orders to the terminal of who looks at the file: C0 and C1 characters, which clients can put into a topic.
_ORDERS = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]|\xc2[\x80-\x9f]")
_LINE = re.compile(r"\[\d+\] \S+ \S+ \[(?P<level>[A-Z]{3})\] (?P<text>.*)")
_CLIENT = re.compile(
    r'(?P<address>\S+):(?P<port>\d+) - [mc]id:(?P<cid>\d+) - (?:"(?P<device>[^"]*)" - )?(?P<text>.*)'
)
_VIOLATION = re.compile(r'(?P<act>Publish|Subscription) Violation - .*?Subject "(?P<subject>[^"]*)"')
# The server tells of plaintext on a TLS port only when debugging, which is why we have it do so.
_DEBUG = b" [DBG] "
_MAX_PREFIX_BYTES = 64
_HANDSHAKE = "TLS handshake error: "
_CLAIMED = re.compile(r"\(CN=(?P<name>[^,;)]*)[^;)]* SHA-256: [0-9a-f]{64}")
# What ends a device's connection for a single message, to what we say it was.
_CUTS = (
    (
        "character not supported for MQTT topics",
        "a topic with a space or another character that no topic has",
    ),
    ("wildcards not allowed in publish's topic", "a topic with a wildcard"),
    ("maximum payload exceeded", f"a message of more than {MAX_PAYLOAD_BYTES} bytes"),
)
# What Go's TLS says, to our name for it; the first that is contained wins.
_REASONS = (
    ("certificate has expired or is not yet valid", "certificate_expired"),
    ("certificate signed by unknown authority", "unknown_authority"),
    ("incompatible key usage", "wrong_key_usage"),
    ("didn't provide a certificate", "no_certificate"),
    ("only unsupported versions", "legacy_tls"),
    ("unsupported version", "legacy_tls"),
    ("does not look like a TLS handshake", "plaintext"),
    ("no cipher suite supported", "weak_ciphers"),
    ("invalid signature by the client certificate", "key_not_possessed"),
    ("failed to verify certificate", "certificate_invalid"),
)
# The client's own hanging up: noise, nobody was refused.
_HARMLESS = ("EOF", "connection reset by peer", "broken pipe", "remote error", "use of closed network")


@dataclass(frozen=True)
class TlsRefused:
    """A TLS handshake that failed. `claimed_name` is what an unverified certificate said."""

    address: str
    port: int
    reason: str
    claimed_name: str | None


@dataclass(frozen=True)
class TopicRefused:
    """A device published or subscribed where it may not."""

    device: str
    address: str
    is_publish: bool
    subject: str


@dataclass(frozen=True)
class PublishCut:
    """A device published what ends its connection; `what` it was, for a sentence."""

    device: str
    address: str
    what: str


def may_tell_refusal(line: str) -> bool:
    """Whether `parse_log_line` is worth calling: quick, for every line there is."""
    return _HANDSHAKE in line or "Violation" in line or any(sign in line for sign, _ in _CUTS)


def parse_log_line(line: str) -> TlsRefused | TopicRefused | PublishCut | None:
    """Return the refusal a log line tells of, None for any other line; never raises."""
    match = _LINE.match(line[:MAX_LINE_CHARS])
    client = _CLIENT.match(match["text"]) if match else None
    if client is None:
        return None
    text = client["text"]
    violation = _VIOLATION.match(text)
    if violation and client["device"]:
        is_publish = violation["act"] == "Publish"
        return TopicRefused(client["device"], client["address"], is_publish, violation["subject"])
    what = next((what for sign, what in _CUTS if text.startswith(sign)), "")
    if what and client["device"]:
        return PublishCut(client["device"], client["address"], what)
    if text.startswith(_HANDSHAKE) and not any(harmless in text for harmless in _HARMLESS):
        claimed = _CLAIMED.search(text)
        return TlsRefused(
            client["address"], int(client["port"]), _reason_of(text), claimed["name"] if claimed else None
        )
    return None


def _reason_of(text: str) -> str:
    return next((reason for sign, reason in _REASONS if sign in text), "handshake_failed")


class LogKeeper:
    """Appends lines to a file, control characters as marks, and tells of each.

    At 10 MiB it starts a new file and keeps the one before.
    What cannot be written is lost, which is said once: whoever stopped reading would stop the server.
    """

    def __init__(self, path: Path, on_line: Callable[[str], None]) -> None:
        self._path = path
        self._on_line = on_line
        self._file = path.open("ab", buffering=0)
        self._size = self._file.tell()
        self._is_losing = False

    def keep(self, line: bytes) -> None:
        """Keep one line, without its end. Of the server's debug lines only failed handshakes are kept."""
        if _DEBUG in line[:_MAX_PREFIX_BYTES] and _HANDSHAKE.encode() not in line:
            return
        content = _ORDERS.sub(_mark, line[:MAX_LINE_CHARS]) + b"\n"
        try:
            self._write(content)
        except OSError as error:
            if not self._is_losing:
                log.error("nats_log_lost", file=str(self._path), error=str(error))  # noqa: TRY400 - no fault of ours
            self._is_losing = True
        else:
            self._is_losing = False
        self._on_line(content.decode(errors="replace").rstrip("\n"))

    def close(self) -> None:
        self._file.close()

    def _write(self, content: bytes) -> None:
        if self._size > _MAX_FILE_BYTES:
            with suppress(FileNotFoundError):  # a new file could not be opened the last time
                self._path.replace(self._path.with_suffix(".1.log"))
            full, self._file = self._file, self._path.open("ab", buffering=0)
            self._size = 0
            full.close()
        self._size += self._file.write(content) or 0


def _mark(found: re.Match[bytes]) -> bytes:
    return b"".join(b"\\x%02x" % one for one in found[0])
