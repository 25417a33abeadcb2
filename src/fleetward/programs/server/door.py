"""What the program itself tells, beside what the features do."""

from fleetward.base.events import Severity
from fleetward.base.feature import About, EventKind, Feature

feature = Feature(
    name="platform",
    events=(
        EventKind("platform.initialised", Severity.INFO, About.PLATFORM, "the platform was made"),
        EventKind(
            "backup.taken",
            Severity.INFO,
            About.PLATFORM,
            "a backup was sealed, and read back whole: its `bytes`",
        ),
        EventKind(
            "listener.died",
            Severity.CRITICAL,
            About.PLATFORM,
            "a port of the platform stopped accepting, and the platform with it: why",
        ),
        EventKind(
            "tls.refused",
            Severity.WARNING,
            About.PLATFORM,
            "a client turned away at the door, or over one of its limits: `listener` (`console`, `devices`, "
            "`mqtt`, `dtls`), `reason`",
        ),
    ),
)
