"""An OpenID provider as a process: discovery, authorization code flow, PKCE checked, RS256 by hand.

It shares no code with ours: the ID token is signed with `cryptography` alone. What it says of the person, and
how it lies, is set by POST /control. Run: python -m support.openid_provider FOLDER
"""

import hashlib
import json
import secrets
import ssl
import subprocess
import sys
import time
from base64 import b64decode, urlsafe_b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import urllib3
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

# Of kinds and curves that a client need not know, and broken ones (RFC 7517 section 5: to be left out).
ODD_KEYS: list[Any] = [
    {"kty": "AKP", "alg": "ML-DSA-44", "kid": "key-1", "pub": "AA"},
    {"kty": "EC", "crv": "brainpoolP256r1", "kid": "key-1", "x": "AA", "y": "AA"},
    {"kty": "EC", "crv": "P-256", "kid": "key-1", "x": "AA", "y": "AA"},
    {"kty": "OKP", "crv": "X448", "x": "AA"},
    {"kty": "RSA", "n": 1, "e": "AQAB"},
    {"kty": "oct", "kid": "key-1", "k": "c2VjcmV0"},
    {},
    [1],
    "key",
]
CLIENT_ID, CLIENT_SECRET = "fleetward", "secret of the client: +/&="


def b64url(content: bytes) -> str:
    return urlsafe_b64encode(content).rstrip(b"=").decode()


class Provider:
    """What it knows: its keys, codes it gave, the person and the lie that were set."""

    def __init__(self, issuer: str) -> None:
        self.issuer = issuer
        self.key = rsa.generate_private_key(65537, 2048)
        self.kid = "key-1"
        self.earlier = self.key
        self.codes: dict[str, dict[str, str]] = {}
        self.claims: dict[str, Any] = {}
        self.userinfo: dict[str, Any] = {}
        self.lie = ""

    def metadata(self) -> dict[str, Any]:
        return {
            "issuer": self.issuer,
            "authorization_endpoint": f"{self.issuer}/authorize",
            "token_endpoint": f"{self.issuer}/token",
            "jwks_uri": f"{self.issuer}/keys",
            "response_types_supported": ["code"],
            "id_token_signing_alg_values_supported": ["RS256"],
            **({"userinfo_endpoint": f"{self.issuer}/userinfo"} if self.userinfo else {}),
        }

    def keys(self) -> dict[str, Any]:
        numbers = self.key.public_key().public_numbers()
        n, e = numbers.n.to_bytes(256, "big"), numbers.e.to_bytes(3, "big")
        name = {"kid": self.kid} if self.kid else {}
        mine = {"kty": "RSA", "use": "sig", **name, "n": b64url(n), "e": b64url(e)}
        return {"keys": [*ODD_KEYS, mine]}

    def authorize(self, asked: dict[str, str]) -> str:
        """Return where the browser goes, as if the person had agreed."""
        assert asked["response_type"] == "code"
        assert asked["client_id"] == CLIENT_ID
        assert asked["code_challenge_method"] == "S256"
        assert "openid" in asked["scope"].split()
        code = secrets.token_urlsafe(16)
        self.codes[code] = asked
        return f"{asked['redirect_uri']}?{urlencode({'code': code, 'state': asked['state']})}"

    def redeem(self, form: dict[str, str], authorization: str) -> tuple[int, dict[str, Any]]:
        given = b64decode(authorization.removeprefix("Basic ")).decode()
        if given != urlencode({"": CLIENT_ID})[1:] + ":" + urlencode({"": CLIENT_SECRET})[1:]:
            return 401, {"error": "invalid_client"}
        asked = self.codes.pop(form.get("code", ""), None)
        challenge = b64url(hashlib.sha256(form.get("code_verifier", "").encode()).digest())
        if (
            asked is None
            or asked["redirect_uri"] != form["redirect_uri"]
            or asked["code_challenge"] != challenge
        ):
            return 400, {"error": "invalid_grant"}
        if self.lie == "no token":
            return 200, {"id_token": {"a": [1]}, "access_token": [7]}
        return 200, {"access_token": "at", "token_type": "Bearer", "id_token": self.id_token(asked["nonce"])}

    def id_token(self, nonce: str) -> str:
        now = int(time.time())  # noqa: TID251 - a provider lives by its own clock
        claims = {
            "iss": self.issuer, "aud": CLIENT_ID, "iat": now, "exp": now + 300, "nonce": nonce, **self.claims,
        }  # fmt: skip
        lies: dict[str, dict[str, Any]] = {
            "nonce": {"nonce": "another"},
            "issuer": {"iss": "https://evil.example"},
            "audience": {"aud": "somebody-else"},
            "expired": {"exp": now - 3600, "iat": now - 7200},
        }
        claims.update(lies.get(self.lie, {}))
        if self.lie == "no nonce":
            del claims["nonce"]
        header: dict[str, Any] = {"alg": "none" if self.lie == "alg none" else "RS256", "typ": "JWT"}
        if self.kid:
            header["kid"] = [1] if self.lie == "kid list" else self.kid
        signed = f"{b64url(json.dumps(header).encode())}.{b64url(json.dumps(claims).encode())}"
        strangers = rsa.generate_private_key(65537, 2048)
        key = {"signature": strangers, "withdrawn key": self.earlier}.get(self.lie, self.key)
        signature = (
            b"" if self.lie == "alg none" else key.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256())
        )
        return f"{signed}.{b64url(signature)}"

    def render(self, body: dict[str, Any]) -> bytes:
        return b"[" * 100_000 if self.lie == "deep" and "id_token" in body else json.dumps(body).encode()

    def rotate(self, kid: str) -> None:
        self.earlier, self.key, self.kid = self.key, rsa.generate_private_key(65537, 2048), kid


