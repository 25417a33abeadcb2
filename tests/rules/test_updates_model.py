"""Rules of releases: versions, counters, approvals, what is current, what is due, bills of materials."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import MappingProxyType

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fleetward.base.errors import InvalidInputError, TooLargeError
from fleetward.features.updates.model import (
    LIFETIMES,
    MAX_SBOM_BYTES,
    Approval,
    Artifact,
    Release,
    ReleaseError,
    ReleaseState,
    RepositoryState,
    SeparationOfDutyError,
    check_approver,
    due_roles,
    find_current,
    next_counter,
    parse_sbom,
    parse_version,
)
from fleetward.wire.manifest import MAX_COUNTER

NOW = datetime(2026, 6, 1, tzinfo=UTC)
SECOND = timedelta(seconds=1)
FILE = Artifact("0" * 64, "0" * 128, 1)
RELEASE = Release(
    id=1, model="camera-1", version="1.0.0", state=ReleaseState.PENDING, security_counter=1, image=FILE,
    sbom=FILE, manifest=b"", author="operator:ada", created_at=NOW,
)  # fmt: skip
SBOM = b'{"bomFormat":"CycloneDX","specVersion":"1.6","components":[{"type":"library","name":"zlib"}]}'


@pytest.mark.parametrize("version", ["1", "1.0.0", "v2_b+c-d", "A" * 64])
def test_a_version_that_fits_a_path_is_one(version: str) -> None:
    assert parse_version(version) == version


@pytest.mark.parametrize("version", ["", ".1", "-1", "_1", "a/b", "a b", "a\n", "A" * 65, "é"])
def test_other_versions_are_refused(version: str) -> None:
    with pytest.raises(InvalidInputError, match=r"^version: expected 1 to 64 of letters"):
        parse_version(version)


@pytest.mark.parametrize(
    ("highest", "wanted", "counter"),
    [
        (None, None, 1), (None, 1, 1), (None, 7, 7), (0, None, 1), (4, None, 5), (4, 5, 5), (4, 9, 9),
        (None, MAX_COUNTER, MAX_COUNTER), (MAX_COUNTER - 1, None, MAX_COUNTER),
    ],
)  # fmt: skip
def test_counters_grow(highest: int | None, wanted: int | None, counter: int) -> None:
    assert next_counter("camera-1", highest, wanted) == counter


@pytest.mark.parametrize("wanted", [1, 3, 4])
def test_a_counter_never_stands_still_or_falls(wanted: int) -> None:
    with pytest.raises(
        ReleaseError,
        match=rf"^security counter of camera-1: expected more than 4, found {wanted} Leave it out ",
    ):
        next_counter("camera-1", 4, wanted)


@pytest.mark.parametrize(
    ("highest", "wanted"), [(None, 0), (None, -1), (None, MAX_COUNTER + 1), (MAX_COUNTER, None)]
)
def test_a_counter_stays_in_its_range(highest: int | None, wanted: int | None) -> None:
    with pytest.raises(InvalidInputError, match=r"^security counter: expected 1 to 2147483647, found"):
        next_counter("camera-1", highest, wanted)


def test_another_than_the_author_may_approve_once() -> None:
    check_approver(RELEASE, [], "bob")
    check_approver(RELEASE, [Approval(1, "eve", NOW)], "bob")
    check_approver(replace(RELEASE, author="local:ada"), [], "ada")
    with pytest.raises(ReleaseError, match=r"^release 1\.0\.0 of camera-1: .* found bob approved before$"):
        check_approver(RELEASE, [Approval(1, "eve", NOW), Approval(1, "bob", NOW)], "bob")


def test_an_author_may_not_approve_their_own() -> None:
    with pytest.raises(SeparationOfDutyError, match=r"^release 1\.0\.0 of camera-1: .* found ada Ask two"):
        check_approver(RELEASE, [], "ada")


@pytest.mark.parametrize("state", [one for one in ReleaseState if one is not ReleaseState.PENDING])
def test_only_what_waits_is_approved(state: ReleaseState) -> None:
    with pytest.raises(
        ReleaseError, match=rf"^release 1.0.0 of camera-1: expected it pending, found it {state}$"
    ):
        check_approver(replace(RELEASE, state=state), [], "bob")


def test_the_highest_published_counter_is_current() -> None:
    def release(counter: int, state: ReleaseState = ReleaseState.PUBLISHED) -> Release:
        return replace(RELEASE, security_counter=counter, state=state)

    assert find_current([]) is None
    assert find_current([release(2), release(3), release(1)]) == release(3)
    others = [release(9, state) for state in ReleaseState if state is not ReleaseState.PUBLISHED]
    assert find_current(others) is None
    assert find_current([*others, release(2)]) == release(2)


def test_a_release_is_signed_once_it_has_a_manifest() -> None:
    assert not RELEASE.is_signed
    assert replace(RELEASE, manifest=b"{}").is_signed


def repository(late_by: Mapping[str, timedelta] = MappingProxyType({})) -> RepositoryState:
    """Return a state whose roles are at half their life, each later or earlier by what is given."""
    roles = {role: (3, NOW + life / 2 + late_by.get(role, SECOND)) for role, life in LIFETIMES.items()}
    return RepositoryState("camera-1", 3, roles, 1)


@pytest.mark.parametrize(
    ("late_by", "due"),
    [
        ({}, ()),
        ({"timestamp": 0 * SECOND}, ()),
        ({"timestamp": -SECOND}, ("timestamp",)),
        ({"snapshot": 0 * SECOND}, ()),
        ({"snapshot": -SECOND}, ("snapshot", "timestamp")),
        ({"targets": 0 * SECOND}, ()),
        ({"targets": -SECOND}, ("targets", "snapshot", "timestamp")),
        ({"targets": -SECOND, "timestamp": -SECOND}, ("targets", "snapshot", "timestamp")),
        ({"timestamp": timedelta(days=-400)}, ("timestamp",)),
    ],
)
def test_a_role_is_due_at_half_of_its_life(late_by: dict[str, timedelta], due: tuple[str, ...]) -> None:
    assert due_roles(repository(late_by), 1, NOW) == due


def test_a_new_root_makes_everything_due_and_nothing_is_before_the_first_release() -> None:
    assert due_roles(repository(), 2, NOW) == ("targets", "snapshot", "timestamp")
    assert due_roles(RepositoryState("camera-1", 3, {}, 1), 2, NOW) == ()


@pytest.mark.parametrize("spec", ["1.0", "1.6", "1.12"])
def test_a_bill_of_materials_is_read(spec: str) -> None:
    found = parse_sbom(SBOM.replace(b'"1.6"', f'"{spec}"'.encode()))
    assert found.spec_version == spec
    assert [(one.type, one.name) for one in found.components] == [("library", "zlib")]


def test_a_bill_of_materials_is_read_up_to_its_limit() -> None:
    assert parse_sbom(SBOM.ljust(MAX_SBOM_BYTES)).spec_version == "1.6"
    with pytest.raises(TooLargeError, match=r"^SBOM: expected at most 33554432 bytes, found 33554433$"):
        parse_sbom(SBOM.ljust(MAX_SBOM_BYTES + 1))


@given(st.binary(max_size=300))
@example(b"")
@example(b"[" * 100_000)
@example(b"\xff")
@example(b"null")
@example(SBOM[:-1])
@example(SBOM.replace(b"1.6", b"2.0"))
@example(SBOM.replace(b"1.6", b"1.600"))
@example(SBOM.replace(b"CycloneDX", b"SPDX"))
@example(SBOM.replace(b'"zlib"', b'""'))
@example(SBOM.replace(b'"library"', b'"' + b"x" * 65 + b'"'))
@example(SBOM.replace(b'"zlib"', b"NaN"))
@example(SBOM.replace(b'"name":"zlib"', b'"name":7'))
def test_a_bill_of_junk_is_refused(content: bytes) -> None:
    with pytest.raises(InvalidInputError, match=r"^SBOM: expected CycloneDX JSON, found an error: "):
        parse_sbom(content)


@given(st.integers(0, len(SBOM) - 1), st.integers(0, 255))
def test_a_bill_with_a_byte_changed_is_read_or_refused(at: int, byte: int) -> None:
    content = bytearray(SBOM)
    content[at] = byte
    with suppress(InvalidInputError):
        assert parse_sbom(bytes(content)).bom_format == "CycloneDX"
