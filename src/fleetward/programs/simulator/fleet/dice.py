"""Numbers that depend on nothing but a seed, a device and a count: the same fleet behaves the same again.

SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, 2014), because a generator of
Python's own would keep 2.5 kB a device.
"""

_MASK = 2**64 - 1
_GAMMA = 0x9E3779B97F4A7C15


class Dice:
    """One device's source of chance: eight bytes of state."""

    __slots__ = ("_state",)

    def __init__(self, seed: int, device: int) -> None:
        self._state = _mix((seed * _GAMMA + device * 0xD1342543DE82EF95) & _MASK)

    def roll(self) -> float:
        """Return the next number from 0 up to, but not including, 1."""
        self._state = (self._state + _GAMMA) & _MASK
        return (_mix(self._state) >> 11) / 2**53

    def between(self, low: float, high: float) -> float:
        return low + (high - low) * self.roll()


def _mix(value: int) -> int:
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
    return value ^ (value >> 31)
