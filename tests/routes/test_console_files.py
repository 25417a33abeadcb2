"""How the console's files are served, and what happens where none were built."""

from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from fleetward.programs.server import console
from fleetward.programs.server.console import ConsoleRoute
from support.asgi import AsgiClient

_SCRIPT = "export const fleet = 1;\n" * 100


async def _known(_request: Request) -> Response:
    return Response("known")


def _serve(folder: Path, monkeypatch: pytest.MonkeyPatch) -> AsgiClient:
    monkeypatch.setattr(console, "files", lambda _package: folder)
    routes = [Route("/api/v1/known", _known, methods=["POST"]), ConsoleRoute()]
    return AsgiClient(Starlette(routes=routes))


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsgiClient:
    assets = tmp_path / "console" / "assets"
    assets.mkdir(parents=True)
    (tmp_path / "console" / "index.html").write_text("<!doctype html><title>Fleetward</title>")
    (assets / "index-Ab12.js").write_text(_SCRIPT)
    (assets / "letters-Cd34.woff2").write_bytes(b"wOF2")
    return _serve(tmp_path, monkeypatch)


@pytest.mark.parametrize("path", ["/", "/devices/cam-1", "/operators", "/setup"])
def test_every_address_of_the_console_is_its_one_page(client: AsgiClient, path: str) -> None:
    answer = client.get(path)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert answer.headers["cache-control"] == "no-cache"
    again = client.get(path, headers={"if-none-match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


def test_a_file_with_a_hash_in_its_name_is_kept_for_ever(client: AsgiClient) -> None:
    answer = client.get("/assets/index-Ab12.js")
    assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert answer.headers["content-type"] == "text/javascript; charset=utf-8"
    assert client.get("/assets/letters-Cd34.woff2").headers["content-type"] == "font/woff2"


def test_scripts_travel_packed_to_those_who_take_it(client: AsgiClient) -> None:
    packed = client.get("/assets/index-Ab12.js", headers={"accept-encoding": "gzip"})
    assert packed.headers["content-encoding"] == "gzip"
    assert int(packed.headers["content-length"]) < len(_SCRIPT) / 4
    assert packed.text == _SCRIPT
    plain = client.get("/assets/index-Ab12.js", headers={"accept-encoding": "identity"})
    assert "content-encoding" not in plain.headers
    assert plain.text == _SCRIPT


@pytest.mark.parametrize("path", ["/assets/gone-Ef56.js", "/api/v1/nothing", "/pki/nothing", "/api"])
def test_what_is_missing_elsewhere_stays_missing(client: AsgiClient, path: str) -> None:
    assert client.get(path).status_code == 404


def test_a_wrong_method_of_the_api_is_not_taken_for_a_page(client: AsgiClient) -> None:
    assert client.get("/api/v1/known").status_code == 405


def test_nothing_outside_the_folder_is_served(client: AsgiClient) -> None:
    assert "root:" not in client.get("/assets/..%2f..%2f..%2f..%2fetc/passwd").text


def test_a_platform_without_console_says_how_to_build_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = _serve(tmp_path, monkeypatch).get("/")
    assert answer.status_code == 503
    assert "./dev console" in answer.text
