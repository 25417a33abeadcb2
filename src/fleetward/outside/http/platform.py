"""The platform's HTTP API, as an operator's program uses it."""

import ipaddress
import json
import ssl
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import urllib3

from fleetward.base import errors
from fleetward.base.layout import DataFolder

_HTTPS_PORT = 443
_LOOPBACK = "127.0.0.1"
_STEP_UP = "step_up_required"
_TIMEOUT = urllib3.Timeout(connect=5, read=60)
_ERROR_OF = {
    kind.code: kind
    for kind in (
        errors.InvalidInputError,
        errors.TooLargeError,
        errors.UnauthenticatedError,
        errors.ForbiddenError,
        errors.NotFoundError,
        errors.ConflictError,
        errors.RateLimitedError,
        errors.UnavailableError,
    )
}


def _named_error(code: str) -> type[errors.FleetwardError]:
    """Return our class for a code of the platform; a code we do not know gets a class of its own."""
    return _ERROR_OF.get(code) or type("PlatformError", (errors.FleetwardError,), {"code": code})


class Api:
    """One platform, reached as its operator; with token None as a stranger."""

    def __init__(
        self,
        url: str,
        token: str | None,
        ca_file: Path | None,
        *,
        step_up: Callable[[], str | None] | None = None,
        address: str | None = None,
    ) -> None:
        """Verify the platform by `ca_file`, or by the system's roots.

        Args:
            step_up: asked for a token whose owner has just given two factors, when a request needs one; None
                from it, or none here, lets the refusal stand.
            address: where to connect to, instead of asking DNS for the name in `url`; that is verified.

        Raises:
            ConfigError: the root cannot be read.
        """
        try:
            context = ssl.create_default_context(cafile=None if ca_file is None else str(ca_file))
        except OSError as error:  # ssl.SSLError is one
            raise errors.ConfigError(
                f"{ca_file}: expected the platform's root certificate, found it unreadable",
                hint="It is ca/ca-bundle.pem in the platform's data folder.",
            ) from error
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        self.url = url.rstrip("/")
        self.ca_file = ca_file
        self._headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        self._base = self.url
        pool: dict[str, Any] = {"ssl_context": context, "timeout": _TIMEOUT, "retries": False}
        if address is not None:
            parts = urlsplit(self.url)
            host = f"[{address}]" if ":" in address else address
            self._base = f"https://{host}:{parts.port or _HTTPS_PORT}"
            pool |= {"server_hostname": parts.hostname, "assert_hostname": parts.hostname}
            self._headers["Host"] = parts.netloc
        self._step_up = step_up
        self._pool = urllib3.PoolManager(**pool)

    def get(self, path: str, **query: object) -> Any:
        """Return the JSON of `/api/v1<path>`. Raises FleetwardError as the platform names it."""
        return self._ask("GET", path, query=query)

    def get_bytes(self, path: str) -> bytes:
        """Return the body of `/api/v1<path>` as it came."""
        return self._request("GET", path).data

    def post(self, path: str, body: object = None) -> Any:
        return self._ask("POST", path, body=body)

    def put(self, path: str, body: object = None) -> Any:
        return self._ask("PUT", path, body=body)

    def delete(self, path: str) -> Any:
        return self._ask("DELETE", path)

    def send(self, path: str, content: bytes, *, content_type: str) -> Any:
        """Post raw bytes, e.g. a shipment manifest."""
        response = self._request("POST", path, body=content, headers={"Content-Type": content_type})
        return _json_of(response)

    def post_form(self, path: str, fields: dict[str, str]) -> Any:
        """Post a form as OAuth clients do (RFC 6749); its errors are raised by their names there."""
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        return _json_of(self._request("POST", path, body=urlencode(fields).encode(), headers=headers))

    def post_multipart(self, path: str, fields: dict[str, Any]) -> Any:
        """Post a form with files: values are texts or (file name, bytes, content type)."""
        response = self._request("POST", path, fields=fields)
        return _json_of(response)

    def stream(self, path: str, **query: object) -> Iterator[dict[str, Any]]:
        """Yield the JSON objects of a server-sent event stream until it ends."""
        response = self._request("GET", path, query=query, preload_content=False,
                                 timeout=urllib3.Timeout(connect=5, read=None))  # fmt: skip
        for raw in _lines(response):
            if raw.startswith(b"data: "):
                yield json.loads(raw[6:])

    def _ask(
        self, method: str, path: str, *, query: dict[str, object] | None = None, body: object = None
    ) -> Any:
        headers = {"Content-Type": "application/json"}
        content = None if body is None else json.dumps(body).encode()
        return _json_of(self._request(method, path, query=query, body=content, headers=headers))

    def _request(
        self,
        method: str,
        path: str,
        *,
        query: dict[str, object] | None = None,
        headers: dict[str, str] | None = None,
        **more: Any,
    ) -> urllib3.BaseHTTPResponse:
        given = {name: str(value) for name, value in (query or {}).items() if value is not None}
        url = f"{self._base}/api/v1{path}"
        if given:
            url += "?" + urlencode(given)
        try:
            response = self._pool.request(method, url, headers={**self._headers, **(headers or {})}, **more)
        except urllib3.exceptions.SSLError as error:
            raise errors.UnavailableError(
                f"{self.url}: expected a certificate of the platform's root, found another",
                hint="Give the right root with --ca-file, or the data folder with --data.",
            ) from error
        except urllib3.exceptions.HTTPError as error:
            raise errors.UnavailableError(
                f"{self.url}: expected the platform to answer, found nobody there",
                hint="Start it: fleetward up --data DIR",
            ) from error
        if response.status < 400:  # noqa: PLR2004 - HTTP's own line between good and bad
            return response
        refused = _error_of(response)
        token = self._step_up() if refused.code == _STEP_UP and self._step_up is not None else None
        if token is None:
            raise refused
        self._headers["Authorization"], self._step_up = f"Bearer {token}", None
        return self._request(method, path, query=query, headers=headers, **more)


