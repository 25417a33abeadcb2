"""Asks an app without a network: each request runs the app on an event loop of its own."""

import asyncio
from typing import Any

import httpx
from starlette.types import ASGIApp


class AsgiClient:
    """Plays a client at 127.0.0.1, or at another address."""

    def __init__(self, app: ASGIApp, address: str = "127.0.0.1") -> None:
        self._app, self._address = app, address

    def at(self, address: str) -> "AsgiClient":
        """Return the same client elsewhere."""
        return AsgiClient(self._app, address)

    def request(self, method: str, path: str, **more: Any) -> httpx.Response:
        async def ask() -> httpx.Response:
            transport = httpx.ASGITransport(self._app, client=(self._address, 123))
            async with httpx.AsyncClient(transport=transport, base_url="https://localhost") as client:
                return await client.request(method, path, **more)

        return asyncio.run(ask())

    def get(self, path: str, **more: Any) -> httpx.Response:
        return self.request("GET", path, **more)

    def post(self, path: str, **more: Any) -> httpx.Response:
        return self.request("POST", path, **more)
