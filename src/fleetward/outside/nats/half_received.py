"""Keeps messages of QoS 2 that are never released from filling the room of all.

nats-server holds what a device publishes at QoS 2 until the device releases it (MQTT 3.1.1 section 4.3.3), as
`$MQTT.qos2.in.<client id>.<packet id>`, in one stream for all devices, through disconnects and restarts. Who
holds more there than any client has under way is cut off, and loses what it holds. So does who has neither a
connection nor a session to come back to, without a word.
"""

import asyncio
import hashlib
import time
from collections import Counter
from collections.abc import Callable, Iterable

import nats
from nats.js import JetStreamContext
from nats.js.errors import NotFoundError

from fleetward.base.logging import get_logger
from fleetward.features.devices.model import ENDED
from fleetward.outside.nats.mirror import AdmissionMirror
from fleetward.outside.nats.sessions import LiveSessions
from fleetward.outside.nats.streams import MQTT_HALF_RECEIVED, MQTT_SESSIONS

log = get_logger("half-received")

# Of one device. Clients have 20 (mosquitto, paho) or 65 (HiveMQ) under way.
MAX_HALF_RECEIVED = 128
_LOOK_EVERY_S = 1.0
_SWEEP_EVERY_S = 30.0
_PREFIX = "$MQTT.qos2.in."
_HASH_CHARS = 8
_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def session_subject(client_id: str) -> str:
    """Return where nats-server keeps a client's MQTT session, if it has one that outlives its connection."""
    digest = hashlib.sha256(client_id.encode()).digest()
    return "$MQTT.sess." + "".join(_DIGITS[one % len(_DIGITS)] for one in digest[:_HASH_CHARS])


class HalfReceived:
    """Looks each second whether somebody holds too much, and each half minute who will never release it."""

    def __init__(
        self,
        js: JetStreamContext,
        admission: AdmissionMirror,
        sessions: LiveSessions,
        *,
        on_flood: Callable[[str, str], None],
    ) -> None:
        self._js = js
        self._admission = admission
        self._sessions = sessions
        self._on_flood = on_flood
        self._swept_s = 0.0

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            await asyncio.sleep(_LOOK_EVERY_S)
            try:
                await self.look()
            except (nats.errors.Error, TimeoutError) as error:  # the broker is away, and so are its clients
                log.warning("half_received_unknown", error=type(error).__name__)

    async def look(self) -> None:
        """Cut off who holds too much; now and then let go what nobody will release."""
        is_sweep = time.monotonic() - self._swept_s >= _SWEEP_EVERY_S
        total = (await self._js.stream_info(MQTT_HALF_RECEIVED)).state.messages
        if not total or (total <= MAX_HALF_RECEIVED and not is_sweep):
            return
        info = await self._js.stream_info(MQTT_HALF_RECEIVED, subjects_filter=f"{_PREFIX}>")
        held = Counter(_client_of(subject) for subject in info.state.subjects or {})
        greedy = {device: count for device, count in held.items() if count > MAX_HALF_RECEIVED}
        for device, count in greedy.items():
            self._on_flood(device, f"it began {count} messages of QoS 2 without releasing them")
            await self._drop(device, "it holds too many")
        if is_sweep:
            self._swept_s = time.monotonic()
            await self._sweep(held.keys() - greedy.keys())

    async def _sweep(self, devices: Iterable[str]) -> None:
        for device in devices:
            if device not in self._sessions and not await self._may_return(device):
                await self._drop(device, "nobody will release them")

    async def _may_return(self, device: str) -> bool:
        """Whether a device that is away lives, and has a session that it could go on with."""
        record = self._admission.find(device)
        if record is None or record.state in ENDED:
            return False
        try:
            await self._js.get_last_msg(MQTT_SESSIONS, session_subject(device))
        except NotFoundError:
            return False
        return True

    async def _drop(self, device: str, why: str) -> None:
        log.warning("half_received_dropped", device=device, reason=why)
        await self._js.purge_stream(MQTT_HALF_RECEIVED, subject=f"{_PREFIX}{device}.>")


def _client_of(subject: str) -> str:
    return subject.removeprefix(_PREFIX).split(".", 1)[0]
