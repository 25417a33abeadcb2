"""Proofs against the recursive definitions of RFC 6962 section 2.1, written here as the standard does."""

import hashlib
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetward.base.errors import NotFoundError
from fleetward.features.audit.model.entry import AuditTamperedError
from fleetward.features.audit.model.proofs import (
    prove_consistency,
    prove_inclusion,
    verify_consistency,
    verify_inclusion,
)
from fleetward.features.audit.model.tree import EMPTY_ROOT, Tree, hash_leaf, hash_node, root_of

SIZES = st.one_of(st.integers(1, 70), st.integers(250, 260), st.integers(510, 700))


def leaves_of(count: int) -> list[bytes]:
    return [hash_leaf(b"%d" % number) for number in range(count)]


def split(count: int) -> int:
    k = 1
    while k * 2 < count:
        k *= 2
    return k


def mth(d: list[bytes]) -> bytes:
    """MTH(D[n]) over leaf hashes."""
    if not d:
        return hashlib.sha256().digest()
    if len(d) == 1:
        return d[0]
    k = split(len(d))
    return hashlib.sha256(b"\x01" + mth(d[:k]) + mth(d[k:])).digest()


def path(m: int, d: list[bytes]) -> list[bytes]:
    """PATH(m, D[n])."""
    if len(d) == 1:
        return []
    k = split(len(d))
    return [*path(m, d[:k]), mth(d[k:])] if m < k else [*path(m - k, d[k:]), mth(d[:k])]


def subproof(m: int, d: list[bytes], *, b: bool) -> list[bytes]:
    """SUBPROOF(m, D[n], b); PROOF(m, D[n]) is that with b true."""
    if m == len(d):
        return [] if b else [mth(d)]
    k = split(len(d))
    if m <= k:
        return [*subproof(m, d[:k], b=b), mth(d[k:])]
    return [*subproof(m - k, d[k:], b=False), mth(d[:k])]


class Stored:
    """Leaves and nodes as the store keeps them; counts what was read."""

    def __init__(self, leaves: list[bytes]) -> None:
        self.levels: dict[int, list[bytes]] = {0: leaves}
        self.read_count = 0
        self.tree = Tree()
        for leaf in leaves:
            self.tree, completed = self.tree.append(leaf)
            for node in completed:
                level = self.levels.setdefault(node.level, [])
                assert node.index == len(level)
                level.append(node.hash)

    def read(self, level: int, start: int, end: int) -> list[bytes]:
        found = self.levels.get(level, [])[start:end]
        self.read_count += len(found)
        return found


@given(SIZES)
def test_roots_are_the_standards(count: int) -> None:
    leaves = leaves_of(count)
    stored = Stored(leaves)
    assert stored.tree.root == mth(leaves) == root_of(0, count, stored.read)


def test_the_empty_log_has_the_standards_root() -> None:
    assert mth([]) == Tree().root == EMPTY_ROOT == root_of(0, 0, Stored([]).read)


@given(SIZES, st.data())
def test_an_inclusion_proof_is_the_standards_and_verifies(count: int, data: st.DataObject) -> None:
    leaves = leaves_of(count)
    size = data.draw(st.integers(1, count))
    index = data.draw(st.integers(0, size - 1))
    found = prove_inclusion(index, size, Stored(leaves).read)
    assert found == path(index, leaves[:size])
    verify_inclusion(leaves[index], index, size, found, mth(leaves[:size]))


@given(SIZES, st.data())
def test_a_consistency_proof_is_the_standards_and_verifies(count: int, data: st.DataObject) -> None:
    leaves = leaves_of(count)
    second = data.draw(st.integers(1, count))
    first = data.draw(st.integers(1, second))
    found = prove_consistency(first, second, Stored(leaves).read)
    assert found == subproof(first, leaves[:second], b=True)
    verify_consistency(first, second, (mth(leaves[:first]), mth(leaves[:second])), found)


