"""What devices of a model may measure."""

from fleetward.base import journal
from fleetward.base.db import Tx
from fleetward.base.errors import InvalidInputError, NotFoundError
from fleetward.features.attestation import store
from fleetward.features.attestation.model import EVERY_MODEL, Reference, ReferenceValues
from fleetward.features.devices import service as devices
from fleetward.wire.event_log import Measured

_HEX_DIGITS = "0123456789abcdef"
_DIGEST_CHARS = 64


def add_reference(tx: Tx, model_id: str, version: str, values: ReferenceValues) -> None:
    """Allow devices of a model to run a release. What was withdrawn stays so.

    Raises:
        NotFoundError: no such model.
    """
    devices.get_model(tx, model_id)
    _put(tx, [
        Reference(model_id, Measured.IMAGE, values.image_sha256, version),
        Reference(model_id, Measured.MANIFEST, values.manifest_sha256, version),
    ])  # fmt: skip


def add_boot_reference(
    tx: Tx, kind: Measured, digest: str, version: str, *, model_id: str = EVERY_MODEL
) -> Reference:
    """Allow a boot stage, or pinned keys, by digest; return what holds now.

    A digest that was withdrawn stays so, under whatever version it comes back.

    Raises:
        InvalidInputError: not one of these kinds, or not a SHA-256 in hexadecimal.
        NotFoundError: no such model.
    """
    if kind not in (Measured.BOOT_STAGE, Measured.PINNED_KEYS):
        raise InvalidInputError(f"reference: expected boot_stage or pinned_keys, found {kind}")
    if len(digest) != _DIGEST_CHARS or digest.strip(_HEX_DIGITS):
        raise InvalidInputError(f"reference: expected a SHA-256 in hexadecimal, found {digest[:80]!r}")
    if model_id != EVERY_MODEL:
        devices.get_model(tx, model_id)
    known = [
        one for one in store.list_references(tx, (model_id,)) if (one.kind, one.digest) == (kind, digest)
    ]
    withdrawn = next((one for one in known if one.withdrawn_at is not None), None)
    if withdrawn is not None:
        return withdrawn
    added = Reference(model_id, kind, digest, version)
    _put(tx, [added])
    return added


def list_references(tx: Tx, model_id: str) -> list[Reference]:
    """Return what devices of a model may measure, or might until it was withdrawn."""
    return store.list_references(tx, (model_id, EVERY_MODEL))


def withdraw_reference(tx: Tx, model_id: str, version: str) -> None:
    """No longer accept a release: devices that run it fail their next appraisal.

    Raises:
        NotFoundError: no such reference.
    """
    releases = (Measured.IMAGE, Measured.MANIFEST)
    known = store.list_references(tx, (model_id,))
    _withdraw(tx, model_id, [one for one in known if one.version == version and one.kind in releases])


def withdraw_digest(tx: Tx, model_id: str, digest: str) -> None:
    """No longer accept whatever has this digest: devices that measure it fail their next appraisal.

    Args:
        model_id: `*` for what is accepted of all models.

    Raises:
        NotFoundError: no such reference.
    """
    known = store.list_references(tx, (model_id,))
    _withdraw(tx, model_id, [one for one in known if one.digest == digest])


def _put(tx: Tx, found: list[Reference]) -> None:
    if store.put_references(tx, found):
        digests = {one.kind.value: one.digest for one in found}
        journal.record(tx, "reference.added", f"model:{found[0].model}", version=found[0].version, **digests)


def _withdraw(tx: Tx, model_id: str, found: list[Reference]) -> None:
    if not found:
        raise NotFoundError(f"references of {model_id}: expected it among them, found it is not")
    changed = [one for one in found if store.withdraw_reference(tx, one)]
    if changed:
        digests = {one.kind.value: one.digest for one in changed}
        journal.record(tx, "reference.withdrawn", f"model:{model_id}", version=changed[0].version, **digests)
