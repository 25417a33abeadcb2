"""Use cases of attestation. Each runs in the caller's transaction; a refusal raises and changes nothing."""

from fleetward.features.attestation.service.appraising import (
    Nonce,
    appraise,
    appraise_over,
    find_appraisal,
    forget_expired,
    issue_nonce,
    list_appraisals,
    record_refusal,
)
from fleetward.features.attestation.service.chips import (
    Activation,
    ActivationChallenge,
    add_ek_anchors,
    begin_activation,
    bind_key,
    find_attestation_key,
    finish_activation,
    list_ek_anchors,
    verify_chip,
    verify_key_certification,
    withdraw_ek_anchor,
)
from fleetward.features.attestation.service.references import (
    add_boot_reference,
    add_reference,
    list_references,
    withdraw_digest,
    withdraw_reference,
)

__all__ = [
    "Activation",
    "ActivationChallenge",
    "Nonce",
    "add_boot_reference",
    "add_ek_anchors",
    "add_reference",
    "appraise",
    "appraise_over",
    "begin_activation",
    "bind_key",
    "find_appraisal",
    "find_attestation_key",
    "finish_activation",
    "forget_expired",
    "issue_nonce",
    "list_appraisals",
    "list_ek_anchors",
    "list_references",
    "record_refusal",
    "verify_chip",
    "verify_key_certification",
    "withdraw_digest",
    "withdraw_ek_anchor",
    "withdraw_reference",
]