@given(st.integers(2, 300), st.data())
def test_an_inclusion_proof_changed_anywhere_is_refused(count: int, data: st.DataObject) -> None:
    leaves = leaves_of(count)
    index = data.draw(st.integers(0, count - 1))
    found = prove_inclusion(index, count, Stored(leaves).read)
    root, leaf = mth(leaves), leaves[index]
    at = data.draw(st.integers(0, len(found) - 1))
    flipped = bytes([found[at][0] ^ 1]) + found[at][1:]
    changes = [
        (leaves[index - 1], index, count, found, root),
        (leaf, index, count, [*found[:at], flipped, *found[at + 1 :]], root),
        (leaf, index, count, found[:-1], root),
        (leaf, index, count, [*found, leaf], root),
        (leaf, index, count, found, leaves[0]),
        (leaf, -1, count, found, root),
        (leaf, count, count, found, root),
        (leaf, (index + 1) % count, count, found, root),
    ]
    for changed in changes:
        with pytest.raises(AuditTamperedError):
            verify_inclusion(*changed)


@given(st.integers(2, 300), st.data())
def test_a_consistency_proof_changed_anywhere_is_refused(count: int, data: st.DataObject) -> None:
    leaves = leaves_of(count)
    first = data.draw(st.integers(1, count - 1))
    found = prove_consistency(first, count, Stored(leaves).read)
    older, newer = mth(leaves[:first]), mth(leaves)
    at = data.draw(st.integers(0, len(found) - 1))
    flipped = bytes([found[at][0] ^ 1]) + found[at][1:]
    changes = [
        (first, count, (older, newer), [*found[:at], flipped, *found[at + 1 :]]),
        (first, count, (older, newer), found[:-1]),
        (first, count, (older, newer), [*found, newer]),
        (first, count, (older, newer), []),
        (first, count, (newer, newer), found),
        (first, count, (older, older), found),
        (count, first, (newer, older), found),
    ]
    for changed in changes:
        with pytest.raises(AuditTamperedError):
            verify_consistency(*changed)


def boundaries(count: int) -> list[int]:
    """Sizes around every power of two up to `count`."""
    around = {power + off for power in (1, 2, 4, 8, 16, 32) for off in (-1, 0, 1)}
    return sorted(size for size in around if 0 < size <= count)


@pytest.mark.parametrize("size", boundaries(33))
def test_an_inclusion_path_of_any_other_length_is_refused(size: int) -> None:
    leaves = leaves_of(size)
    root = mth(leaves)
    for index in range(size):
        found = path(index, leaves)
        verify_inclusion(leaves[index], index, size, found, root)
        wrong = [found[:cut] for cut in range(len(found))] + [found[cut:] for cut in range(1, len(found) + 1)]
        wrong += [[*found, root], [root, *found], [*found, *found, root]]
        for changed in wrong:
            with pytest.raises(AuditTamperedError):
                verify_inclusion(leaves[index], index, size, changed, root)


@pytest.mark.parametrize("size", boundaries(33))
def test_an_empty_path_proves_the_only_entry_of_a_log_alone(size: int) -> None:
    leaves = leaves_of(size)
    for index in range(size):
        # The root itself, shown as the leaf: a path that leads nowhere must not end where it began.
        if size == 1:
            verify_inclusion(leaves[0], 0, 1, [], mth(leaves))
        else:
            with pytest.raises(AuditTamperedError):
                verify_inclusion(mth(leaves), index, size, [], mth(leaves))


@pytest.mark.parametrize(("sequence", "size"), [(-1, 1), (1, 1), (0, 0), (0, -1), (2, 2), (3, 2)])
def test_no_entry_outside_a_log_is_in_it(sequence: int, size: int) -> None:
    (leaf,) = leaves_of(1)
    with pytest.raises(AuditTamperedError):
        verify_inclusion(leaf, sequence, size, [], leaf)


