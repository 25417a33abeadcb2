"""Draws the deployment checklist."""

from fleetward.base.db import Tx
from fleetward.features.devices import service as devices
from fleetward.features.overview.model.checklist import Check, Findings, Premises, run_checks
from fleetward.features.overview.service.people import list_people
from fleetward.features.pki.service import PkiContext


def check_deployment(tx: Tx, pki: PkiContext, premises: Premises) -> list[Check]:
    """Return what can be known of how this platform is run."""
    return run_checks(
        Findings(
            now=tx.now,
            premises=premises,
            authorities=pki.ends,
            models=devices.list_models(tx),
            devices=devices.count_devices(tx).total,
            people=list_people(tx),
        )
    )
