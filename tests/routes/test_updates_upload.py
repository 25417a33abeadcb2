"""Releases as they come in, through the whole route: limits, junk, errors, and memory."""

import random
import tracemalloc
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleetward.base.web import PROBLEM_TYPE
from fleetward.features.updates.http.form import FormReader
from fleetward.features.updates.http.upload import _FLUSH_BYTES, _Form
from support.clock import ManualClock
from support.form import KIND, body, part
from support.real_apps import RealApps
from support.updates import SBOM

IMAGE = bytes(range(256)) * 64


def whole(image: bytes = IMAGE, *more: bytes) -> bytes:
    return body(
        part("model", b"cam"), part("version", b"1.0.0"), part("sbom", SBOM), part("image", image), *more
    )


@pytest.fixture(scope="module")
def apps(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealApps]:
    made = RealApps(tmp_path_factory.mktemp("upload"), ManualClock(datetime(2026, 6, 1, 12, tzinfo=UTC)))
    made.add_model("cam")
    yield made
    made.close()


def send(apps: RealApps, content: bytes, kind: str = KIND) -> httpx.Response:
    return apps.operator("POST", "/releases", content=content, headers={"Content-Type": kind})


def uploads(apps: RealApps) -> list[Path]:
    return list(apps.rooms.updates.uploads.iterdir())


NESTED = part("image", b"x", "Content-Type: multipart/mixed; boundary=z")
REFUSED = {
    "cut": whole()[:-9],
    "wrong boundary": whole().replace(b"--b0undary", b"--0therboundary"),
    "no boundary at all": b"model=cam",
    "preamble": b"hello\r\n" + whole(),
    "huge header": part("model", b"cam", "X: " + "y" * 100_000),
    "endless header": b"--b0undary\r\nX: " + b"y" * 3_000_000,
    "endless header name": b"--b0undary\r\n" + b"y" * 3_000_000,
    "many headers": part("model", b"cam", *[f"X{number}: y" for number in range(50_000)]),
    "many fields": body(*[part("model", b"cam")] * 1000),
    "field twice": whole(IMAGE, part("model", b"cam")),
    "unknown field": whole(IMAGE, part("colour", b"red")),
    "NUL in a name": whole(IMAGE, part("mo\x00del", b"cam")),
    "NUL in a text": whole().replace(b"1.0.0", b"1.\x000"),
    "not UTF-8": whole().replace(b"1.0.0", b"\xff\xfe"),
    "nested multipart": body(part("model", b"cam"), NESTED),
    "field missing": body(part("model", b"cam"), part("version", b"1.0.0"), part("image", IMAGE)),
    "counter of words": whole(IMAGE, part("security_counter", b"one")),
    "counter of other digits": whole(IMAGE, part("security_counter", "²".encode())),
    "sbom of junk": whole().replace(SBOM, b"[" * 5000),
}  # fmt: skip


@pytest.mark.parametrize("content", REFUSED.values(), ids=REFUSED.keys())
def test_a_bad_form_is_a_bad_request_and_leaves_nothing(apps: RealApps, content: bytes) -> None:
    before = apps.operator("GET", "/releases").json()
    answer = send(apps, content)
    assert (answer.status_code, answer.headers["content-type"]) == (400, PROBLEM_TYPE), answer.text
    assert answer.json()["code"] == "invalid_input"
    assert uploads(apps) == []
    assert apps.operator("GET", "/releases").json() == before


@pytest.mark.parametrize("name", ["model", "version", "security_counter"])
@pytest.mark.parametrize(("size", "status"), [(256, (400, 404)), (257, (413,))])
def test_a_text_is_bounded(apps: RealApps, name: str, size: int, status: tuple[int, ...]) -> None:
    fields = {"model": b"cam", "version": b"1.0.0", "security_counter": b"7"} | {name: b"9" * size}
    content = body(*[part(*one) for one in fields.items()], part("sbom", SBOM), part("image", IMAGE))
    assert send(apps, content).status_code in status
    assert uploads(apps) == []


@settings(max_examples=150, deadline=None)
@given(st.randoms(use_true_random=False))
def test_a_changed_form_publishes_what_it_says_or_nothing(apps: RealApps, dice: random.Random) -> None:
    content = bytearray(whole())
    for _ in range(dice.randint(1, 4)):
        at = dice.randrange(len(content))
        match dice.randrange(3):
            case 0:
                content[at] = dice.randrange(256)
            case 1:
                del content[at : at + dice.randint(1, 300)]
            case _:
                content[at:at] = dice.choice([b"\r\n", b"--b0undary", b"\r\n--b0undary\r\n", b"\x00", b"--"])
    status = send(apps, bytes(content)).status_code
    assert status in (201, 400, 404, 409, 413)
    assert uploads(apps) == []


def test_an_upload_lies_on_disk_and_not_in_memory(tmp_path: Path) -> None:
    """64 MiB go through parser and form; memory holds a flush of them, wherever chunks end."""
    chunk = b"\r\n--b0undar" * 6_000
    tracemalloc.start()
    try:
        with (tmp_path / "image").open("wb") as file:
            form = _Form(file, 1 << 40)
            reader = FormReader(KIND, form)
            reader.feed(part("image", b"")[:-2])
            for _ in range(1024):
                reader.feed(chunk)
                if form.is_full:
                    form.flush()
            reader.feed(b"\r\n--b0undary--")
            reader.finish()
            form.flush()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (tmp_path / "image").stat().st_size == 1024 * len(chunk)
    assert peak < 4 * _FLUSH_BYTES
