"""The roles people hold, each in one group of devices or in all."""

from enum import StrEnum

from fleetward.base.errors import InvalidInputError

ALL_GROUPS = "*"


class Role(StrEnum):
    """From the one that may least to the one that may most."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    RELEASE_MANAGER = "release-manager"
    SECURITY_OFFICER = "security-officer"
    ADMINISTRATOR = "administrator"


ABOUT = {
    Role.VIEWER: "sees devices and what they run",
    Role.OPERATOR: "brings devices in and keeps them working",
    Role.RELEASE_MANAGER: "says what firmware devices run",
    Role.SECURITY_OFFICER: "cuts off devices and people, says what is trusted, reviews rights",
    Role.ADMINISTRATOR: "may do everything that does not take another person",
}


def parse_role(text: str) -> Role:
    """Return the role named `text`. Raises InvalidInputError."""
    try:
        return Role(text)
    except ValueError as error:
        expected = ", ".join(role.value for role in Role)
        raise InvalidInputError(f"role: expected one of {expected}, found {text[:40]!r}") from error
