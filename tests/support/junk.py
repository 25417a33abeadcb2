"""What a device should never send: all kinds of topics, and payloads of good messages damaged at random."""

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

# One of each kind a device may publish, and levels that are none; `{}` stands for a number of a command.
_LEVELS = (b"t/n", b"t/temp", b"log", b"metrics", b"shadow/reported", b"cmd/{}/result")
_NO_LEVELS = (
    b"t", b"t/a/b", b"t/a\x0bb", b"t/" + "ü".encode(), b"t/" + b"x" * 300, b"nothing", b"shadow/desired/x",
    b"cmd/x/result", b"cmd/0/result", b"cmd/-1/result", b"cmd/" + b"9" * 18 + b"/result", b"cmd/1/result/2",
)  # fmt: skip
_GOOD: tuple[Any, ...] = (
    21.5,
    "text",
    {"id": "a-1", "at": "2026-06-01T12:00:00Z", "value": 1},
    {"event": "boot.refused", "severity": "critical", "message": "said", "slot": "a"},
    {"cpu": 0.5, "memory": {"free": 1, "of": [2, 3]}},
    {"version": 1, "state": {"firmware": {"version": "1.0"}, "a": [1]}},
    {"ok": True, "output": {"a": 1}},
    {"ok": False, "error": "no"},
)
_LEAVES: tuple[Any, ...] = (
    None, True, -1, 0, 2**31, 2**53 + 1, 2**63, 2**64, 10**40, -(10**400), 1e308, "", "\0", "a\0b", "\ud800",
    "\udfff\ud800", "\u202e", "\U0010ffff", "'; DROP TABLE shadows; --", "x" * 5_000, [], {}, [[]], {"": ""},
    "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "boot.refused", "device.ended",
)  # fmt: skip
_BYTES = (
    b"", b" ", b"\0", b"\xff\xfe", b"\xef\xbb\xbf1", b"\xc0\x80", b"\xed\xa0\x80", b"NaN",
    b"-Infinity", b"1e999",
    b"9" * 5_000, b"-0", b"01", b"[" * 5_000, b"[" * 5_000 + b"]" * 5_000,
    b'{"a":' * 2_000 + b"1" + b"}" * 2_000,
    b'{"a":1,"a":2}', b"[1,]", b'"\\u0000"', b'"\\ud800"', b"'1'", b"/*x*/1", b"[" + b"1," * 20_000 + b"1]",
    b"{" + b",".join(b'"k%d":1' % one for one in range(3_000)) + b"}", b'"' + b"x" * 70_000 + b'"',
)  # fmt: skip


@dataclass(frozen=True)
class Junk:
    """One message: `levels` under `d/<id>/`."""

    levels: bytes
    payload: bytes
    qos: int


class JunkMaker:
    """Makes messages; the same dice make the same ones."""

    def __init__(self, dice: random.Random) -> None:
        self._dice = dice
        self._ways: tuple[Callable[[], bytes], ...] = (
            self._raw, self._noise, self._cut, self._flipped, self._swapped, self._swapped, self._swapped,
        )  # fmt: skip

    def make(self, command: int) -> Junk:
        """Return the next one. `command` is one that its device was given."""
        dice = self._dice
        levels = dice.choice(_NO_LEVELS) if dice.random() < 0.1 else dice.choice(_LEVELS)
        number = str(command if dice.random() < 0.5 else dice.randrange(10**18)).encode()
        return Junk(levels.replace(b"{}", number), dice.choice(self._ways)(), dice.randrange(2))

    def _raw(self) -> bytes:
        return self._dice.choice(_BYTES)

    def _noise(self) -> bytes:
        return self._dice.randbytes(self._dice.randrange(1, 200))

    def _good(self) -> bytes:
        return json.dumps(self._dice.choice(_GOOD)).encode()

    def _cut(self) -> bytes:
        found = self._good()
        return found[: self._dice.randrange(len(found))]

    def _flipped(self) -> bytes:
        found = bytearray(self._good())
        for _ in range(self._dice.randrange(1, 4)):
            found[self._dice.randrange(len(found))] = self._dice.randrange(256)
        return bytes(found)

    def _swapped(self) -> bytes:
        """Return a good message with something else in one place, or more of it."""
        found = self._swap(self._dice.choice(_GOOD))
        return json.dumps(found).encode()

    def _swap(self, value: Any) -> Any:
        dice = self._dice
        if not isinstance(value, dict | list) or not value or dice.random() < 0.2:
            return dice.choice(_LEAVES)
        if isinstance(value, list):
            changed = list(value)
            place = dice.randrange(len(changed))
            changed[place] = self._swap(changed[place])
            return changed
        name = dice.choice(list(value))
        changed_dict = dict(value)
        if dice.random() < 0.2:
            changed_dict[str(dice.choice(_LEAVES))[:100]] = changed_dict.pop(name)
        else:
            changed_dict[name] = self._swap(value[name])
        return changed_dict
