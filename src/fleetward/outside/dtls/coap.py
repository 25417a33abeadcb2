"""CoAP requests and answers over one DTLS session: whole, in blocks (RFC 7959), repeated. No I/O."""

import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable

from aiocoap import (
    ACK,
    BAD_REQUEST,
    CON,
    CONTINUE,
    EMPTY,
    INTERNAL_SERVER_ERROR,
    NON,
    REQUEST_ENTITY_INCOMPLETE,
    REQUEST_ENTITY_TOO_LARGE,
    RST,
    Message,
)
from aiocoap.error import Error as CoapError

from fleetward.base.coap import CoapAnswer, CoapRequest, Code
from fleetward.base.errors import FleetwardError, InvalidInputError, TooLargeError
from fleetward.base.logging import get_logger

log = get_logger("coap")

MAX_PAYLOAD_BYTES = 16 * 1024
# 512-byte blocks fit one datagram with DTLS and CoAP around them on any link of IPv6's least MTU.
_BLOCK_EXPONENT = 5
_REMEMBERED_ANSWERS = 8
_EXCHANGE_LIFETIME_S = 247.0  # RFC 7252 section 4.8.2


Handler = Callable[[CoapRequest], Awaitable[CoapAnswer]]


class _IncompleteError(InvalidInputError):
    """A block without the ones before it (RFC 7959 section 2.9.2)."""


class CoapSession:
    """Turns datagrams of one client into calls of the handler, and its answers into datagrams."""

    def __init__(self, peer: bytes, handler: Handler) -> None:
        self._peer, self._handler = peer, handler
        self._upload = b""
        self._download: tuple[tuple[str, ...], CoapAnswer] | None = None
        self._answered: OrderedDict[int, tuple[float, bytes]] = OrderedDict()

    async def receive(self, datagram: bytes) -> bytes | None:
        """Return the datagram that answers `datagram`, None when nothing is to be said."""
        try:
            message = Message.decode(datagram)
        except (CoapError, ValueError, IndexError) as error:
            log.info("coap_unreadable", reason=type(error).__name__)
            return None
        if message.mtype not in (CON, NON):
            return None
        if message.code is EMPTY:
            return _encode(Message(code=EMPTY), message, mtype=RST)  # a CoAP ping
        known = self._answered.get(message.mid)
        if known is not None and time.monotonic() - known[0] < _EXCHANGE_LIFETIME_S:
            return known[1]  # repeated: the answer was lost, the act must not happen again
        answer = _encode(await self._answer(message), message, mtype=ACK if message.mtype is CON else NON)
        self._answered[message.mid] = (time.monotonic(), answer)
        while len(self._answered) > _REMEMBERED_ANSWERS:
            self._answered.popitem(last=False)
        return answer

    async def _answer(self, message: Message) -> Message:
        path = tuple(message.opt.uri_path)
        try:
            block2 = message.opt.block2
            if block2 is not None and block2.block_number and self._download and self._download[0] == path:
                return _cut(self._download[1], block2.block_number, block2.size_exponent)
            payload = self._collect(message)
            if payload is None:
                more = Message(code=CONTINUE)
                more.opt.block1 = message.opt.block1
                return more
            request = CoapRequest(
                self._peer, _method(message), path, _number(message.opt.content_format), payload
            )
            answer = await self._handler(request)
        except InvalidInputError as error:
            return _refuse_blocks(error)
        except Exception:
            log.exception("coap_request_failed", path="/".join(path)[:80])
            return Message(code=INTERNAL_SERVER_ERROR)
        self._download = (path, answer)
        size = _BLOCK_EXPONENT if block2 is None else min(block2.size_exponent, _BLOCK_EXPONENT)
        found = _cut(answer, 0, size)
        if message.opt.block1 is not None:
            found.opt.block1 = message.opt.block1
        return found

    def _collect(self, message: Message) -> bytes | None:
        """Return the whole payload, None while blocks are missing."""
        block = message.opt.block1
        if block is None:
            self._upload = b""
            return bytes(message.payload)
        if block.block_number == 0:
            self._upload = b""
        if block.block_number * block.size != len(self._upload):
            raise _IncompleteError("request: expected its blocks in order, found another")
        if len(self._upload) + len(message.payload) > MAX_PAYLOAD_BYTES:
            self._upload = b""
            raise TooLargeError(f"request: expected at most {MAX_PAYLOAD_BYTES} bytes, found more")
        self._upload += message.payload
        if block.more:
            return None
        whole, self._upload = self._upload, b""
        return whole


def refuse(error: FleetwardError, code: Code) -> CoapAnswer:
    """Return an error of ours as CoAP says it: its code and a diagnostic (RFC 7252 section 5.5.2)."""
    return CoapAnswer(code, error.message[:200].encode())


def _refuse_blocks(error: InvalidInputError) -> Message:
    said = error.message[:200].encode()
    if isinstance(error, TooLargeError):
        found = Message(code=REQUEST_ENTITY_TOO_LARGE, payload=said)
        found.opt.size1 = MAX_PAYLOAD_BYTES
        return found
    incomplete = isinstance(error, _IncompleteError)
    return Message(code=REQUEST_ENTITY_INCOMPLETE if incomplete else BAD_REQUEST, payload=said)


def _cut(answer: CoapAnswer, number: int, exponent: int) -> Message:
    size = 1 << (exponent + 4)
    part = answer.payload[number * size : (number + 1) * size]
    found = Message(code=int(answer.code), payload=part)
    if answer.content_format is not None:
        found.opt.content_format = answer.content_format
    has_more = len(answer.payload) > (number + 1) * size
    if number or has_more:
        found.opt.block2 = (number, has_more, exponent)
    return found


def _encode(answer: Message, request: Message, *, mtype: object) -> bytes:
    answer.mtype, answer.mid, answer.token = mtype, request.mid, request.token
    return bytes(answer.encode())


def _method(message: Message) -> str:
    return str(message.code.name)


def _number(content_format: object) -> int | None:
    return None if content_format is None else int(content_format)  # type: ignore[call-overload]