@pytest.mark.parametrize("size", boundaries(17))
def test_a_root_made_to_fit_a_path_that_goes_on_is_refused(size: int) -> None:
    """Who states the root may choose it: the path's length is what the size says, whatever it leads to."""
    leaves, extra = leaves_of(size), hash_leaf(b"extra")
    for index in range(size):
        for made in (hash_node(extra, mth(leaves)), hash_node(mth(leaves), extra)):
            with pytest.raises(AuditTamperedError):
                verify_inclusion(leaves[index], index, size, [*path(index, leaves), extra], made)


@pytest.mark.parametrize("second", boundaries(17))
def test_roots_made_to_fit_a_consistency_path_that_goes_on_are_refused(second: int) -> None:
    leaves, extra = leaves_of(second), hash_leaf(b"extra")
    for first in range(1, second):
        older, newer = mth(leaves[:first]), mth(leaves)
        found = [*subproof(first, leaves, b=True), extra]
        for made in (hash_node(extra, newer), hash_node(newer, extra)):
            for shown in (older, hash_node(extra, older)):
                with pytest.raises(AuditTamperedError):
                    verify_consistency(first, second, (shown, made), found)


@pytest.mark.parametrize("second", boundaries(33))
def test_a_consistency_path_of_any_other_length_is_refused(second: int) -> None:
    leaves = leaves_of(second)
    newer = mth(leaves)
    for first in range(1, second):
        older, found = mth(leaves[:first]), subproof(first, leaves, b=True)
        verify_consistency(first, second, (older, newer), found)
        wrong = [found[:cut] for cut in range(len(found))] + [found[cut:] for cut in range(1, len(found) + 1)]
        wrong += [[*found, newer], [older, *found], [older], [newer]]
        for changed in [one for one in wrong if one != found]:
            with pytest.raises(AuditTamperedError):
                verify_consistency(first, second, (older, newer), changed)


@pytest.mark.parametrize("count", boundaries(33))
def test_equal_sizes_ask_for_equal_roots_and_no_path(count: int) -> None:
    root, other = mth(leaves_of(count)), mth(leaves_of(count + 1))
    verify_consistency(count, count, (root, root), [])
    for roots, found in (((root, other), []), ((root, root), [root]), ((other, other), [root, other])):
        with pytest.raises(AuditTamperedError):
            verify_consistency(count, count, roots, found)


@pytest.mark.parametrize("sizes", [(0, 0), (-1, 2), (2, -1), (3, 2), (1, 0)])
def test_sizes_that_no_log_grew_by_are_refused_whatever_the_path(sizes: tuple[int, int]) -> None:
    one, two = mth(leaves_of(1)), mth(leaves_of(2))
    for found in ([], [one], [two]):
        with pytest.raises(AuditTamperedError):
            verify_consistency(*sizes, (one, two), found)


def test_a_log_begins_with_itself_and_with_nothing() -> None:
    one, two = leaves_of(2)
    verify_consistency(2, 2, (one, one), [])
    verify_consistency(0, 2, (EMPTY_ROOT, two), [])
    for wrong in ((2, 2, (one, two), []), (2, 2, (one, one), [one]), (0, 2, (EMPTY_ROOT, two), [one])):
        with pytest.raises(AuditTamperedError):
            verify_consistency(*wrong)


@pytest.mark.parametrize(
    "prove",
    [partial(prove_inclusion, 5, 5), partial(prove_inclusion, -1, 5), partial(prove_consistency, 6, 5)],
)
def test_what_is_not_in_the_log_has_no_proof(prove: partial[list[bytes]]) -> None:
    with pytest.raises(NotFoundError):
        prove(Stored(leaves_of(5)).read)


def test_missing_hashes_are_told() -> None:
    stored = Stored(leaves_of(600))
    stored.levels[8].pop()
    with pytest.raises(AuditTamperedError, match="hashes"):
        prove_inclusion(599, 600, stored.read)


def test_a_proof_reads_hundreds_of_hashes_from_a_large_log() -> None:
    stored = Stored(leaves_of(70_000))
    prove_inclusion(12_345, 69_999, stored.read)
    prove_consistency(33_333, 69_999, stored.read)
    assert stored.read_count < 2_500
