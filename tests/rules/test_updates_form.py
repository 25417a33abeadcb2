"""The form of a release, byte by byte: boundaries, headers, limits and junk."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetward.base.errors import InvalidInputError
from fleetward.features.updates.http.form import MAX_HEADER_BYTES, MAX_PARTS, FormReader
from support.form import BOUNDARY, KIND, body, part


class Sink:
    def __init__(self) -> None:
        self.fields: list[tuple[str, bytes]] = []

    def begin(self, name: str) -> None:
        self.fields.append((name, b""))

    def extend(self, content: bytes) -> None:
        name, before = self.fields[-1]
        self.fields[-1] = (name, before + content)


def read(content: bytes, *, kind: str = KIND, size: int = 1 << 16) -> list[tuple[str, bytes]]:
    sink = Sink()
    reader = FormReader(kind, sink)
    for start in range(0, len(content), size):
        reader.feed(content[start : start + size])
    reader.finish()
    return sink.fields


FORM = body(
    part("a", b"\r\n--b0undar"), part("b", b""), part("c", bytes(range(256))),
    part("d", b"x--b0undary--\r\n"), end=b"--b0undary--\r\nepilogue --b0undary\r\n",
)  # fmt: skip
FIELDS = [("a", b"\r\n--b0undar"), ("b", b""), ("c", bytes(range(256))), ("d", b"x--b0undary--\r\n")]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 1 << 16])
def test_a_form_is_the_same_however_it_is_cut(size: int) -> None:
    assert read(FORM, size=size) == FIELDS
    assert read(b"\r\n" + FORM, size=size) == FIELDS


@given(st.integers(0, len(FORM) - len(b"\r\nepilogue --b0undary\r\n") - 1))
def test_a_form_cut_short_is_refused(end: int) -> None:
    with pytest.raises(InvalidInputError, match=r"^form: "):
        read(FORM[:end])


@given(
    st.binary(max_size=400) | st.text('\r\n-:; ="b0undaryname', max_size=400).map(str.encode),
    st.integers(1, 9),
)
def test_a_form_of_junk_is_refused(content: bytes, size: int) -> None:
    with pytest.raises(InvalidInputError, match=r"^form: "):
        read(b"--b0undary\r\n" + content.replace(b"--b0undary--", b""), size=size)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("", "another type"), ("application/json", "another type"), ("multipart/form-data", "another type"),
        ("multipart/mixed; boundary=x", "another type"),
        ("multipart/form-data; boundary=", "RFC 2046 allows"),
        (f"multipart/form-data; boundary={'x' * 71}", "RFC 2046 allows"),
        ('multipart/form-data; boundary="a\x00b"', "RFC 2046 allows"),
        ("multipart/form-data; boundary*=utf-8''x", "another type"),
    ],
)  # fmt: skip
def test_another_content_type_is_refused(kind: str, message: str) -> None:
    with pytest.raises(InvalidInputError, match=rf"^request body: expected .*{message}|found another$"):
        FormReader(kind, Sink())


def test_a_boundary_may_be_as_long_as_it_may() -> None:
    for boundary in ("x", "x" * 70):
        content = (
            f'--{boundary}\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n--{boundary}--'.encode()
        )
        assert read(content, kind=f'Multipart/Form-Data; charset=utf-8; boundary="{boundary}"') == [
            ("a", b"1")
        ]


def test_a_form_has_as_many_parts_as_it_may() -> None:
    assert len(read(body(*[part("a", b"")] * MAX_PARTS))) == MAX_PARTS
    with pytest.raises(InvalidInputError, match=r"^form: expected at most 16 parts, found more$"):
        read(body(*[part("a", b"")] * (MAX_PARTS + 1)))


def test_headers_of_a_part_are_bounded_together() -> None:
    plain = len('Content-Dispositionform-data; name="a"') + 4
    room = MAX_HEADER_BYTES - plain - len("X") - 4
    assert read(body(part("a", b"1", "X: " + "y" * room), part("a", b"2", "X: " + "y" * room)))
    with pytest.raises(
        InvalidInputError, match=r"^form: expected at most 8192 bytes of headers, found more$"
    ):
        read(body(part("a", b"1", "X: " + "y" * (room + 1))))
    with pytest.raises(
        InvalidInputError, match=r"^form: expected at most 8192 bytes of headers, found more$"
    ):
        read(body(part("a", b"1", *[f"X{number}: y" for number in range(2000)])))


@pytest.mark.parametrize(
    ("head", "message"),
    [
        ("Content-Disposition: form-data", "expected a name for each part, found none"),
        ("Content-Disposition: attachment; name=a", "expected a name for each part, found none"),
        ("X: y", "expected a name for each part, found none"),
        (
            "Content-Disposition: form-data; name=a\r\nContent-Transfer-Encoding: base64",
            "found a transfer encoding",
        ),
        (
            "Content-Disposition: form-data; name=a\r\nContent-Type: Multipart/mixed; boundary=z",
            "found a multipart",
        ),
        (
            "Content-Disposition: form-data; name=a\r\ncontent-disposition: form-data; name=b",
            "found .* twice",
        ),
        (": y", "as RFC 7578 has them, found other bytes"),
        ("X\x00: y", "as RFC 7578 has them, found other bytes"),
        (" folded", "as RFC 7578 has them, found other bytes"),
    ],
)
def test_a_part_says_what_it_is_or_is_refused(head: str, message: str) -> None:
    with pytest.raises(InvalidInputError, match=rf"^form: .*{message}"):
        read(f"--{BOUNDARY}\r\n{head}\r\n\r\n1\r\n--{BOUNDARY}--".encode())
