"""What overview must be told from outside the features."""

from typing import Protocol

from fleetward.features.overview.model.checklist import Premises


class Surveyor(Protocol):
    def inspect(self) -> Premises:
        """Return what the premises are like now. Reads files: call it from a thread."""
        ...