def handler_of(provider: Provider) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            url = urlsplit(self.path)
            documents = {"/.well-known/openid-configuration": provider.metadata, "/keys": provider.keys}
            if url.path in documents:
                self.answer(200, documents[url.path]())
            elif url.path == "/userinfo":
                is_ours = self.headers["Authorization"] == "Bearer at"
                self.answer(200 if is_ours else 401, provider.userinfo)
            elif url.path == "/authorize":
                asked = {name: values[0] for name, values in parse_qs(url.query).items()}
                self.send_response(302)
                self.send_header("Location", provider.authorize(asked))
                self.end_headers()
            else:
                self.answer(404, {})

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            if self.path == "/token":
                form = {name: values[0] for name, values in parse_qs(body).items()}
                self.answer(*provider.redeem(form, self.headers.get("Authorization", "")))
            else:
                wanted = json.loads(body)
                provider.claims, provider.lie = wanted["claims"], wanted["lie"]
                provider.userinfo = wanted["userinfo"]
                if wanted["rotate"] is not None:
                    provider.rotate(wanted["rotate"])
                self.answer(200, {})

        def answer(self, status: int, body: dict[str, Any]) -> None:
            content = provider.render(body)
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    return Handler


def main(folder: Path) -> None:
    write_certificate(folder)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "provider.pem")
    server = ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    issuer = f"https://localhost:{server.server_address[1]}"
    server.RequestHandlerClass = handler_of(Provider(issuer))
    server.socket = context.wrap_socket(server.socket, server_side=True)
    print(issuer, flush=True)  # noqa: T201 - tells the test its address
    server.serve_forever()


def write_certificate(folder: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)  # noqa: TID251 - as above
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(Encoding.PEM)
    (folder / "provider-ca.pem").write_bytes(pem)
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (folder / "provider.pem").write_bytes(private + pem)


@dataclass
class RunningProvider:
    """The provider as a test sees it: its address, its root, and what it is told to say."""

    issuer: str
    ca_file: Path

    def say(
        self,
        claims: dict[str, Any],
        *,
        lie: str = "",
        rotate: str | None = None,
        userinfo: dict[str, Any] | None = None,
    ) -> None:
        """Vouch for a person of these claims from now on.

        Args:
            rotate: name of a new key that takes the place of the one before; "" for one without a name.
            userinfo: what the UserInfo endpoint says; there is none without.
        """
        pool = urllib3.PoolManager(ca_certs=str(self.ca_file))
        body = {"claims": claims, "lie": lie, "rotate": rotate, "userinfo": userinfo or {}}
        assert pool.request("POST", f"{self.issuer}/control", json=body).status == 200

    def visit(self, url: str) -> str:
        """Return where the provider sends the browser that comes to `url`."""
        pool = urllib3.PoolManager(ca_certs=str(self.ca_file))
        answer = pool.request("GET", url, redirect=False)
        assert answer.status == 302, answer.data
        return str(answer.headers["Location"])


@contextmanager
def running_provider(folder: Path) -> Iterator[RunningProvider]:
    folder.mkdir()
    command = [sys.executable, "-m", "support.openid_provider", str(folder)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[1]
    ) as process:
        try:
            assert process.stdout is not None
            yield RunningProvider(process.stdout.readline().strip(), folder / "provider-ca.pem")
        finally:
            process.terminate()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
