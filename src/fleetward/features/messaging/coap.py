"""Telemetry over CoAP: one reading a request, by the rules of an MQTT session."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from fleetward.base.coap import CoapAnswer, CoapRequest, Code
from fleetward.base.errors import ForbiddenError
from fleetward.base.feature import CoapResource, House
from fleetward.features.devices.peer import admit_peer
from fleetward.features.messaging import service
from fleetward.features.pki.service import PkiContext
from fleetward.wire.mqtt_topics import parse_mqtt_topic
from fleetward.wire.telemetry import parse_reading


@dataclass(frozen=True)
class Uplink:
    """Where a device's messages enter the platform: `publish` takes a subject and a payload."""

    publish: Callable[[str, bytes], Awaitable[None]]


async def take_telemetry(house: House, request: CoapRequest) -> CoapAnswer:
    """Take a reading as if it had come by MQTT."""
    topic = parse_mqtt_topic("/".join(request.path))
    parse_reading(request.payload, what=topic.mqtt)
    await asyncio.to_thread(_check_session, house, request.peer, topic.device)
    await house.get(Uplink).publish(topic.subject, request.payload)
    return CoapAnswer(Code.CHANGED)


def _check_session(house: House, der: bytes, device_id: str) -> None:
    peer = admit_peer(house.db, house.get(PkiContext), der)
    if peer.device.id != device_id:
        raise ForbiddenError(f"topic of {device_id}: expected the device's own, found {peer.device.id}'s")
    with house.db.read() as tx:
        service.require_session(tx, device_id, peer.certificate)


RESOURCES = (CoapResource("POST", "d/+/t/+", take_telemetry),)
