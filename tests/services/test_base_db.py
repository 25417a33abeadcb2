"""What the edge of the database says of trouble that passes."""

from contextlib import ExitStack

import pytest

from fleetward.base.db import Database
from fleetward.base.errors import UnavailableError
from fleetward.base.web import render_error


@pytest.mark.parametrize("is_write", [False, True])
def test_a_used_up_pool_asks_to_come_back(db: Database, *, is_write: bool) -> None:
    pool = db.engine.pool
    pool._timeout = 0.05  # type: ignore[attr-defined]  # nobody waits half a minute here
    most = pool.size() + pool._max_overflow  # type: ignore[attr-defined]
    with ExitStack() as held:
        for _ in range(most):
            held.enter_context(db.read())
        with pytest.raises(UnavailableError, match="all of them in use") as caught:
            held.enter_context(db.write("system:test") if is_write else db.read())
    answer = render_error(caught.value)
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")
    with db.write("system:test") as tx:
        tx.conn.exec_driver_sql("SELECT 1")
