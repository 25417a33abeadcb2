"""What nats-server is told: its configuration file.

Every `host:port` and path is quoted: bare ones its parser reads as numbers. There is no password and no
plaintext listener: the back end authenticates by nkey over TLS, devices by certificate.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from fleetward.base.tls_policy import IANA_CIPHERS
from fleetward.outside.nats.credentials import NatsKeys, public_nkey

FLEET_ACCOUNT = "FLEET"
SYSTEM_ACCOUNT = "SYS"
# Of any message, a device's or our own: nats-server heeds no limit of the callout's for MQTT clients, and
# ends the connection of who sends more.
MAX_PAYLOAD_BYTES = 128 * 1024
# What may wait for one of our connections: all that a consumer has under way at once, and as much again.
MAX_PENDING_BYTES = 128 * 1024 * 1024
# Each subscription of a device at QoS 1 is a consumer of one stream, where nats-server allows 1,000.
MAX_CONSUMERS = 1_000_000
# Of one connection, a device's or our own; one at QoS 1 counts twice.
MAX_SUBSCRIPTIONS = 1_024
MAX_CONTROL_LINE_BYTES = 8 * 1024
AUTHORIZATION_TIMEOUT_S = 5


@dataclass(frozen=True)
class ClusterSettings:
    """How a nats-server takes part in a cluster.

    Attributes:
        listen: where other servers of the cluster reach it.
        routes: `tls://host:port` of the others.
        certificate: PEM of the route certificate and its key, for both ends of a route.
        ca_file: PEM of the CA of all route certificates.
        replicas: copies of what nats-server keeps for MQTT sessions.
    """

    listen: tuple[str, int]
    routes: tuple[str, ...]
    certificate: Path
    ca_file: Path
    replicas: int


@dataclass(frozen=True)
class BrokerSettings:
    """What a nats-server is started with.

    Attributes:
        folder: its configuration and streams.
        mqtt_listen, nats_listen: address and port; the second should be loopback.
        certificate, private_key: PEM of the server certificate, for both listeners; re-read on `reload`.
        device_ca: PEM of the CAs that issue device certificates, and of no other CA.
        max_store_bytes: disk that all streams together may take.
        is_synced_always: flush every message to disk before it is acknowledged. Without, nothing is lost when
            any process is killed, and up to `sync_interval_s` of acknowledged messages in a power cut.
    """

    folder: Path
    mqtt_listen: tuple[str, int]
    nats_listen: tuple[str, int]
    certificate: Path
    private_key: Path
    device_ca: Path
    log_file: Path
    max_store_bytes: int = 10 * 1024**3
    is_synced_always: bool = False
    sync_interval_s: int = 10
    server_name: str = "fleetward"
    cluster: ClusterSettings | None = None

    @property
    def config_file(self) -> Path:
        return self.folder / "nats.conf"

    @property
    def pid_file(self) -> Path:
        return self.folder / "nats.pid"


def render_config(settings: BrokerSettings, keys: NatsKeys) -> str:
    """Return the text of nats.conf. The same input gives the same text."""
    platform, system = public_nkey(keys.platform), public_nkey(keys.system)
    tls = f"cert_file: {_quote(settings.certificate)}, key_file: {_quote(settings.private_key)}"
    ciphers = ", ".join(_quote(cipher) for cipher in IANA_CIPHERS)
    sync = '"always"' if settings.is_synced_always else f'"{settings.sync_interval_s}s"'
    replicas = 1 if settings.cluster is None else settings.cluster.replicas
    return f"""# Written by Fleetward; changes are lost.
server_name: {_quote(settings.server_name)}
listen: {_quote(_join(settings.nats_listen))}
pid_file: {_quote(settings.pid_file)}
max_payload: {MAX_PAYLOAD_BYTES}
max_pending: {MAX_PENDING_BYTES}
max_control_line: {MAX_CONTROL_LINE_BYTES}
max_closed_clients: 1000
max_subscriptions: {MAX_SUBSCRIPTIONS}
logtime_utc: true
debug: true
tls {{ {tls}, min_version: "1.3", handshake_first: true, timeout: 5 }}
jetstream {{
  store_dir: {_quote(settings.folder / "streams")}
  max_memory_store: 67108864
  max_file_store: {settings.max_store_bytes}
  sync_interval: {sync}
  limits {{ default_max_consumers: {MAX_CONSUMERS} }}
}}
mqtt {{
  listen: {_quote(_join(settings.mqtt_listen))}
  tls {{
    {tls}, ca_file: {_quote(settings.device_ca)}, verify: true, timeout: 5
    min_version: "1.2", cipher_suites: [{ciphers}]
  }}
  stream_replicas: {replicas}
  ack_wait: "30s"
  max_ack_pending: 100
}}
accounts {{
  {FLEET_ACCOUNT}: {{ jetstream: enabled, users: [ {{ nkey: "{platform}" }} ] }}
  {SYSTEM_ACCOUNT}: {{ users: [ {{ nkey: "{system}" }} ] }}
}}
system_account: {SYSTEM_ACCOUNT}
authorization {{
  timeout: {AUTHORIZATION_TIMEOUT_S}
  auth_callout {{
    issuer: "{public_nkey(keys.issuer)}"
    account: {FLEET_ACCOUNT}
    auth_users: [ "{platform}", "{system}" ]
  }}
}}
{_render_cluster(settings.cluster)}"""


def _render_cluster(cluster: ClusterSettings | None) -> str:
    if cluster is None:
        return ""
    pem = _quote(cluster.certificate)
    return f"""cluster {{
  name: "fleetward"
  listen: {_quote(_join(cluster.listen))}
  routes: [{", ".join(_quote(route) for route in cluster.routes)}]
  tls {{
    cert_file: {pem}, key_file: {pem}, ca_file: {_quote(cluster.ca_file)}
    min_version: "1.3", timeout: 5
  }}
}}
"""


def _quote(value: Path | str) -> str:
    return json.dumps(str(value), ensure_ascii=False)


def _join(listen: tuple[str, int]) -> str:
    host, port = listen
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
