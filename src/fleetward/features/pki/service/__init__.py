"""Use cases of the certificate authority. Each change is audited and told as an event."""

from fleetward.features.pki.service.certificates import (
    KEPT_AFTER_EXPIRY,
    MAX_LISTED,
    find_certificate,
    forget_expired,
    get_certificate,
    is_revoked,
    list_certificates,
    list_ending,
    list_live_serials,
    list_revoked_serials,
    list_unexpired,
    verify_device_certificate,
)
from fleetward.features.pki.service.context import PkiContext
from fleetward.features.pki.service.issuing import IssuedCertificate, issue_device_certificate
from fleetward.features.pki.service.revoking import (
    list_shown_of_several,
    retire_superseded,
    revoke_certificate,
    revoke_device,
    revoke_serials,
)

__all__ = [
    "KEPT_AFTER_EXPIRY",
    "MAX_LISTED",
    "IssuedCertificate",
    "PkiContext",
    "find_certificate",
    "forget_expired",
    "get_certificate",
    "is_revoked",
    "issue_device_certificate",
    "list_certificates",
    "list_ending",
    "list_live_serials",
    "list_revoked_serials",
    "list_shown_of_several",
    "list_unexpired",
    "retire_superseded",
    "revoke_certificate",
    "revoke_device",
    "revoke_serials",
    "verify_device_certificate",
]
