"""The platform's HTTP API, as the command line uses it."""

import json
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import urllib3

from fleetward.base import errors
from fleetward.base.layout import DataFolder

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


class ServerError(errors.FleetwardError):
    """An answer of the platform that names a code of its own."""

    def __init__(self, code: str, message: str, *, hint: str = "", **details: object) -> None:
        super().__init__(message, hint=hint, **details)
        self.code = code  # type: ignore[misc] - the server says which


class Api:
    """One platform, reached as its operator."""

    def __init__(self, url: str, token: str, ca_file: Path | None) -> None:
        context = ssl.create_default_context(cafile=None if ca_file is None else str(ca_file))
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        self.url = url.rstrip("/")
        self.ca_file = ca_file
        self._headers = {"Authorization": f"Bearer {token}"}
        self._pool = urllib3.PoolManager(ssl_context=context, timeout=_TIMEOUT, retries=False)

    def get(self, path: str, **query: object) -> Any:
        """Return the JSON of `/api/v1<path>`. Raises FleetwardError as the platform names it."""
        return self._ask("GET", path, query=query)

    def post(self, path: str, body: object = None) -> Any:
        return self._ask("POST", path, body=body)

    def put(self, path: str, body: object = None) -> Any:
        return self._ask("PUT", path, body=body)

    def send(self, path: str, content: bytes, *, content_type: str) -> Any:
        """Post raw bytes, e.g. a shipment manifest."""
        response = self._request("POST", path, body=content, headers={"Content-Type": content_type})
        return _json_of(response)

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

    def _ask(self, method: str, path: str, *, query: dict[str, object] | None = None, body: object = None) -> Any:
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
        url = f"{self.url}/api/v1{path}"
        if given:
            url += "?" + urllib3.request.urlencode(given)
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
        if response.status >= 400:  # noqa: PLR2004 - HTTP's own line between good and bad
            raise _error_of(response)
        return response


def connect(ctx: click.Context) -> Api:
    """Return the platform that the command line names by `--data`, or `--server` and `--token`.

    Raises:
        ConfigError: neither is given, or the folder has no running platform.
    """
    settings = ctx.find_root().obj
    if settings["server"]:
        if not settings["token"]:
            raise errors.ConfigError("--server: expected a token too, found none", hint="Set FLEETWARD_TOKEN.")
        return Api(settings["server"], settings["token"], settings["ca_file"])
    if settings["data"] is None:
        raise errors.ConfigError(
            "platform: expected --data DIR or --server URL, found neither",
            hint="Example: fleetward --data ./data device list",
        )
    folder = DataFolder(settings["data"])
    folder.check()
    if not folder.ready.is_file():
        raise errors.UnavailableError(
            f"{folder.path}: expected a running platform, found none",
            hint=f"Start it: fleetward up --data {folder.path}",
        )
    ready = json.loads(folder.ready.read_text())
    token = folder.admin_token.read_text().strip()
    return Api(ready["console"], token, Path(ready["ca_file"]))


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
        code, detail, hint = body["code"], body["detail"], body.get("hint", "")
    except (ValueError, KeyError, TypeError):
        return errors.UnavailableError(f"platform: expected an answer of its API, found status {response.status}")
    kind = _ERROR_OF.get(code)
    return kind(detail, hint=hint) if kind else ServerError(code, detail, hint=hint)
