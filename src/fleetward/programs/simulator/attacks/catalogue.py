"""Every attack by name, in the order `all` plays them."""

from fleetward.programs.simulator.attacks import network
from fleetward.programs.simulator.attacks.target import Attack

ATTACKS: dict[str, Attack] = {
    "replayed-claim": network.replayed_claim,
    "foreign-claim": network.foreign_claim,
    "cloned-certificate": network.cloned_certificate,
    "another-name": network.another_name,
    "foreign-topic": network.foreign_topic,
    "legacy-tls": network.legacy_tls,
    "plaintext": network.plaintext,
}
