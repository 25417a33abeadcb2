"""Use cases of the audit log. `append` runs inside the transaction of the change it records."""

from fleetward.features.audit.service.keeping import Keeper, LogNotary, adopt
from fleetward.features.audit.service.log import append, find_last, search, verify
from fleetward.features.audit.service.proving import (
    Consistency,
    Inclusion,
    list_checkpoints,
    prove_consistency,
    prove_inclusion,
    read_head,
)

__all__ = [
    "Consistency",
    "Inclusion",
    "Keeper",
    "LogNotary",
    "adopt",
    "append",
    "find_last",
    "list_checkpoints",
    "prove_consistency",
    "prove_inclusion",
    "read_head",
    "search",
    "verify",
]
