"""Serves the built web console: its files as they are, its one page for every address people may open.

The files are built by `./dev` (or come with the wheel) and never change while the platform runs.
"""

import gzip
import mimetypes
from dataclasses import dataclass
from hashlib import sha256
from importlib.resources import files
from importlib.resources.abc import Traversable

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match, Route
from starlette.types import Scope

# What stays the API's and the relying parties': an unknown address there is an error, not a page.
_NOT_OURS = ("/api/", "/pki/", "/static/", "/watch/", "/.well-known/")
# Their names hold a hash of what is in them.
_HASHED = "assets/"
_FOREVER = "public, max-age=31536000, immutable"
_TYPES = {
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".svg": "image/svg+xml",
    ".woff2": "font/woff2",
}
_SMALLEST_TO_PACK = 1024
_INDEX = "index.html"
_NOT_BUILT = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Fleetward: the console is not built</title>
<h1>The platform runs; its console is not built</h1>
<p>In a checkout, <code>./dev up</code> and <code>./dev console</code> build it when npm can be reached.</p>
<p>Everything the console does, the command line does too: <code>fleetward --help</code>.</p>
</html>
"""


@dataclass(frozen=True)
class _File:
    content: bytes
    packed: bytes | None
    media_type: str
    etag: str
    is_hashed: bool


class ConsoleRoute(Route):
    """A route for every address that is not the API's; add it last.

    It declines the others instead of refusing them, so that their own 404 and 405 stand.
    """

    def __init__(self) -> None:
        """Read all files into memory: they are few, and are asked for often."""
        folder = files("fleetward.programs.server").joinpath("console")
        self._files = dict(_read_files(folder)) if folder.is_dir() else {}
        super().__init__("/{path:path}", self._serve, methods=["GET"], include_in_schema=False)

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        path = scope.get("path", "")
        if path.startswith(_NOT_OURS) or f"{path}/" in _NOT_OURS:
            return Match.NONE, {}
        return super().matches(scope)

    def _serve(self, request: Request) -> Response:
        path = request.path_params["path"]
        found = self._files.get(path)
        if found is None and path.startswith(_HASHED):
            return Response("Not found", status_code=404, media_type="text/plain")
        page = found or self._files.get(_INDEX)
        if page is None:
            return Response(_NOT_BUILT, 503, {"Cache-Control": "no-store"}, _TYPES[".html"])
        return _answer(request, page)


def _answer(request: Request, file: _File) -> Response:
    headers = {
        "Cache-Control": _FOREVER if file.is_hashed else "no-cache",
        "ETag": file.etag,
        "Vary": "Accept-Encoding",
    }
    if request.headers.get("if-none-match") == file.etag:
        return Response(status_code=304, headers=headers)
    content = file.content
    if file.packed is not None and "gzip" in request.headers.get("accept-encoding", ""):
        content, headers["Content-Encoding"] = file.packed, "gzip"
    return Response(content, headers=headers, media_type=file.media_type)


def _read_files(folder: Traversable, prefix: str = "") -> list[tuple[str, _File]]:
    found: list[tuple[str, _File]] = []
    for entry in folder.iterdir():
        if entry.name.startswith("."):  # how ./dev knows whether to build anew
            continue
        name = f"{prefix}{entry.name}"
        if entry.is_dir():
            found += _read_files(entry, f"{name}/")
        else:
            found.append((name, _load(name, entry.read_bytes())))
    return found


def _load(name: str, content: bytes) -> _File:
    suffix = f".{name.rpartition('.')[2]}"
    media_type = _TYPES.get(suffix) or mimetypes.guess_type(name)[0] or "application/octet-stream"
    packed = None
    if media_type.startswith(("text/", "image/svg")) and len(content) >= _SMALLEST_TO_PACK:
        packed = gzip.compress(content, mtime=0)
    etag = f'"{sha256(content).hexdigest()[:32]}"'
    return _File(content, packed, media_type, etag, is_hashed=name.startswith(_HASHED))
