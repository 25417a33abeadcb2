"""Shows how the application says it is."""

from fleetward.programs.agent.abilities.ability import Ability
from fleetward.programs.agent.inbox import Felt, Note
from fleetward.programs.agent.tools import Tools


class ApplicationHealth(Ability):
    """The last word of the application about itself."""

    name = "application"

    def __init__(self, tools: Tools) -> None:
        super().__init__(tools)
        self._health = "unknown"

    def from_application(self, note: Note) -> Note | None:
        if isinstance(note, Felt) and note.health != self._health:
            self._health = note.health
            self.tools.log.info("application_health", health=note.health, reason=note.reason)
            self.tools.changed()
        return note

    def status(self) -> str:
        return self._health
