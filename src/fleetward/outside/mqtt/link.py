"""One MQTT connection of a device, from TCP to its end: version 3.1.1, over mutual TLS, QoS 1.

A connection is never reopened: who wants another makes another. What was published and not acknowledged when
it ended is the caller's to publish again. The session on the broker outlives it (clean session off), so that
commands sent meanwhile are delivered.
"""

import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.reasoncodes import ReasonCode

from fleetward.outside.tls.client import DeviceSocket, TlsFailure, explain

KEEPALIVE_S = 30
_CONNECT_TIMEOUT_S = 10.0


@dataclass(frozen=True)
class Opened:
    """The broker accepted us."""


@dataclass(frozen=True)
class Refused:
    """The broker's policy refused us, or its TLS did; or nobody was there. The connection is over."""

    failure: TlsFailure
    is_policy: bool = False


@dataclass(frozen=True)
class Subscribed:
    """The broker answered our subscription."""

    is_granted: bool


@dataclass(frozen=True)
class Acknowledged:
    """The broker has `packet` (its PUBACK came)."""

    packet: int


@dataclass(frozen=True)
class Received:
    """A message came; `MqttLink.acknowledge(packet)` once it is taken care of. 0 is a packet of QoS 0."""

    packet: int
    topic: str
    payload: bytes


@dataclass(frozen=True)
class Lost:
    """An accepted connection ended."""

    reason: str


Event = Opened | Refused | Subscribed | Acknowledged | Received | Lost


class MqttLink:
    """A connection under way or open. Its thread hands `tell` its events, the last one Refused or Lost."""

    def __init__(
        self,
        address: tuple[str, int],
        *,
        client_id: str,
        context: ssl.SSLContext,
        tell: Callable[["MqttLink", Event], None],
        keepalive_s: int = KEEPALIVE_S,
    ) -> None:
        self._address = address
        self._tell = tell
        self._keepalive_s = keepalive_s
        self._is_open = False
        self._socket: object = None
        self.ended = threading.Event()
        self._client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=client_id,
            clean_session=False,
            protocol=MQTTProtocolVersion.MQTTv311,
            reconnect_on_failure=False,
            manual_ack=True,
        )
        self._client.connect_timeout = _CONNECT_TIMEOUT_S
        # The caller bounds what is under way; here nothing waits behind a bound of paho's own.
        self._client.max_inflight_messages_set(0)
        self._client.tls_set_context(context)
        self._client.on_socket_open = self._on_socket_open
        self._client.on_connect = self._on_connect
        self._client.on_disconnect = self._on_disconnect
        self._client.on_subscribe = self._on_subscribe
        self._client.on_publish = self._on_publish
        self._client.on_message = self._on_message

    def start(self) -> None:
        """Begin to connect."""
        threading.Thread(target=self._connect, name="mqtt-connect", daemon=True).start()

    def subscribe(self, filters: tuple[str, ...]) -> None:
        self._client.subscribe([(one, 1) for one in filters])

    def publish(self, topic: str, payload: bytes) -> int | None:
        """Send a message at QoS 1; return its packet number, None when the connection is over."""
        info = self._client.publish(topic, payload, qos=1)
        return info.mid if info.rc == MQTTErrorCode.MQTT_ERR_SUCCESS else None

    def acknowledge(self, packet: int) -> None:
        """Tell the broker that the message `packet` need not come again; one of QoS 0 has number 0."""
        if packet:
            self._client.ack(packet, 1)

    def close(self) -> None:
        """End the connection in good order; `ended` is set when it has."""
        self._client.disconnect()

    def _connect(self) -> None:
        try:
            self._client.connect(*self._address, keepalive=self._keepalive_s)
        except (OSError, ValueError) as error:
            self._end(Refused(explain(error)))
        if not self.ended.is_set():
            self._client.loop_start()

    def _on_socket_open(self, _client: paho.Client, _data: Any, opened: object) -> None:
        self._socket = opened

    def _on_connect(
        self, _client: paho.Client, _data: Any, _flags: paho.ConnectFlags, code: ReasonCode, _more: Any
    ) -> None:
        if code.is_failure:
            self._end(Refused(TlsFailure(f"the broker answered: {code}"), is_policy=True))
        else:
            self._is_open = True
            self._tell(self, Opened())

    def _on_disconnect(
        self, _client: paho.Client, _data: Any, _flags: paho.DisconnectFlags, code: ReasonCode, _more: Any
    ) -> None:
        found = self._socket.failure if isinstance(self._socket, DeviceSocket) else None
        failure = TlsFailure(str(code)) if found is None else explain(found)
        self._end(Lost(failure.reason) if self._is_open else Refused(failure))

    def _on_subscribe(
        self, _client: paho.Client, _data: Any, _packet: int, codes: list[ReasonCode], _more: Any
    ) -> None:
        self._tell(self, Subscribed(is_granted=not any(code.is_failure for code in codes)))

    def _on_publish(
        self, _client: paho.Client, _data: Any, packet: int, _code: ReasonCode, _more: Any
    ) -> None:
        self._tell(self, Acknowledged(packet))

    def _on_message(self, _client: paho.Client, _data: Any, message: paho.MQTTMessage) -> None:
        self._tell(self, Received(message.mid, message.topic, bytes(message.payload)))

    def _end(self, last: Refused | Lost) -> None:
        if not self.ended.is_set():
            self.ended.set()
            self._tell(self, last)
