"""A real HTTPS listener of ours on a random port, in a thread."""

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from starlette.types import ASGIApp

from fleetward.programs.server.tls import OnRefused, TlsServer


@contextmanager
def serving(
    app: ASGIApp, context: ssl.SSLContext, on_refused: OnRefused, *, loop: str = "uvloop", **settings: Any
) -> Iterator[int]:
    """Serve `app` until the block ends; yields the port. `settings`: further ones of `TlsServer`."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = TlsServer(app, [listener], context, on_refused, loop=loop, lifespan="off", **settings)
        thread = threading.Thread(target=server.run)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join()
