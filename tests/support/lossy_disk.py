"""What a disk may hold after a power cut, worked out from the system calls a program made.

POSIX promises only what was synced: a file's bytes by fsync of the file, a folder's entries by fsync of the
folder. Whatever was not may be there, be missing, or be half there, whatever came after it. `record` reads a
strace; the disk then plays any part of it and `cut_power` writes out one of the trees that may be left.
"""

import os
import random
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

_BLOCK_BYTES = 512
_LINE = re.compile(r"^\d+ +(\w+)\((.*)\) += (-?\d+)")
_STRING = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')

# (call, its strings, the numbers that matter)
Op: TypeAlias = tuple[str, tuple[bytes, ...], tuple[int, ...]]

# What strace must print, besides the calls that change storage, for `record` to read.
TRACE_OPTIONS = ("-xx", "-s", "10000000")
TRACE_CALLS = "openat,close,lseek"


def record(trace: str) -> list[Op]:
    """Return the successful calls of a trace."""
    ops: list[Op] = []
    for line in trace.splitlines():
        found = _LINE.match(line)
        if found is None or int(found[3]) < 0:
            continue
        call, arguments, result = found[1], found[2], int(found[3])
        strings = tuple(bytes.fromhex(one.replace("\\x", "")) for one in _STRING.findall(arguments))
        first = re.match(r"(-?\d+)", arguments)
        descriptor = int(first[1]) if first else -1
        if call == "openat":
            flags = sum(bit for name, bit in _FLAGS.items() if name in arguments)
            ops.append((call, strings, (flags, result)))
        elif call == "ftruncate":
            ops.append((call, strings, (descriptor, int(arguments.split(",")[1]))))
        elif call == "pwrite64":
            ops.append((call, strings, (descriptor, result, int(arguments.rsplit(",", 1)[1]))))
        else:
            ops.append((call, strings, (descriptor, result)))
    return ops


_CREATE, _TRUNCATE, _APPEND = 1, 2, 4
_FLAGS = {"O_CREAT": _CREATE, "O_TRUNC": _TRUNCATE, "O_APPEND": _APPEND}


@dataclass
class _Node:
    """A file, a folder or a link. `pending` is what no fsync has made durable."""

    content: bytes = b""
    entries: dict[str, "_Node"] | None = None
    target: str | None = None
    pending: list[tuple[str, "str | int | _Node", "bytes | str | _Node | None"]] = field(default_factory=list)
    size: int = 0


class LossyDisk:
    """The tree below `root`, and what was done to it since."""

    def __init__(self, root: Path) -> None:
        """Begin with what lies there now, all of it durable."""
        self._root = root
        self._tree = _read_tree(root)
        self._open: dict[int, tuple[_Node, int, bool]] = {}

    def play(self, op: Op) -> bool:
        """Do one call; return whether it may have changed what a power cut leaves."""
        call, strings, numbers = op
        if call == "openat":
            return self._do_open(strings[0], *numbers)
        if call == "close":
            self._open.pop(numbers[0], None)
        elif call in ("rename", "unlink", "mkdir", "symlink"):
            self._do_name(call, *(os.fsdecode(text) for text in strings))
        elif numbers[0] in self._open:
            self._do_file(call, strings, numbers)
        else:
            return False
        return call not in ("close", "lseek", "fsync", "fdatasync")

    def cut_power(self, target: Path, dice: random.Random) -> None:
        """Write one tree that may be left to `target`."""
        shutil.rmtree(target, ignore_errors=True)
        _write_tree(self._tree, target, dice)

    def _do_open(self, name: bytes, flags: int, descriptor: int) -> bool:
        path = Path(os.fsdecode(name))
        if not path.is_relative_to(self._root):
            self._open.pop(descriptor, None)
            return False
        node = self._find(path)
        if node is None:
            if not flags & _CREATE:
                return False
            node = _Node()
            self._enter(path, node)
        if flags & _TRUNCATE:
            node.pending.append(("truncate", 0, None))
            node.size = 0
        self._open[descriptor] = (node, node.size if flags & _APPEND else 0, bool(flags & _APPEND))
        return bool(flags & (_CREATE | _TRUNCATE))

    def _do_file(self, call: str, strings: tuple[bytes, ...], numbers: tuple[int, ...]) -> None:
        descriptor, number, *at_offset = numbers
        node, position, is_appending = self._open[descriptor]
        if call == "write":
            at = node.size if is_appending else position
            content = strings[0][:number]
            node.pending.append(("write", at, content))
            node.size = max(node.size, at + len(content))
            self._open[descriptor] = (node, at + len(content), is_appending)
        elif call == "pwrite64":
            content = strings[0][:number]
            node.pending.append(("write", at_offset[0], content))
            node.size = max(node.size, at_offset[0] + len(content))
        elif call == "lseek":
            self._open[descriptor] = (node, number, is_appending)
        elif call == "ftruncate":
            node.pending.append(("truncate", number, None))
            node.size = number
        elif call in ("fsync", "fdatasync"):
            _settle(node)
        else:
            raise AssertionError(f"the model does not know {call}")

    def _do_name(self, call: str, first: str, second: str = "") -> None:
        path = Path(second if call == "symlink" else first)
        if not path.is_relative_to(self._root):
            return
        if call == "mkdir":
            self._enter(path, _Node(entries={}))
        elif call == "symlink":
            self._enter(path, _Node(target=first))
        elif call == "unlink":
            self._folder(path).pending.append(("unlink", path.name, None))
        else:
            to, node = Path(second), self._find(path)
            assert node is not None, path
            if path.parent == to.parent:
                self._folder(path).pending.append(("rename", path.name, to.name))
            else:  # two folders: the halves may part
                self._folder(path).pending.append(("unlink", path.name, None))
                self._enter(to, node)

    def _enter(self, path: Path, node: _Node) -> None:
        self._folder(path).pending.append(("enter", path.name, node))

    def _folder(self, path: Path) -> _Node:
        found = self._find(path.parent)
        assert found is not None, path
        return found

    def _find(self, path: Path) -> _Node | None:
        """Return what a running program sees under a name."""
        node = self._tree
        for part in path.relative_to(self._root).parts:
            inner = _entries_after(node, node.pending).get(part)
            if inner is None:
                return None
            node = inner
        return node


