"""The rules of messaging: the gates, how commands and shadows may change, presence. Pure."""

from fleetward.features.messaging.model.commands import (
    OPEN_STATES,
    CommandRecord,
    CommandState,
    may_become,
    next_send_at,
)
from fleetward.features.messaging.model.gates import (
    GATES,
    MAY_CHANGE_SOON,
    AdmissionRecord,
    Asked,
    Grant,
    Hold,
    Refusal,
    RefusalCode,
    SessionCertificate,
    ask_all,
    decide,
    find_refusal,
)
from fleetward.features.messaging.model.presence import Presence
from fleetward.features.messaging.model.shadows import Shadow, accepts_reported

__all__ = [
    "GATES",
    "MAY_CHANGE_SOON",
    "OPEN_STATES",
    "AdmissionRecord",
    "Asked",
    "CommandRecord",
    "CommandState",
    "Grant",
    "Hold",
    "Presence",
    "Refusal",
    "RefusalCode",
    "SessionCertificate",
    "Shadow",
    "accepts_reported",
    "ask_all",
    "decide",
    "find_refusal",
    "may_become",
    "next_send_at",
]
