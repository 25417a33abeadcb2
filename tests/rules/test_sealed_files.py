"""What a sealed file promises: the content, whole, to who has the passphrase, and nothing else to anybody."""

import io
import tarfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleetward.base.errors import CorruptDataError
from fleetward.outside.sealed.age import PIECE_BYTES, SealedReader, SealedWriter, WrongPassphraseError
from fleetward.outside.sealed.archive import ArchiveWriter, read_archive, verify_archive

PHRASE = b"correct horse battery"
_CHEAP = 1


def seal(content: bytes) -> bytes:
    file = io.BytesIO()
    writer = SealedWriter(file, PHRASE, log_work=_CHEAP)
    for start in range(0, len(content), 50_000):
        writer.write(content[start : start + 50_000])
    writer.finish()
    return file.getvalue()


def unseal(sealed: bytes, phrase: bytes = PHRASE) -> bytes:
    reader = SealedReader(io.BytesIO(sealed), phrase)
    content = b"".join(iter(lambda: reader.read(70_000), b""))
    assert reader.is_at_end
    return content


def pieces_of(sealed: bytes) -> tuple[bytes, list[bytes]]:
    start = sealed.index(b"\n", sealed.index(b"\n---") + 1) + 17
    step = PIECE_BYTES + 16
    return sealed[:start], [sealed[at : at + step] for at in range(start, len(sealed), step)]


def archive(files: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    writer = ArchiveWriter(file, PHRASE, log_work=_CHEAP)
    for name, content in files.items():
        writer.add(name, content)
    writer.finish()
    return file.getvalue()


def read(sealed: bytes) -> dict[str, bytes]:
    return {one.name: b"".join(one.read()) for one in read_archive(io.BytesIO(sealed), PHRASE)}


@pytest.mark.parametrize("size", [0, 1, PIECE_BYTES - 1, PIECE_BYTES, PIECE_BYTES + 1, 3 * PIECE_BYTES])
def test_what_was_sealed_is_opened(size: int) -> None:
    content = bytes(i % 251 for i in range(size))
    assert unseal(seal(content)) == content


def test_two_of_one_content_have_nothing_in_common() -> None:
    one, other = (pieces_of(seal(b"x" * 1000))[1][0] for _ in range(2))
    assert one != other


def test_another_passphrase_opens_nothing() -> None:
    with pytest.raises(WrongPassphraseError):
        unseal(seal(b"x"), b"correct horse batterY")


def test_pieces_cannot_be_dropped_moved_doubled_or_cut() -> None:
    start, (one, two, three) = pieces_of(seal(b"a" * PIECE_BYTES + b"b" * PIECE_BYTES + b"c"))
    for changed in (
        [one, two], [one], [], [two, three], [two, one, three], [one, one, two, three],
        [one, two, three[:-1]], [one, two, three, three], [one, two, three + b"x"],
    ):  # fmt: skip
        with pytest.raises(CorruptDataError):
            unseal(start + b"".join(changed))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**9), st.integers(1, 255))
def test_no_byte_can_be_changed(where: int, by: int) -> None:
    sealed = bytearray(seal(b"content"))
    sealed[where % len(sealed)] ^= by
    with pytest.raises((CorruptDataError, WrongPassphraseError)):
        unseal(bytes(sealed))


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=400), st.booleans())
def test_junk_is_refused_in_our_words(junk: bytes, is_begun_well: bool) -> None:
    with pytest.raises((CorruptDataError, WrongPassphraseError)):
        unseal(b"age-encryption.org/v1\n-> scrypt " * is_begun_well + junk)


@pytest.mark.parametrize("work", [b"0", b"21", b"01", b"-1", b"x", b""])
def test_a_stranger_cannot_ask_for_endless_work(work: bytes) -> None:
    sealed = seal(b"x").replace(b" 1\n", b" " + work + b"\n", 1)
    with pytest.raises(CorruptDataError):
        unseal(sealed)


def test_an_archive_gives_its_files_and_is_verified_by_what_was_written() -> None:
    files = {"a": b"1", "room/b": b"2" * 100_000, "room/c": b""}
    sealed = archive(files)
    assert read(sealed) == files
    file = io.BytesIO()
    writer = ArchiveWriter(file, PHRASE, log_work=_CHEAP)
    writer.add("a", b"1")
    writer.finish()
    verify_archive(io.BytesIO(file.getvalue()), PHRASE, writer.digests)
    for other in ({}, {"a": b"x" * 32}, {**writer.digests, "b": b"x" * 32}):
        with pytest.raises(CorruptDataError, match="different"):
            verify_archive(io.BytesIO(file.getvalue()), PHRASE, other)


@pytest.mark.parametrize("name", ["/etc/passwd", "../x", "a/../b", "a//b", "./a", ".", "a\nb", "x" * 1001])
def test_a_name_that_leads_elsewhere_is_refused(name: str) -> None:
    with pytest.raises(CorruptDataError):
        read(archive({name: b""}))


def test_a_name_twice_and_what_is_no_file_are_refused() -> None:
    for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.CHRTYPE):
        plain = io.BytesIO()
        with tarfile.open(fileobj=plain, mode="w") as tar:
            info = tarfile.TarInfo("a")
            info.type, info.linkname = kind, "/etc/passwd"
            tar.addfile(info)
        with pytest.raises(CorruptDataError):
            read(seal(plain.getvalue()))
    twice = io.BytesIO()
    with tarfile.open(fileobj=twice, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("a"))
        tar.addfile(tarfile.TarInfo("a"))
    with pytest.raises(CorruptDataError):
        read(seal(twice.getvalue()))


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=2000))
def test_a_sealed_junk_archive_is_refused_or_empty(junk: bytes) -> None:
    try:
        found = read(seal(junk))
    except CorruptDataError:
        return
    assert found == {}


def test_an_archive_that_ends_within_a_file_is_refused() -> None:
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w") as tar:
        info = tarfile.TarInfo("a")
        info.size = 5000
        tar.addfile(info, io.BytesIO(b"x" * 5000))
    with pytest.raises(CorruptDataError):
        read(seal(plain.getvalue()[:3000]))
