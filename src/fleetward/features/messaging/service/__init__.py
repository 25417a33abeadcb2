"""Use cases of messaging: sessions, shadows, commands, refusals."""

from fleetward.features.messaging.service.admission import (
    SessionRefusedError,
    admission_record,
    admission_records,
    ask_gates,
    list_admission_records,
    registry_version,
    require_session,
)
from fleetward.features.messaging.service.cleaning import TOLD_FOR, forget_old
from fleetward.features.messaging.service.commands import (
    check_command,
    due_commands,
    find_open_commands,
    get_command,
    has_expired_commands,
    list_commands,
    list_full_queues,
    mark_sent,
    queue_command,
    record_results,
    time_out_commands,
)
from fleetward.features.messaging.service.floods import (
    FLOODING,
    hold_flooding,
    lift_floods,
    list_paused_out,
)
from fleetward.features.messaging.service.holds import lift_hold, list_held, list_holds, set_hold
from fleetward.features.messaging.service.sessions import (
    SessionChange,
    list_used_of_several,
    record_refusal,
    record_session_changes,
    retire_replaced,
)
from fleetward.features.messaging.service.shadows import (
    get_shadow,
    list_waiting_shadows,
    record_reported,
    set_desired,
)

__all__ = [
    "FLOODING",
    "TOLD_FOR",
    "SessionChange",
    "SessionRefusedError",
    "admission_record",
    "admission_records",
    "ask_gates",
    "check_command",
    "due_commands",
    "find_open_commands",
    "forget_old",
    "get_command",
    "get_shadow",
    "has_expired_commands",
    "hold_flooding",
    "lift_floods",
    "lift_hold",
    "list_admission_records",
    "list_commands",
    "list_full_queues",
    "list_held",
    "list_holds",
    "list_paused_out",
    "list_used_of_several",
    "list_waiting_shadows",
    "mark_sent",
    "queue_command",
    "record_refusal",
    "record_reported",
    "record_results",
    "record_session_changes",
    "registry_version",
    "require_session",
    "retire_replaced",
    "set_desired",
    "set_hold",
    "time_out_commands",
]
