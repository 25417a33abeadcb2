"""What the stores of access share: rows to values, and an insert that loses to an earlier one."""

from dataclasses import fields
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from fleetward.base.db import Tx

T = TypeVar("T")


def as_value(kind: type[T], row: sa.Row[Any], /, **converted: Any) -> T:
    """Return the dataclass `kind` of a row's columns of the same names; `converted` replace theirs."""
    names = [one.name for one in fields(kind) if one.name not in converted]  # type: ignore[arg-type]
    return kind(**{name: getattr(row, name) for name in names}, **converted)


def insert_new(tx: Tx, table: sa.Table, values: dict[str, Any]) -> bool:
    """Insert a row unless its key is taken; return whether it was inserted."""
    insert = sqlite.insert if tx.conn.dialect.name == "sqlite" else postgresql.insert
    # SQLAlchemy keeps the count of an INSERT only when asked to.
    statement = insert(table).values(values).on_conflict_do_nothing()
    return tx.conn.execute(statement.execution_options(preserve_rowcount=True)).rowcount == 1
