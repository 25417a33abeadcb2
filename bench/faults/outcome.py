"""What a fault led to."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Outcome:
    """One fault and what was wrong after it: `flaw` is "" when everything was as promised.

    Attributes:
        case: names the fault, so that it can be done again.
        counted: what was done, e.g. {"kills at storage calls": 1}; the totals add them up.
    """

    case: str
    flaw: str
    counted: dict[str, int]