def find_platform(path: Path) -> Api:
    """Return the platform that runs from the data folder `path`, reached as its administrator.

    Raises:
        ConfigError: `path` is no data folder.
        CorruptDataError: its ready.json is damaged.
        UnavailableError: nothing runs from it.
    """
    folder = DataFolder(path)
    folder.check()
    if not folder.ready.is_file():
        raise errors.UnavailableError(
            f"{folder.path}: expected a running platform, found none",
            hint=f"Start it: fleetward up --data {folder.path}",
        )
    try:
        ready = json.loads(folder.ready.read_bytes())
        url, ca_file = str(ready["console"]), Path(ready["ca_file"])
    except (ValueError, KeyError, TypeError) as error:
        raise errors.CorruptDataError(
            f"{folder.ready}: expected where the platform listens, found something else",
            hint=f"Start the platform again, it writes it anew: fleetward up --data {folder.path}",
        ) from error
    return Api(url, folder.admin_token.read_text().strip(), ca_file, address=_local_address(folder))


def _local_address(folder: DataFolder) -> str:
    """Return the address at which this machine itself reaches the listeners, whatever its DNS says.

    Raises:
        ConfigError: the settings cannot be read.
    """
    try:
        listen = ipaddress.ip_address(tomllib.loads(folder.config.read_text()).get("listen", _LOOPBACK))
    except (OSError, ValueError) as error:
        raise errors.ConfigError(
            f"{folder.config}: expected the platform's settings, found: {error}"
        ) from error
    if not listen.is_unspecified:
        return str(listen)
    return str(ipaddress.IPv6Address(1)) if isinstance(listen, ipaddress.IPv6Address) else _LOOPBACK


def _json_of(response: urllib3.BaseHTTPResponse) -> Any:
    return json.loads(response.data) if response.data else None


def _lines(response: urllib3.BaseHTTPResponse) -> Iterator[bytes]:
    rest = b""
    while chunk := response.read1():
        *whole, rest = (rest + chunk).split(b"\n")
        yield from whole


def _error_of(response: urllib3.BaseHTTPResponse) -> errors.FleetwardError:
    try:
        body = json.loads(response.data)
        if "error" in body:  # RFC 6749 section 5.2
            return _named_error(str(body["error"]))(str(body["error_description"]))
        code, detail, hint = body["code"], body["detail"], body.get("hint", "")
    except (ValueError, KeyError, TypeError):
        return errors.UnavailableError(
            f"platform: expected an answer of its API, found status {response.status}"
        )
    return _named_error(str(code))(detail, hint=hint)
