"""The device's HTTPS client against real TLS servers: whom it trusts, when, and how it takes bad answers."""

import ssl
import time
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from fleetward.base.clock import SystemClock
from fleetward.base.errors import ConfigError, TooLargeError
from fleetward.outside.http.device import DeviceHttp, HttpFailedError
from support.agent_peers import Pki, answer, https_server
from support.authority import Authority
from support.clock import ManualClock

NOW = SystemClock().now()


@pytest.fixture
def pki(tmp_path: Path) -> Pki:
    return Pki(tmp_path, at=NOW)


def hello(request: BaseHTTPRequestHandler) -> None:
    answer(request, 200, b"hello", X_Seen=request.command)


def test_it_speaks_to_the_pinned_platform_and_keeps_the_connection(pki: Pki) -> None:
    with https_server(pki.server_context(), hello) as url:
        http = DeviceHttp(url, pki.root_file)
        for method in ("GET", "POST"):
            got = http.request(method, "/x", body=b"b" if method == "POST" else b"")
            assert (got.status, got.body, got.headers["x-seen"]) == (200, b"hello", method)
        http.close()


def ports_of(http: DeviceHttp, *paths: str) -> list[str]:
    """Return from which port each request came."""
    return [http.request("GET", path).headers["x-port"] for path in paths]


def test_one_connection_serves_until_it_is_forgotten_or_the_server_ends_it(pki: Pki) -> None:
    def tell_port(request: BaseHTTPRequestHandler) -> None:
        request.close_connection = request.path == "/last"
        if request.path == "/chunked":
            request.send_response(200)
            request.send_header("X-Port", str(request.client_address[1]))
            request.send_header("Transfer-Encoding", "chunked")
            request.end_headers()
            request.wfile.write(b"5\r\nhello\r\n1\r\n!\r\n0\r\n\r\n")
        elif request.path == "/silent-end":
            answer(request, 200, b"x", X_Port=str(request.client_address[1]))
            request.close_connection = True
        else:
            ending = {"Connection": "close"} if request.path == "/last" else {}
            answer(request, 200, b"", X_Port=str(request.client_address[1]), **ending)

    with https_server(pki.server_context(), tell_port) as url:
        http = DeviceHttp(url, pki.root_file)
        assert http.request("GET", "/chunked").body == b"hello!"
        first = ports_of(http, "/", "/chunked", "/", "/silent-end")
        assert len(set(first)) == 1
        time.sleep(0.2)  # the server's end of it arrives
        second = ports_of(http, "/", "/last")
        assert len({*first, *second}) == 2
        third = ports_of(http, "/", "/")
        http.forget()
        assert len({*second, *third, *ports_of(http, "/")}) == 3
        http.close()


def test_a_key_s_connections_are_its_own(pki: Pki) -> None:
    with https_server(
        pki.server_context(), lambda r: answer(r, 200, b"", X_Port=str(r.client_address[1]))
    ) as url:
        http = DeviceHttp(url, pki.root_file)
        [anonymous] = ports_of(http, "/")
        named = http.request("GET", "/", identity=pki.identity()).headers["x-port"]
        assert named != anonymous
        http.forget("cam-1")
        assert http.request("GET", "/", identity=pki.identity()).headers["x-port"] != named
        assert ports_of(http, "/") == [anonymous]
        http.close()


def test_two_at_once_get_a_connection_each(pki: Pki) -> None:
    with https_server(pki.server_context(), hello) as url:
        http = DeviceHttp(url, pki.root_file)
        with http.download("/a") as first, http.download("/b") as second:
            assert b"".join(first.chunks) + b"".join(second.chunks) == b"hellohello"
        http.close()


