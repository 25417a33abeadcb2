"""Re-enrollments per CPU-second of the server, persisted, beside `cfssl serve` and Caddy's ACME server.

Each takes a new connection and a new key. Ours and cfssl's authenticate by the client's certificate and write
what they issued to SQLite, eight clients at once; Caddy's are whole ACME orders (RFC 8555), each on one
connection, one client at a time. What counts is what the server's processes used: the client's work is not in
it, our broker's is.
"""

import json
import shutil
import ssl
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import urllib3
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from bench.acme import AcmeClient
from bench.peer_cas import PeerCa, caddy, cfssl
from bench.rig import (
    Device,
    Result,
    Rig,
    children_of,
    client_context,
    cpu_seconds,
    make_csr,
    platform,
    raise_file_limit,
)

_DEVICES = 50
_AT_ONCE = 8
_ROUNDS = 6
_ORDERS = 60
_SETTLE_S = 3.0


def run(folder: Path) -> list[Result]:
    """Return ours beside each peer; a peer that is not installed, or may not have port 80, is left out."""
    raise_file_limit()
    with platform(folder) as rig:
        devices = rig.enroll(_DEVICES)
        _rate(rig.process.pid, _DEVICES, lambda: _renew_all(rig, devices, rounds=1))  # warms up
        ours = _rate(rig.process.pid, _DEVICES * _ROUNDS, lambda: _renew_all(rig, devices, rounds=_ROUNDS))
    results = []
    if shutil.which("cfssl"):
        its = _measure_cfssl(folder / "cfssl")
        results.append(Result("re-enrollments", "1/CPU-s", ours, "cfssl serve", its, "≥ 0.6"))
    if shutil.which("caddy"):
        its = _measure_caddy(folder / "caddy")
        results.append(Result("re-enrollments", "1/CPU-s", ours, "Caddy ACME", its, "≥ 4"))
    return results or [Result("re-enrollments", "1/CPU-s", ours, "nobody installed", 0, "")]


def _rate(pid: int, count: int, act: Callable[[], None]) -> float:
    """Return how many of `act`'s `count` things a CPU-second of `pid` and its children does."""
    time.sleep(_SETTLE_S)
    processes = [pid, *children_of(pid)]
    before = sum(map(cpu_seconds, processes))
    act()
    time.sleep(_SETTLE_S)  # what is done later, such as telling of the events, is work as well
    return count / (sum(map(cpu_seconds, processes)) - before)


def _renew_all(rig: Rig, devices: list[Device], *, rounds: int) -> None:
    with ThreadPoolExecutor(_AT_ONCE) as clients:
        for _ in range(rounds):
            list(clients.map(rig.renew, devices))


def _measure_cfssl(folder: Path) -> float:
    def sign(peer: PeerCa, context: ssl.SSLContext) -> None:
        csr = make_csr(ec.generate_private_key(ec.SECP256R1()), "device", encoding=Encoding.PEM)
        with urllib3.PoolManager(ssl_context=context, retries=False) as pool:
            answer = pool.request("POST", peer.url, body=json.dumps({"certificate_request": csr.decode()}))
        if not answer.json()["success"]:
            raise RuntimeError(answer.data.decode())

    def sign_all(peer: PeerCa, contexts: Sequence[ssl.SSLContext], rounds: int) -> None:
        with ThreadPoolExecutor(_AT_ONCE) as clients:
            for _ in range(rounds):
                list(clients.map(lambda context: sign(peer, context), contexts))

    with cfssl(folder) as peer:
        assert peer.client is not None
        contexts = [client_context(peer.ca_file, peer.client) for _ in range(_DEVICES)]
        sign_all(peer, contexts, 1)
        return _rate(peer.pid, _DEVICES * _ROUNDS, lambda: sign_all(peer, contexts, _ROUNDS))


def _measure_caddy(folder: Path) -> float:
    with caddy(folder) as peer:
        client = AcmeClient(peer.url, peer.ca_file)
        with client.challenges():
            client.register()
            client.order()
            return _rate(peer.pid, _ORDERS, lambda: _order_all(client, _ORDERS))


def _order_all(client: AcmeClient, count: int) -> None:
    for _ in range(count):
        client.order()
