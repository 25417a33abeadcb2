"""The one family of errors.

A message names the thing, what was expected, what was found, in that order. `hint` says how to mend it.
Errors know nothing of HTTP: `base.web` maps classes to statuses.
"""

from typing import ClassVar


class FleetwardError(Exception):
    """Root of every error raised on purpose.

    Attributes:
        code: fixed public name of the error, part of the HTTP and CLI contract.
        hint: how to mend it, or "".
        details: further facts for machines; never a secret.
    """

    code: ClassVar[str] = "error"

    def __init__(self, message: str, *, hint: str = "", **details: object) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.details: dict[str, object] = details

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".strip() if self.hint else self.message


class InvalidInputError(FleetwardError):
    """Bytes or values from outside that cannot be accepted, whoever sent them."""

    code = "invalid_input"


class TooLargeError(InvalidInputError):
    """Input over its size limit."""

    code = "too_large"


class UnauthenticatedError(FleetwardError):
    """The caller has not proved who they are."""

    code = "unauthenticated"


class ForbiddenError(FleetwardError):
    """The caller is known and may not do this."""

    code = "forbidden"


class NotFoundError(FleetwardError):
    """No such thing, or none the caller may see."""

    code = "not_found"


class ConflictError(FleetwardError):
    """The thing is not in a state that allows this."""

    code = "conflict"


class RateLimitedError(FleetwardError):
    """Too many attempts; `retry_after_s` in details says when to come back."""

    code = "rate_limited"


class UnavailableError(FleetwardError):
    """Something we need does not answer now; trying again later may work."""

    code = "unavailable"


class KeyUnavailableError(UnavailableError):
    """A private key cannot be reached or used."""

    code = "key_unavailable"


class ConfigError(FleetwardError):
    """A setting is missing or wrong; the message names file and field."""

    code = "config_invalid"


class CorruptDataError(FleetwardError):
    """Stored data is not what was written; nothing is repaired silently."""

    code = "data_corrupt"


class NewerDataError(FleetwardError):
    """The data was written by a newer release than this one."""

    code = "data_newer"


class PortInUseError(FleetwardError):
    """A listener's port is taken."""

    code = "port_in_use"


class MissingProgramError(FleetwardError):
    """A program or library this needs is not installed."""

    code = "program_missing"
