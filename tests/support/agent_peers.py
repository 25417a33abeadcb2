"""The far sides of a device's connections: an HTTPS server with a test's own handlers, and a plain broker."""

import http.server
import json
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from fleetward.outside.nats.config import BrokerSettings
from fleetward.outside.nats.server import find_program
from fleetward.outside.tls.client import TlsIdentity
from support.authority import Authority
from support.ports import free_ports

Handler = Callable[[http.server.BaseHTTPRequestHandler], None]
LOCAL_NAMES = (x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1")))


class Pki:
    """A root, a server certificate and client certificates in files."""

    def __init__(self, folder: Path, *, at: datetime, lifetime: timedelta = timedelta(days=1)) -> None:
        self.folder, self.at = folder, at
        self.root = Authority("root")
        self.root_file = folder / "root.pem"
        self.root_file.write_bytes(self.root.certificate.public_bytes(Encoding.PEM))
        self.server = self.root.issue_files(
            folder, "localhost", ExtendedKeyUsageOID.SERVER_AUTH, at=at, lifetime=lifetime, names=LOCAL_NAMES
        )

    def identity(
        self, name: str = "cam-1", authority: Authority | None = None, *, age: timedelta = timedelta()
    ) -> TlsIdentity:
        chain, key = (authority or self.root).issue_files(
            self.folder, name, ExtendedKeyUsageOID.CLIENT_AUTH, at=self.at - age
        )
        return TlsIdentity(name, lambda context: context.load_cert_chain(chain, key))

    def server_context(self, *, is_client_asked: bool = False) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*self.server)
        if is_client_asked:
            context.load_verify_locations(self.root_file)
            context.verify_mode = ssl.CERT_REQUIRED
        return context


@contextmanager
def https_server(context: ssl.SSLContext, handler: Handler) -> Iterator[str]:
    """Serve every request by `handler`; yields the server's URL."""

    class _Requests(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            handler(self)

        do_POST = do_GET  # noqa: N815 - the library's naming

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            del format, args

    class _Server(http.server.ThreadingHTTPServer):
        daemon_threads = True

        def finish_request(self, request: object, client_address: object) -> None:
            try:
                with context.wrap_socket(request, server_side=True) as secure:  # type: ignore[arg-type]
                    secure.settimeout(10)
                    super().finish_request(secure, client_address)
            except OSError:
                return

        def handle_error(self, request: object, client_address: object) -> None:
            del request, client_address

    server = _Server(("127.0.0.1", 0), _Requests)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"https://localhost:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def answer(request: http.server.BaseHTTPRequestHandler, status: int, body: bytes, **headers: str) -> None:
    """Answer whole, with headers named with `_` for `-`."""
    request.send_response(status)
    for name, value in headers.items():
        request.send_header(name.replace("_", "-"), value)
    request.send_header("Content-Length", str(len(body)))
    request.end_headers()
    request.wfile.write(body)


def broker_settings(folder: Path, certificate: Path, key: Path, device_ca: Path) -> BrokerSettings:
    """Return settings with ports that are free now."""
    return BrokerSettings(
        folder=folder / "nats",
        mqtt_listen=("127.0.0.1", free_ports()),
        nats_listen=("127.0.0.1", free_ports()),
        certificate=certificate,
        private_key=key,
        device_ca=device_ca,
        log_file=folder / "nats.log",
    )


class PlainBroker:
    """nats-server with mutual TLS and no policy of ours. It keeps its streams over a kill and a restart."""

    def __init__(self, settings: BrokerSettings) -> None:
        self.settings = settings
        self._process: subprocess.Popen[bytes] | None = None
        quoted = {name: json.dumps(str(value)) for name, value in {
            "mqtt": f"127.0.0.1:{self.mqtt_port}", "nats": f"127.0.0.1:{self.nats_port}",
            "cert": settings.certificate, "key": settings.private_key, "ca": settings.device_ca,
            "streams": settings.folder / "streams",
        }.items()}  # fmt: skip
        settings.folder.mkdir(exist_ok=True)
        settings.config_file.write_text(
            f"server_name: test\nlisten: {quoted['nats']}\njetstream {{ store_dir: {quoted['streams']} }}\n"
            f'mqtt {{ listen: {quoted["mqtt"]}, ack_wait: "1s"\n'
            f" tls {{ cert_file: {quoted['cert']}, key_file: {quoted['key']}, "
            f"ca_file: {quoted['ca']}, verify: true }} }}\n"
        )

    @property
    def mqtt_port(self) -> int:
        return self.settings.mqtt_listen[1]

    @property
    def nats_port(self) -> int:
        return self.settings.nats_listen[1]

    def start(self) -> None:
        with self.settings.log_file.open("ab") as log:
            start = log.tell()
            self._process = subprocess.Popen(
                [find_program(), "-c", str(self.settings.config_file)], stdout=log, stderr=log
            )
        deadline = time.monotonic() + 20
        while b"Server is ready" not in self.settings.log_file.read_bytes()[start:]:
            if time.monotonic() > deadline or self._process.poll() is not None:
                pytest.fail(f"nats-server did not start: {self.settings.log_file.read_text()}")
            time.sleep(0.02)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