@pytest.mark.parametrize(
    "junk",
    [b"\0\xff" * 50 + b"\r\n\r\n", b"HTTP/1.1 abc\r\n\r\n", b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 200,
     b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70_000, b"",
     b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"],
)  # fmt: skip
def test_a_server_that_speaks_no_http_is_a_failure(pki: Pki, junk: bytes) -> None:
    def blurt(request: BaseHTTPRequestHandler) -> None:
        request.wfile.write(junk)
        request.close_connection = True

    with https_server(pki.server_context(), blurt) as url, pytest.raises(HttpFailedError):
        DeviceHttp(url, pki.root_file).request("GET", "/")


def test_another_root_is_refused_and_nothing_else_suspected(pki: Pki, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = Pki(tmp_path / "other", at=NOW)
    with https_server(pki.server_context(), hello) as url:
        with pytest.raises(HttpFailedError) as failed:
            DeviceHttp(url, other.root_file).request("GET", "/")
        assert not failed.value.is_clock_suspect
        assert not failed.value.is_certificate_refused


def test_another_name_is_refused(pki: Pki) -> None:
    with https_server(pki.server_context(), hello) as url:
        odd = url.replace("localhost", "127.0.0.2")
        with pytest.raises(HttpFailedError):
            DeviceHttp(odd, pki.root_file).request("GET", "/")


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
def test_old_tls_is_refused(pki: Pki, version: ssl.TLSVersion) -> None:
    context = pki.server_context()
    with pytest.warns(DeprecationWarning, match="TLS"):
        context.minimum_version = context.maximum_version = version
    context.set_ciphers("ALL:@SECLEVEL=0")
    with https_server(context, hello) as url, pytest.raises(HttpFailedError):
        DeviceHttp(url, pki.root_file).request("GET", "/")


@pytest.mark.parametrize("at", [NOW - timedelta(days=30), NOW + timedelta(days=30)])
def test_wrong_dates_make_the_clock_suspect_unless_dates_are_not_checked(
    tmp_path: Path, at: datetime
) -> None:
    pki = Pki(tmp_path, at=at)
    with https_server(pki.server_context(), hello) as url:
        http = DeviceHttp(url, pki.root_file)
        with pytest.raises(HttpFailedError) as failed:
            http.request("GET", "/")
        assert failed.value.is_clock_suspect
        assert http.request("GET", "/v1/time", is_time_unchecked=True).status == 200
        http.correct_clock(ManualClock(at + timedelta(minutes=1)))
        assert http.request("GET", "/").status == 200
        http.close()


def test_a_corrected_clock_still_refuses_what_has_expired(pki: Pki) -> None:
    with https_server(pki.server_context(), hello) as url:
        http = DeviceHttp(url, pki.root_file)
        for wrong in (NOW + timedelta(days=2), NOW - timedelta(days=2)):
            http.correct_clock(ManualClock(wrong.astimezone(UTC)))
            with pytest.raises(HttpFailedError) as failed:
                http.request("GET", "/")
            assert failed.value.is_clock_suspect


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_client_certificate_is_shown_and_its_refusal_told(pki: Pki, version: ssl.TLSVersion) -> None:
    context = pki.server_context(is_client_asked=True)
    context.minimum_version = context.maximum_version = version
    with https_server(context, hello) as url:
        http = DeviceHttp(url, pki.root_file)
        assert http.request("GET", "/", identity=pki.identity()).status == 200
        stranger = pki.identity("stranger", Authority("somebody else"))
        with pytest.raises(HttpFailedError) as failed:
            http.request("GET", "/", identity=stranger)
        assert failed.value.is_certificate_refused
        http.close()


def test_a_refusal_and_its_retry_after_are_an_answer(pki: Pki) -> None:
    with https_server(pki.server_context(), lambda r: answer(r, 429, b"slow", Retry_After="7")) as url:
        http = DeviceHttp(url, pki.root_file)
        got = http.request("GET", "/")
        assert (got.status, got.headers["retry-after"]) == (429, "7")
        http.close()


def test_a_redirect_is_not_followed(pki: Pki) -> None:
    with https_server(pki.server_context(), lambda r: answer(r, 302, b"", Location="/else")) as url:
        http = DeviceHttp(url, pki.root_file)
        assert http.request("GET", "/").status == 302
        http.close()


def test_an_answer_over_its_limit_is_not_read_to_the_end(pki: Pki) -> None:
    long = https_server(pki.server_context(), lambda r: answer(r, 200, b"x" * 10_000_000))
    with long as url, pytest.raises(TooLargeError):
        DeviceHttp(url, pki.root_file).request("GET", "/", max_bytes=1000)


def test_an_answer_cut_short_is_a_failure(pki: Pki) -> None:
    def cut(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.send_header("Content-Length", "1000")
        request.end_headers()
        request.wfile.write(b"only this")
        request.close_connection = True

    with https_server(pki.server_context(), cut) as url, pytest.raises(HttpFailedError):
        DeviceHttp(url, pki.root_file).request("GET", "/")


def test_nobody_there_is_a_failure(pki: Pki) -> None:
    with https_server(pki.server_context(), hello) as url:
        pass
    with pytest.raises(HttpFailedError):
        DeviceHttp(url, pki.root_file).request("GET", "/")


def test_a_download_resumes_where_it_stopped(pki: Pki) -> None:
    content = bytes(range(256)) * 1000

    def ranged(request: BaseHTTPRequestHandler) -> None:
        start = int(request.headers.get("Range", "bytes=0-").removeprefix("bytes=").rstrip("-"))
        answer(request, 206 if start else 200, content[start:])

    with https_server(pki.server_context(), ranged) as url:
        http = DeviceHttp(url, pki.root_file)
        with http.download("/image") as download:
            got = next(download.chunks)
        with http.download("/image", offset=len(got)) as download:
            assert download.status == 206
            got += b"".join(download.chunks)
        assert got == content
        http.close()


def test_a_file_without_certificates_is_named(tmp_path: Path) -> None:
    (tmp_path / "root.pem").write_text("junk")
    with pytest.raises(ConfigError, match="root"):
        DeviceHttp("https://localhost:1", tmp_path / "root.pem").request("GET", "/")
