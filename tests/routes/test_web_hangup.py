"""Clients that are gone before their request is complete."""

import asyncio

from fastapi import FastAPI, Request
from starlette.types import Message

from fleetward.base.web import add_error_handlers

_SCOPE = {
    "type": "http", "method": "POST", "path": "/", "raw_path": b"/", "query_string": b"", "headers": [],
    "http_version": "1.1", "scheme": "https", "server": ("localhost", 443), "client": ("127.0.0.1", 1),
    "root_path": "",
}  # fmt: skip


def test_a_client_that_hangs_up_in_its_request_is_no_failure_of_ours() -> None:
    """A device killed while it sends left a traceback in the log, and a 500."""
    app = FastAPI()
    add_error_handlers(app)

    @app.post("/")
    async def take(request: Request) -> int:
        return len(await request.body())

    sent: list[Message] = []
    half: Message = {"type": "http.request", "body": b"half of", "more_body": True}
    gone: Message = {"type": "http.disconnect"}
    coming = iter([half, gone])

    async def receive() -> Message:
        return next(coming)

    async def send(message: Message) -> None:
        sent.append(message)

    asyncio.run(app(_SCOPE, receive, send))
    assert sent[0]["status"] == 400
