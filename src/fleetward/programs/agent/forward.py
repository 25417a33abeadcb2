"""Which of the agent's own log lines the platform hears: warnings and errors, one of a name in 30 s.

That an ability has failed is told as an event of the device, in a sentence: at the first, second, fourth …
failure in a row, for what is broken for good need not be told for good.
"""

EVERY_S = 30.0
# Forwarding these would make more of them.
_NEVER = frozenset({"message_dropped", "queue_trouble"})


class Forwarder:
    """Counts what it leaves out, and says so with the next line of that name.

    Lines of different abilities have different names: one that fails must not hide another.
    """

    def __init__(self) -> None:
        self._seen: dict[tuple[str, str], tuple[float, int]] = {}

    def choose(self, entry: dict[str, object], now_s: float) -> dict[str, object] | None:
        """Return what goes up of a line; None when it is left out. `now_s` only moves forward."""
        name = (str(entry["event"]), str(entry.get("ability", "")))
        if name[0] in _NEVER or not _is_news(entry):
            return None
        last_s, left_out = self._seen.get(name, (float("-inf"), 0))
        if now_s - last_s < EVERY_S:
            self._seen[name] = (last_s, left_out + 1)
            return None
        self._seen[name] = (now_s, 0)
        chosen = {**entry, "repeated": left_out} if left_out else entry
        return _tell_failure(chosen) if name[0] == "ability_failed" else chosen


def _is_news(entry: dict[str, object]) -> bool:
    failures = entry.get("failures")
    return not isinstance(failures, int) or failures & (failures - 1) == 0


def _tell_failure(entry: dict[str, object]) -> dict[str, object]:
    what = f"its {entry.get('ability')} failed in {entry.get('hook')} ({entry.get('code')})"
    message = f"{what}: {entry.get('reason')}"
    return {**entry, "event": "agent.ability_failed", "severity": "warning", "message": message}
