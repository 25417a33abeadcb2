"""A listener that dies takes the platform with it: a port nobody serves must not look like a quiet one."""

import asyncio
import socket
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path

import pytest
from OpenSSL import SSL
from starlette.types import Receive, Scope, Send

from fleetward.base.clock import SystemClock
from fleetward.base.coap import CoapAnswer, CoapRequest
from fleetward.features.pki.authority.ceremony import issue_listener
from fleetward.outside.dtls.server import DtlsServer, dtls_context, serve_dtls
from fleetward.programs.server.ending import Ending
from fleetward.programs.server.listeners import serve_https
from fleetward.programs.server.tls import TlsRefusal, server_context
from support.hierarchy import make_pki


async def quiet_app(_scope: Scope, _receive: Receive, _send: Send) -> None:
    raise AssertionError("nobody asks in these tests")


def not_refused(_refusal: TlsRefusal) -> None:
    raise AssertionError("nobody comes in these tests")


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    now, path = SystemClock().now(), tmp_path / "server.pem"
    authority = make_pki(tmp_path, now).server_ca
    path.write_bytes(issue_listener(authority, ["localhost"], timedelta(days=1), now))
    return path


def test_a_signal_ends_the_platform_well() -> None:
    async def run() -> int:
        ending = Ending()
        asyncio.get_running_loop().call_soon(ending.ask)
        return await ending.wait()

    assert asyncio.run(run()) == 0


@pytest.mark.parametrize("has_failed", [True, False])
def test_a_https_listener_that_dies_ends_the_platform(certificate: Path, *, has_failed: bool) -> None:
    async def run() -> int:
        ending = Ending()
        with socket.create_server(("127.0.0.1", 0)) as listener:
            async with AsyncExitStack() as stack:
                context = server_context(certificate)
                await serve_https(stack, ending, "console", quiet_app, listener, context, not_refused)
                if has_failed:
                    listener.shutdown(socket.SHUT_RDWR)  # what accept says from now on is no passing trouble
                else:
                    asyncio.get_running_loop().call_later(0.3, ending.ask)
                async with asyncio.timeout(20):
                    return await ending.wait()

    assert asyncio.run(run()) == int(has_failed)


def test_a_dtls_listener_that_dies_ends_the_platform(certificate: Path) -> None:
    async def run() -> tuple[int, str | None]:
        ending = Ending()
        server = await _serve_dtls(certificate)
        ending.watch("dtls", server.ended)
        server.connection_lost(OSError("gone"))
        async with asyncio.timeout(20):
            code = await ending.wait()
        await server.close()
        return code, ending.failure

    code, failure = asyncio.run(run())
    assert (code, failure) == (1, "dtls: gone")


def test_a_dtls_listener_that_is_closed_ends_nothing(certificate: Path) -> None:
    async def run() -> int:
        ending = Ending()
        server = await _serve_dtls(certificate)
        ending.watch("dtls", server.ended)
        await server.close()
        await asyncio.sleep(0.1)
        ending.ask()
        return await ending.wait()

    assert asyncio.run(run()) == 0


async def _serve_dtls(certificate: Path) -> DtlsServer:
    async def handler(_request: CoapRequest) -> CoapAnswer:
        raise AssertionError("nobody asks in these tests")

    def make_context() -> SSL.Context:
        return dtls_context(certificate, [])

    return await serve_dtls(("127.0.0.1", 0), make_context, handler, lambda _address, _reason: None)
