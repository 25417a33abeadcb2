"""Use cases of enrollment. Each runs in the caller's transaction; a refusal raises and changes nothing."""

from fleetward.features.enrollment.service.claims import add_device, create_claim, forget_expired
from fleetward.features.enrollment.service.est import (
    enroll_by_claim,
    enroll_by_idevid,
    enroll_by_listed_key,
    reenroll,
)
from fleetward.features.enrollment.service.refusals import record_refusal
from fleetward.features.enrollment.service.shipments import (
    ImportReport,
    import_manifest,
    list_factories,
    list_idevid_authorities,
    trust_factory,
)
from fleetward.features.enrollment.service.tpm import begin_tpm, find_attempt, finish_tpm

__all__ = [
    "ImportReport",
    "add_device",
    "begin_tpm",
    "create_claim",
    "enroll_by_claim",
    "enroll_by_idevid",
    "enroll_by_listed_key",
    "find_attempt",
    "finish_tpm",
    "forget_expired",
    "import_manifest",
    "list_factories",
    "list_idevid_authorities",
    "record_refusal",
    "reenroll",
    "trust_factory",
]
