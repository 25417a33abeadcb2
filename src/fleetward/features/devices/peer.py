"""Who a device is on an mTLS route: the certificate of its handshake, checked against the registry."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends
from starlette.requests import HTTPConnection

from fleetward.base.db import Database, Tx
from fleetward.base.errors import UnauthenticatedError
from fleetward.base.web import peer_certificate
from fleetward.features.devices import service
from fleetward.features.devices.model import Device
from fleetward.features.pki import service as pki
from fleetward.features.pki.model import DeviceCertificate
from fleetward.features.pki.service import PkiContext


@dataclass(frozen=True)
class DevicePeer:
    """A device that proved possession of a live certificate of ours."""

    device: Device
    certificate: DeviceCertificate


class PeerRefusedError(UnauthenticatedError):
    """No certificate, or one whose device may not speak to us."""

    code = "device_refused"


def authenticate_peer(tx: Tx, context: PkiContext, der: bytes | None) -> DevicePeer:
    """Return the device behind a client certificate.

    Raises:
        PeerRefusedError: none was sent, or the device's life has ended.
        UnauthenticatedError: the certificate is expired, revoked or not ours.
    """
    if der is None:
        raise PeerRefusedError(
            "client certificate: expected the device's own, found none",
            hint="Connect with the certificate from EST enrollment.",
            challenge="Mutual",
        )
    certificate = pki.verify_device_certificate(tx, context, der, tx.now)
    device = service.find_device(tx, certificate.device_id)
    if device is None or device.has_ended:
        state = "unknown" if device is None else device.state.value
        raise PeerRefusedError(
            f"device {certificate.device_id}: expected a live device, found it {state}", challenge="Mutual"
        )
    return DevicePeer(device, certificate)


def admit_peer(db: Database, context: PkiContext, der: bytes | None) -> DevicePeer:
    """Return the device behind a client certificate; what the certificate has replaced is revoked with that.

    Raises:
        PeerRefusedError, UnauthenticatedError: as `authenticate_peer`.
    """
    with db.read() as tx:
        peer = authenticate_peer(tx, context, der)
    if peer.certificate.is_successor:
        with db.write(f"device:{peer.device.id}") as tx:
            pki.retire_superseded(tx, [peer.certificate.serial])
    return peer


def authenticated_device(connection: HTTPConnection) -> DevicePeer:
    """Return the peer of an HTTP or WebSocket connection; see `admit_peer`."""
    state = connection.app.state
    return admit_peer(state.edge.db, state.pki, peer_certificate(connection.scope))


Peer = Annotated[DevicePeer, Depends(authenticated_device)]
