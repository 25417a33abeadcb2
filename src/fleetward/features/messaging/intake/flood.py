"""Who floods: a device of which so much is refused that to go on hearing it would cost the others.

What a device may send has budgets (see `limit`), and what it sends beyond or cannot be read is refused, each
message by itself. That still has to be taken in and looked at; a device that goes on regardless is cut off.
"""

from dataclasses import dataclass

WINDOW_S = 10.0


@dataclass(frozen=True)
class Patience:
    """How much of one device may come, or be refused, within ten seconds."""

    messages: int = 500
    bytes: int = 8 * 1024**2


class _Count:
    __slots__ = ("bytes", "is_told", "messages")

    def __init__(self) -> None:
        self.messages = self.bytes = 0
        self.is_told = False


class FloodWatch:
    """Counts what comes, or is refused, of each device, in windows of ten seconds. Not thread-safe."""

    def __init__(self, patience: Patience) -> None:
        self._patience = patience
        self._began_s = 0.0
        self._counts: dict[str, _Count] = {}

    def note(self, device: str, now_s: float, *, messages: int = 1, size: int = 0) -> bool:
        """Note messages and their bytes; return True the first time in a window that it is too much.

        Args:
            now_s: of the monotonic clock.
        """
        if now_s - self._began_s >= WINDOW_S:
            self._began_s, self._counts = now_s, {}
        count = self._counts.setdefault(device, _Count())
        count.messages += messages
        count.bytes += size
        is_over = count.messages > self._patience.messages or count.bytes > self._patience.bytes
        is_new = is_over and not count.is_told
        count.is_told = is_over
        return is_new
