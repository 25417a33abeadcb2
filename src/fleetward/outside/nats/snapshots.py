"""What JetStream keeps, out of a running server in one consistent piece and into another (ADR-7 of NATS).

Consumers are not taken: ours are made anew at each start.
"""

import json
from collections.abc import AsyncIterator, Awaitable, Iterable
from typing import Any

import nats
from nats.aio.msg import Msg

from fleetward.base.errors import CorruptDataError, UnavailableError
from fleetward.outside.nats.connection import NatsConnection
from fleetward.outside.nats.streams import DEAD_LETTERS, LOGS, METRICS, TELEMETRY

# What devices sent and only these streams keep. Events are rows, sessions and admission follow from rows, and
# what lies in nats-server's own streams is on its way.
SAVED_STREAMS = (TELEMETRY, LOGS, METRICS, DEAD_LETTERS)
_CHUNK_BYTES = 128 * 1024
_TIMEOUT_S = 60.0
_NOT_FOUND = 404
_ENDED = "204"


async def read_stream_snapshot(connection: NatsConnection, stream: str) -> AsyncIterator[bytes]:
    """Yield a stream as it is now, in pieces, the first of them its description; nothing where there is none.

    Raises:
        UnavailableError: the server does not hand it over.
    """
    inbox = connection.client.new_inbox()
    subscription = await connection.client.subscribe(inbox)
    try:
        asked = {"deliver_subject": inbox, "no_consumers": True, "chunk_size": _CHUNK_BYTES, "jsck": True}
        found = await _ask(connection, f"$JS.API.STREAM.SNAPSHOT.{stream}", json.dumps(asked).encode())
        if _code_of(found) == _NOT_FOUND:
            return
        checked = _checked(stream, found)
        yield json.dumps({"config": checked["config"], "state": checked["state"]}).encode()
        while True:
            piece = await _next(stream, subscription.next_msg(_TIMEOUT_S))
            if not piece.data:
                if (piece.headers or {}).get("Status", _ENDED) != _ENDED:
                    raise _failed(stream, str(piece.headers))
                return
            yield piece.data
            if piece.reply:  # the server sends more when so many are taken
                await piece.respond(b"")
    finally:
        await subscription.unsubscribe()


async def restore_stream(
    connection: NatsConnection, stream: str, description: bytes, pieces: Iterable[bytes]
) -> None:
    """Make a stream that is not there yet from its description and pieces.

    Raises:
        CorruptDataError: the server takes the pieces for no stream.
        UnavailableError: it does not answer.
    """
    found = await _ask(connection, f"$JS.API.STREAM.RESTORE.{stream}", description)
    deliver_to = str(_checked(stream, found)["deliver_subject"])
    for piece in pieces:
        await _next(stream, connection.client.request(deliver_to, piece, timeout=_TIMEOUT_S))
    done = await _next(stream, connection.client.request(deliver_to, b"", timeout=_TIMEOUT_S))
    answer = json.loads(done.data or b"{}")
    if "error" in answer or "config" not in answer:
        raise CorruptDataError(
            f"stream {stream}: expected the message engine to take it back, found: {answer.get('error')}",
            hint="Take another backup: this one was not read back as it was written.",
        )


async def _ask(connection: NatsConnection, subject: str, content: bytes) -> dict[str, Any]:
    answer = await _next(subject, connection.client.request(subject, content, timeout=_TIMEOUT_S))
    found: dict[str, Any] = json.loads(answer.data)
    return found


async def _next(what: str, waiting: Awaitable[Msg]) -> Msg:
    try:
        return await waiting
    except (nats.errors.Error, TimeoutError, OSError) as error:
        raise _failed(what, type(error).__name__) from error


def _code_of(found: dict[str, Any]) -> int | None:
    error = found.get("error")
    return error.get("code") if isinstance(error, dict) else None


def _checked(stream: str, found: dict[str, Any]) -> dict[str, Any]:
    if "error" in found:
        raise _failed(stream, str(found["error"]))
    return found


def _failed(what: str, found: str) -> UnavailableError:
    return UnavailableError(
        f"{what}: expected the message engine to hand it over, found: {found[:200]}",
        hint="See logs/nats.log in the data folder.",
    )
