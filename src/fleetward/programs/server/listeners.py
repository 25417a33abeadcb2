"""HTTPS listeners: uvicorn inside our own event loop, stopped by us and not by its signal handlers."""

import asyncio
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
from fastapi import FastAPI

from fleetward.base.errors import PortInUseError

_GRACE_S = 2
_BACKLOG = 4096
_POLL_S = 0.02


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to the program."""
        yield


class Listener:
    """One HTTPS port. `start` returns when it accepts connections; `stop` gives requests two seconds."""

    def __init__(
        self,
        app: FastAPI,
        *,
        host: str,
        port: int,
        context: ssl.SSLContext,
        http: type[asyncio.Protocol],
        ws: type[asyncio.Protocol],
    ) -> None:
        config = uvicorn.Config(
            app, host=host, port=port, http=http, ws=ws, log_config=None, access_log=False, server_header=False,
            date_header=True, timeout_graceful_shutdown=_GRACE_S, backlog=_BACKLOG, lifespan="off",
            ssl_context_factory=lambda _config, _default: context, ws_max_size=4 * 1024 * 1024,
        )  # fmt: skip
        self._server = _Server(config)
        self._port = port
        self._task: asyncio.Task[Any] | None = None

    async def start(self) -> None:
        """Accept connections.

        Raises:
            PortInUseError: another program has the port.
        """
        self._task = asyncio.create_task(self._server.serve())
        while not self._server.started:
            if self._task.done():
                raise PortInUseError(f"port {self._port}: expected it free, found it in use") from _cause(
                    self._task
                )
            await asyncio.sleep(_POLL_S)

    async def stop(self) -> None:
        self._server.should_exit = True
        if self._task is not None:
            await self._task


def _cause(task: "asyncio.Task[Any]") -> BaseException | None:
    return None if task.cancelled() else task.exception()
