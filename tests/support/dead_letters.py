"""Dead letters in memory, for routes whose tests need no broker."""

from fleetward.base.errors import NotFoundError
from fleetward.features.messaging.ports import DeadLetter, ReplayOutcome


class KeptDeadLetters:
    """Implements `DeadLetters`; what is played again is handled."""

    def __init__(self, *letters: DeadLetter) -> None:
        self._letters = {one.number: one for one in letters}

    def list_dead_letters(self, limit: int) -> list[DeadLetter]:
        return sorted(self._letters.values(), key=lambda one: -one.number)[:limit]

    def get_dead_letter(self, number: int) -> DeadLetter:
        if number not in self._letters:
            raise NotFoundError(f"dead letter {number}: expected one, found none")
        return self._letters[number]

    def drop_dead_letter(self, number: int) -> None:
        del self._letters[number]

    def replay_dead_letter(self, letter: DeadLetter) -> ReplayOutcome:
        del self._letters[letter.number]
        return ReplayOutcome(handled=True)


def make_letter(number: int) -> DeadLetter:
    """Return a dead letter of cam-1."""
    at = "2026-06-01T12:00:00.000Z"
    subject = "$MQTT.msgs.d.cam-1.log"
    return DeadLetter(number, "ingest", subject, "cam-1", at, at, 3, "ValueError: no", b'{"a": "\xff"}')