def _settle(node: _Node) -> None:
    if node.entries is None:
        node.content = _content_after(node, None)
    else:
        node.entries = _entries_after(node, node.pending)
    node.pending.clear()


def _entries_after(node: _Node, ops: Sequence[tuple[str, "str | int | _Node", object]]) -> dict[str, _Node]:
    entries = dict(node.entries or {})
    # A rename names what its source was, even when entering the source was lost.
    known = dict(entries)
    for call, name, other in node.pending:
        _apply_entry(known, call, str(name), other)
        if call == "rename" and (call, name, other) in ops:
            entries.pop(str(name), None)
            if str(other) in known:
                entries[str(other)] = known[str(other)]
        elif (call, name, other) in ops:
            _apply_entry(entries, call, str(name), other)
    return entries


def _apply_entry(entries: dict[str, _Node], call: str, name: str, other: object) -> None:
    if call == "enter" and isinstance(other, _Node):
        entries[name] = other
    elif call == "unlink":
        entries.pop(name, None)
    elif call == "rename" and name in entries:
        entries[str(other)] = entries.pop(name)


def _content_after(node: _Node, dice: random.Random | None) -> bytes:
    """Return a file's bytes: all that was written, or what the dice leave of what was not synced."""
    content = bytearray(node.content)
    for call, at, written in node.pending:
        assert isinstance(at, int)
        if call == "truncate":
            if dice is None or dice.random() < 0.5:
                content = content[:at] + bytes(max(0, at - len(content)))
            continue
        assert isinstance(written, bytes)
        for start, block in _blocks(at, written):
            if dice is None or dice.random() < 0.5:
                content += bytes(max(0, start - len(content)))
                content[start : start + len(block)] = block
    return bytes(content)


def _blocks(at: int, written: bytes) -> Iterator[tuple[int, bytes]]:
    for start in range(0, len(written), _BLOCK_BYTES):
        yield at + start, written[start : start + _BLOCK_BYTES]


def _read_tree(path: Path) -> _Node:
    if path.is_symlink():
        return _Node(target=str(path.readlink()))
    if path.is_dir():
        return _Node(entries={one.name: _read_tree(one) for one in path.iterdir()})
    content = path.read_bytes()
    return _Node(content, size=len(content))


def _write_tree(node: _Node, path: Path, dice: random.Random) -> None:
    if node.target is not None:
        path.symlink_to(node.target)
    elif node.entries is None:
        path.write_bytes(_content_after(node, dice))
    else:
        path.mkdir()
        # Sometimes everything, sometimes nothing, mostly some of it is left.
        share = dice.choice((0.0, 0.5, 0.5, 1.0))
        left = [op for op in node.pending if dice.random() < share]
        for name, inner in _entries_after(node, left).items():
            _write_tree(inner, path / name, dice)
