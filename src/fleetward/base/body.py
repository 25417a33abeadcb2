"""The JSON body of a request, as every route has it."""

import unicodedata
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, ValidationInfo, field_validator

_LINE_SIGNS = "\n\r\t"
_TURNING = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


class Body(BaseModel):
    """The JSON body of a request: what it does not name is refused, and nothing is taken for what it is not.

    A text is no number and no truth value. A field of an enumeration, whose values come as texts, says
    `strict=False` for itself. A text is one line that can be read as it is: people see it later, in terminals
    too; one that has several lines is named in `several_lines`.
    """

    model_config = ConfigDict(extra="forbid", strict=True)
    several_lines: ClassVar[frozenset[str]] = frozenset()

    @field_validator("*", mode="after")
    @classmethod
    def _can_be_read(cls, value: Any, info: ValidationInfo) -> Any:
        if isinstance(value, str):
            keep = _LINE_SIGNS if info.field_name in cls.several_lines else ""
            hidden = next((one for one in value if is_hidden(one) and one not in keep), None)
            if hidden is not None:
                raise ValueError(f"expected text that can be read, found the character U+{ord(hidden):04X}")
        return value


def is_hidden(one: str) -> bool:
    """Whether a character obeys instead of being shown: a control, or one that turns text around (UAX 9)."""
    return unicodedata.category(one) in ("Cc", "Cs", "Zl", "Zp") or one in _TURNING
