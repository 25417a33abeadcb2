"""The abilities of this agent, in the order in which they start and see what goes through them."""

from collections.abc import Iterable

from fleetward.base.agent_config import Section
from fleetward.programs.agent.abilities.ability import Ability
from fleetward.programs.agent.abilities.application import ApplicationHealth
from fleetward.programs.agent.abilities.attestation import Attestation
from fleetward.programs.agent.abilities.health import Health
from fleetward.programs.agent.abilities.updates.ability import Updates
from fleetward.programs.agent.abilities.video import VideoLine

ABILITIES: tuple[type[Ability], ...] = (Health, ApplicationHealth, Attestation, Updates, VideoLine)


def sections_of(abilities: Iterable[type[Ability]]) -> tuple[type[Section], ...]:
    """Return what the settings file may set of these abilities."""
    return tuple(one.section for one in abilities if one.section is not None)


SECTIONS = sections_of(ABILITIES)
