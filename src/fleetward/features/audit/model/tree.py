"""The Merkle tree of RFC 6962 section 2.1. Pure.

A leaf is SHA-256(0x00 || entry bytes), a node SHA-256(0x01 || left || right). A log is kept as its
`peaks`: the roots of the full subtrees that its size, written in binary, names from the left. The roots
of full subtrees of 256 and 65,536 … leaves are kept too, as `Node`s, so that a proof reads hundreds of
hashes and not the log.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fleetward.features.audit.model.entry import AuditTamperedError

EMPTY_ROOT = hashlib.sha256(b"").digest()
# Nodes of every eighth level are stored: one row for 256 below it, and any root needs 128 at most.
STORED_EVERY = 8

# Gives the stored hashes of one level, from index `start` up to `end`; level 0 is the leaves.
ReadHashes = Callable[[int, int, int], Sequence[bytes]]


def hash_leaf(entry_bytes: bytes) -> bytes:
    return hashlib.sha256(b"\x00" + entry_bytes).digest()


def hash_node(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()


@dataclass(frozen=True)
class Node:
    """The root over the leaves from `index << level` up to `index + 1 << level`."""

    level: int
    index: int
    hash: bytes


@dataclass(frozen=True)
class Tree:
    """A log of `size` entries, held as its peaks, largest subtree first."""

    size: int = 0
    peaks: tuple[bytes, ...] = ()

    def append(self, leaf: bytes) -> "tuple[Tree, list[Node]]":
        """Return the tree with one more leaf, and the nodes to store that this completes."""
        peaks, completed = [*self.peaks, leaf], []
        remaining, level = self.size, 0
        while remaining & 1:
            right = peaks.pop()
            peaks.append(hash_node(peaks.pop(), right))
            remaining >>= 1
            level += 1
            if level % STORED_EVERY == 0:
                completed.append(Node(level, remaining, peaks[-1]))
        return Tree(self.size + 1, tuple(peaks)), completed

    @property
    def root(self) -> bytes:
        """The Merkle tree hash (RFC 6962 section 2.1)."""
        if not self.peaks:
            return EMPTY_ROOT
        root = self.peaks[-1]
        for peak in reversed(self.peaks[:-1]):
            root = hash_node(peak, root)
        return root


def root_of(start: int, end: int, read: ReadHashes) -> bytes:
    """Return the Merkle tree hash over leaves `start` to `end`, from stored hashes.

    `start` must be where a subtree of the log begins, as it always is in RFC 6962's proofs.

    Raises:
        AuditTamperedError: stored hashes are missing.
    """
    count = end - start
    if count == 0:
        return EMPTY_ROOT
    if count & (count - 1):
        split = split_point(count)
        return hash_node(root_of(start, start + split, read), root_of(start + split, end, read))
    level = (count.bit_length() - 1) // STORED_EVERY * STORED_EVERY
    hashes = list(read(level, start >> level, end >> level))
    if len(hashes) != count >> level:
        raise AuditTamperedError(
            f"audit entries {start} to {end - 1}: expected {count >> level} hashes, found {len(hashes)}",
            entry=start,
            last=end - 1,
        )
    while len(hashes) > 1:
        hashes = [hash_node(left, right) for left, right in zip(hashes[::2], hashes[1::2], strict=True)]
    return hashes[0]


def split_point(count: int) -> int:
    """Return the largest power of two below `count`, which is 2 or more."""
    return 1 << ((count - 1).bit_length() - 1)
