"""The roles people hold, each in one group of devices or in all, and the permissions routes name."""

from enum import StrEnum

from fleetward.base.errors import InvalidInputError

ALL_GROUPS = "*"


class Role(StrEnum):
    VIEWER = "viewer"
    OPERATOR = "operator"
    RELEASE_MANAGER = "release-manager"
    SECURITY_OFFICER = "security-officer"
    ADMINISTRATOR = "administrator"


def parse_role(text: str) -> Role:
    """Return the role named `text`. Raises InvalidInputError."""
    try:
        return Role(text)
    except ValueError as error:
        expected = ", ".join(role.value for role in Role)
        raise InvalidInputError(f"role: expected one of {expected}, found {text[:40]!r}") from error


# Every permission a route of ours asks for; a token's scopes are chosen from these.
PERMISSIONS = frozenset(
    {
        "attestation.manage", "attestation.read", "audit.read", "authority.read", "certificate.read",
        "command.read", "command.run", "device.add", "device.claim", "device.import", "device.quarantine",
        "device.read", "device.release", "device.retire", "device.revoke", "event.read", "factory.read",
        "factory.trust", "grant.read", "model.add", "model.read", "operator.disable", "operator.invite",
        "operator.read", "operator.recover", "release.publish", "release.read", "release.withdraw",
        "session.read", "session.revoke", "shadow.read", "shadow.write", "telemetry.read", "video.view",
    }
)  # fmt: skip
