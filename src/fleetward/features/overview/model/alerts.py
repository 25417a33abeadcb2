"""Acknowledgements: somebody has seen an event and says what came of it."""

from dataclasses import dataclass
from datetime import datetime, timedelta

MAX_NOTE_CHARS = 500
ALERTS_SHOWN_FOR = timedelta(hours=24)


@dataclass(frozen=True)
class Acknowledgement:
    """Who has taken note of an event, when, and what they say of it."""

    event: int
    actor: str
    note: str
    at: datetime
