"""Use cases of releases. What cannot be undone is finished by asking for it again."""

from fleetward.features.updates.service.approving import approve, list_approvals, list_counted, reject
from fleetward.features.updates.service.publishing import NewRelease, finish_interrupted, publish
from fleetward.features.updates.service.references import register_boot_references
from fleetward.features.updates.service.releases import (
    find_current_release,
    get_release,
    list_current_releases,
    list_releases,
)
from fleetward.features.updates.service.withdrawing import withdraw

__all__ = [
    "NewRelease",
    "approve",
    "find_current_release",
    "finish_interrupted",
    "get_release",
    "list_approvals",
    "list_counted",
    "list_current_releases",
    "list_releases",
    "publish",
    "register_boot_references",
    "reject",
    "withdraw",
]
