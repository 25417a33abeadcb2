"""Reads the JSON of operators' requests by the one strict reader, before any route sees it."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fleetward.base.errors import FleetwardError, InvalidInputError
from fleetward.base.web import render_error
from fleetward.wire.bounded_json import parse_bounded_json

_JSON = b"application/json"


class StrictJson:
    """ASGI middleware that refuses a JSON body that is not JSON as `wire.bounded_json` has it.

    It stands behind the limit of bodies, which is that of its memory.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not _is_json(scope):
            await self._app(scope, receive, send)
            return
        try:
            body = await _read(receive)
            if body:
                parse_bounded_json(body, what="request body", max_bytes=len(body))
        except FleetwardError as error:
            await render_error(error)(scope, receive, send)
            return
        await self._app(scope, _replay(body, receive), send)


def _is_json(scope: Scope) -> bool:
    kind = dict(scope["headers"]).get(b"content-type", b"").partition(b";")[0].strip().lower()
    return bool(kind == _JSON or (kind.startswith(b"application/") and kind.endswith(b"+json")))


async def _read(receive: Receive) -> bytes:
    """Return the whole body. Raises InvalidInputError: the client went away in the middle of it."""
    parts = []
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise InvalidInputError("request body: expected all of it, found the connection closed")
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(parts)


def _replay(body: bytes, receive: Receive) -> Receive:
    is_given = False

    async def replay() -> Message:
        nonlocal is_given
        if is_given:
            return await receive()
        is_given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay
