"""What the stores of access share: rows to values."""

from dataclasses import fields
from typing import Any, TypeVar

import sqlalchemy as sa

T = TypeVar("T")


def as_value(kind: type[T], row: sa.Row[Any], /, **converted: Any) -> T:
    """Return the dataclass `kind` of a row's columns of the same names; `converted` replace theirs."""
    names = [one.name for one in fields(kind) if one.name not in converted]  # type: ignore[arg-type]
    return kind(**{name: getattr(row, name) for name in names}, **converted)
