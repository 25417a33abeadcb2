"""What the checklist says of the backup."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from fleetward.base.checklist import Check, CheckState
from fleetward.features.overview.model.checklist import Premises, check_premises

NOW = datetime(2026, 11, 26, tzinfo=UTC)
WEEK = timedelta(days=7)


def backup_point(**changed: Any) -> Check:
    premises = Premises(
        is_root_key_here=False, is_update_root_key_here=False, open_to_others=(),
        server_certificate_ends_at=None, database="sqlite", listens_beyond_loopback=False,
        host_names=("localhost",), **changed,
    )  # fmt: skip
    return next(check for check in check_premises(premises, 1, NOW) if check.id == "backup")


@pytest.mark.parametrize(
    ("at", "state"),
    [
        (None, CheckState.WARN),
        (NOW, CheckState.OK),
        (NOW - WEEK, CheckState.OK),
        (NOW - WEEK - timedelta(microseconds=1), CheckState.WARN),
    ],
)
def test_a_backup_counts_for_a_week(at: datetime | None, state: CheckState) -> None:
    check = backup_point(backed_up_at=at)
    assert check.state is state
    assert (" backup FILE " in check.command) is (state is CheckState.WARN)


def test_what_a_backup_does_not_reach_is_said() -> None:
    assert "is not in it" in backup_point(backed_up_at=NOW, saved_elsewhere=True).found
    assert "is not in it" not in backup_point(backed_up_at=NOW).found
