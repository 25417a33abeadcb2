"""Proofs that an entry is in the log, and that a longer log continues a shorter one. Pure."""

from collections.abc import Sequence

from fleetward.base.errors import NotFoundError
from fleetward.features.audit.model.entry import AuditTamperedError
from fleetward.features.audit.model.tree import ReadHashes, hash_node, root_of, split_point


def prove_inclusion(sequence: int, size: int, read: ReadHashes) -> list[bytes]:
    """Return the path of an entry in the log of `size` entries (RFC 6962 section 2.1.1).

    Raises:
        NotFoundError: that log holds no such entry.
    """
    if not 0 <= sequence < size:
        raise NotFoundError(f"audit entry {sequence}: expected one of {size}, found none")
    path: list[bytes] = []
    start, end = 0, size
    while end - start > 1:
        split = start + split_point(end - start)
        if sequence < split:
            path.append(root_of(split, end, read))
            end = split
        else:
            path.append(root_of(start, split, read))
            start = split
    return path[::-1]


def prove_consistency(first: int, second: int, read: ReadHashes) -> list[bytes]:
    """Return the proof that the log of `second` entries begins with that of `first` (RFC 6962 section 2.1.2).

    Raises:
        NotFoundError: `first` is over `second`.
    """
    if not 0 <= first <= second:
        raise NotFoundError(f"audit log of {first} entries: expected at most {second}, found more")
    path: list[bytes] = []
    start, end, is_known = 0, second, True
    while 0 < first < end:
        split = start + split_point(end - start)
        if first <= split:
            path.append(root_of(split, end, read))
            end = split
        else:
            path.append(root_of(start, split, read))
            start, is_known = split, False
    if not is_known:
        path.append(root_of(start, end, read))
    return path[::-1]


def verify_inclusion(leaf: bytes, sequence: int, size: int, path: Sequence[bytes], root: bytes) -> None:
    """Pass when the path leads from the leaf to the root (RFC 9162 section 2.1.3.2, its steps).

    Raises:
        AuditTamperedError: it does not.
    """
    is_proved = 0 <= sequence < size  # step 1
    position, last, reached = sequence, size - 1, leaf  # steps 2 and 3
    for sibling in path:  # step 4
        is_proved = is_proved and last > 0
        if position & 1 or position == last:
            reached = hash_node(sibling, reached)
            while position and not position & 1:
                position, last = position >> 1, last >> 1
        else:
            reached = hash_node(reached, sibling)
        position, last = position >> 1, last >> 1
    if not is_proved or last or reached != root:  # step 5
        raise AuditTamperedError(
            f"audit entry {sequence}: expected a path to the root of {size} entries, found another",
            entry=sequence,
        )


def verify_consistency(first: int, second: int, roots: tuple[bytes, bytes], path: Sequence[bytes]) -> None:
    """Pass when the longer log begins with the shorter one (RFC 9162 section 2.1.4.2, its steps).

    Args:
        roots: of the log of `first` entries and of that of `second`.

    Raises:
        AuditTamperedError: it does not.
    """
    if not _is_consistent(first, second, roots, list(path)):
        raise AuditTamperedError(
            f"audit log of {second} entries: expected the first {first} unchanged, found others",
            entry=0,
            last=max(0, first - 1),
        )


def _is_consistent(first: int, second: int, roots: tuple[bytes, bytes], path: list[bytes]) -> bool:
    if not 0 < first < second:  # any log begins with none of its entries, and with itself
        return not path and (first == 0 < second or (first == second and roots[0] == roots[1]))
    if not path:  # step 1
        return False
    if first & (first - 1) == 0:  # step 2
        path = [roots[0], *path]
    position, last = first - 1, second - 1  # step 3
    while position & 1:  # step 4
        position, last = position >> 1, last >> 1
    older = newer = path[0]  # step 5
    for node in path[1:]:  # step 6
        if last == 0:
            return False
        if position & 1 or position == last:
            older, newer = hash_node(node, older), hash_node(node, newer)
            while position and not position & 1:
                position, last = position >> 1, last >> 1
        else:
            newer = hash_node(newer, node)
        position, last = position >> 1, last >> 1
    return last == 0 and (older, newer) == roots  # step 7
