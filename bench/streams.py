"""A hundred open consoles at rest: what the platform's process costs while nothing happens.

Fifty streams of events are the administrator's, fifty those of a second operator: nobody may hold more in one
process. Beside it the same platform with no stream open. Both include all that a platform does at rest.
"""

import asyncio
import hashlib
import ssl
import time
from datetime import timedelta
from pathlib import Path

from bench.rig import Result, Rig, cpu_seconds, platform, raise_file_limit
from fleetward.base.clock import SystemClock
from fleetward.base.db import Database
from fleetward.base.layout import DataFolder
from fleetward.base.web import MAX_STREAMS
from fleetward.features.access import store
from fleetward.features.access.model.identity import Grant
from fleetward.features.access.model.roles import Role
from fleetward.features.access.model.secrets import API_TOKEN_PREFIX, hash_secret, new_secret
from fleetward.features.access.model.tokens import Token
from fleetward.features.access.service.local_token import read_admin_token
from fleetward.features.access.store.operators import Operator, OperatorState

_CONSOLES = 2 * MAX_STREAMS
_CALM_S = 10
_MEASURED_S = 20
_PERCENT = 100
_TOKEN_LIFETIME = timedelta(hours=1)


def run(folder: Path) -> list[Result]:
    """Return what a hundred streams cost a platform at rest, in percent of a core over 20 s."""
    raise_file_limit()
    with platform(folder) as rig:
        tokens = [read_admin_token(DataFolder(rig.data).admin_token), add_viewer(rig)]
        alone, together = asyncio.run(_measure(rig, tokens))
    streams = Result(
        f"{_CONSOLES} consoles at rest, beyond the platform's own", "% of a core",
        together - alone, "goal", 3.0, "≤ 3 % of a core",
    )  # fmt: skip
    whole = Result(
        f"the platform's process with {_CONSOLES} consoles", "% of a core", together, "with none", alone, "",
    )  # fmt: skip
    return [streams, whole]


async def _measure(rig: Rig, tokens: list[str]) -> tuple[float, float]:
    await asyncio.sleep(_CALM_S)
    alone = await _percent_of_a_core(rig)
    context = ssl.create_default_context(cafile=str(rig.ca_file))
    opened = [await _open(rig, context, tokens[number % len(tokens)]) for number in range(_CONSOLES)]
    silent = [asyncio.create_task(_drain(reader)) for reader, _ in opened]
    await asyncio.sleep(_CALM_S)
    together = await _percent_of_a_core(rig)
    ended = sum(task.done() for task in silent)
    for _, writer in opened:
        writer.close()
    await asyncio.gather(*silent, return_exceptions=True)
    if ended:
        raise RuntimeError(f"expected {_CONSOLES} streams to stay open, found {ended} ended")
    return alone, together


async def _percent_of_a_core(rig: Rig) -> float:
    """Return what the process itself used, without nats-server."""
    cpu_s, began_at = cpu_seconds(rig.process.pid), time.monotonic()
    await asyncio.sleep(_MEASURED_S)
    return _PERCENT * (cpu_seconds(rig.process.pid) - cpu_s) / (time.monotonic() - began_at)


async def _open(
    rig: Rig, context: ssl.SSLContext, token: str
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", rig.port_base, ssl=context, server_hostname="localhost"
    )
    writer.write(
        b"GET /api/v1/events/stream?after=-1 HTTP/1.1\r\nHost: localhost\r\n"
        b"Authorization: Bearer " + token.encode() + b"\r\n\r\n"
    )
    status = await reader.readline()
    if b" 200 " not in status:
        raise RuntimeError(f"stream: expected 200, got {status!r}")
    return reader, writer


async def _drain(reader: asyncio.StreamReader) -> None:
    while await reader.read(65_536):
        pass


def add_viewer(rig: Rig) -> str:
    """Return a token of a viewer of all, put beside those who came by invitation."""
    secret = new_secret(API_TOKEN_PREFIX)
    path = rig.data / "db" / "fleetward.sqlite3"
    db = Database(f"sqlite:///{path}", SystemClock())
    with db.write("system:bench") as tx:
        name, now = "bench", tx.now
        webauthn_id = hashlib.sha256(secret.encode()).digest()
        operator = Operator(name, name, OperatorState.ACTIVE, webauthn_id, None, None, "bench", now, None)
        store.operators.insert(tx, operator)
        store.grants.insert(tx, Grant("grant_bench", name, Role.VIEWER, "*", "bench", now, None))
        token = Token(
            "tok_bench", name, "api", name, frozenset({"event.read"}), now, now + _TOKEN_LIFETIME, None, None
        )
        store.tokens.insert(tx, token, hash_secret(secret))
    db.close()
    return secret
