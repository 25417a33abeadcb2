"""The little of an ACME client (RFC 8555) that measuring a server takes: one account, http-01, one name."""

import base64
import hashlib
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import urllib3
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from bench.rig import make_csr

_NAME = "localhost"
_CHALLENGE_PORT = 80  # RFC 8555 section 8.3
_POLL_S = 0.02
_POLLS = 500


class AcmeClient:
    """Orders certificates for `localhost` from the server whose directory is `url`."""

    def __init__(self, url: str, ca_file: Path) -> None:
        self._url = url
        self._ca_file = ca_file
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._account = ""
        self._nonce = ""
        self._answers: dict[str, str] = {}

    @contextmanager
    def challenges(self) -> Iterator[None]:
        """Answer http-01 challenges meanwhile. Raises OSError when port 80 cannot be had."""
        answers = self._answers

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = answers.get(self.path.rpartition("/")[2], "").encode()
                self.send_response(200 if body else 404)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_arguments: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", _CHALLENGE_PORT), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield
        finally:
            server.shutdown()
            server.server_close()

    def register(self) -> None:
        """Make the account that later orders use."""
        with self._connection() as pool:
            directory = self._directory(pool)
            answer = self._post(pool, directory, directory["newAccount"], {"termsOfServiceAgreed": True})
        self._account = answer.headers["Location"]

    def order(self) -> bytes:
        """Return a new certificate's chain, PEM, for a new key; all on a new connection."""
        with self._connection() as pool:
            directory = self._directory(pool)
            identifiers = [{"type": "dns", "value": _NAME}]
            placed = self._post(pool, directory, directory["newOrder"], {"identifiers": identifiers})
            url, order = placed.headers["Location"], placed.json()
            authorization = self._post(pool, directory, order["authorizations"][0], None).json()
            challenge = next(one for one in authorization["challenges"] if one["type"] == "http-01")
            self._answers[challenge["token"]] = f"{challenge['token']}.{self._thumbprint()}"
            self._post(pool, directory, challenge["url"], {})
            self._wait(pool, directory, url, "ready")
            csr = make_csr(ec.generate_private_key(ec.SECP256R1()), _NAME, names=[_NAME])
            self._post(pool, directory, order["finalize"], {"csr": _encode(csr)})
            done = self._wait(pool, directory, url, "valid")
            del self._answers[challenge["token"]]
            return self._post(pool, directory, done["certificate"], None).data

    def _wait(self, pool: urllib3.PoolManager, directory: Any, url: str, status: str) -> Any:
        order = self._post(pool, directory, url, None).json()
        for _ in range(_POLLS):
            if order["status"] in (status, "valid"):
                return order
            time.sleep(_POLL_S)
            order = self._post(pool, directory, url, None).json()
        raise TimeoutError(f"the order is {order['status']}, not {status}")

    @contextmanager
    def _connection(self) -> Iterator[urllib3.PoolManager]:
        with urllib3.PoolManager(ca_certs=str(self._ca_file), retries=False) as pool:
            yield pool

    def _directory(self, pool: urllib3.PoolManager) -> Any:
        return pool.request("GET", self._url).json()

    def _post(
        self, pool: urllib3.PoolManager, directory: Any, url: str, payload: object
    ) -> urllib3.BaseHTTPResponse:
        """Post a signed request; `None` as payload asks for what stands there (RFC 8555 section 6.3)."""
        if not self._nonce:
            self._nonce = pool.request("HEAD", directory["newNonce"]).headers["Replay-Nonce"]
        head: dict[str, object] = {"alg": "ES256", "nonce": self._nonce, "url": url}
        head |= {"kid": self._account} if self._account else {"jwk": self._jwk()}
        protected = _encode(json.dumps(head).encode())
        body = "" if payload is None else _encode(json.dumps(payload).encode())
        signature = self._key.sign(f"{protected}.{body}".encode(), ec.ECDSA(hashes.SHA256()))
        r, s = decode_dss_signature(signature)
        jws = {"protected": protected, "payload": body, "signature": _encode(r.to_bytes(32) + s.to_bytes(32))}
        answer = pool.request(
            "POST", url, body=json.dumps(jws), headers={"Content-Type": "application/jose+json"}
        )
        self._nonce = answer.headers.get("Replay-Nonce", "")
        if answer.status >= 400:
            raise RuntimeError(f"{url}: {answer.status} {answer.data!r}")
        return answer

    def _jwk(self) -> dict[str, str]:
        numbers = self._key.public_key().public_numbers()
        x, y = (_encode(number.to_bytes(32)) for number in (numbers.x, numbers.y))
        return {"crv": "P-256", "kty": "EC", "x": x, "y": y}

    def _thumbprint(self) -> str:
        return _encode(hashlib.sha256(json.dumps(self._jwk(), separators=(",", ":")).encode()).digest())


def _encode(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()
