"""Whether a device is connected, as the broker tells."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Presence:
    """Whether a device holds a session now.

    Attributes:
        since: when this began, RFC 3339; "" when it never had one.
        address: of its last connection; "" when unknown.
        reason: why the last session ended; "" while connected.
        connection: server and number of the connection, so that the end of an older one changes nothing.
    """

    device: str
    is_connected: bool = False
    since: str = ""
    address: str = ""
    reason: str = ""
    connection: str = ""
