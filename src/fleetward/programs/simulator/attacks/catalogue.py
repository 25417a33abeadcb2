"""Every attack by name, in the order `all` plays them."""

from fleetward.programs.simulator.attacks import firmware, network
from fleetward.programs.simulator.attacks.target import Attack

ATTACKS: dict[str, Attack] = {
    "tampered-slot": firmware.tampered_slot,
    "older-image": firmware.older_image,
    "strangers-firmware": firmware.strangers_firmware,
    "rolled-back-metadata": firmware.rolled_back_metadata,
    "cloned-certificate": network.cloned_certificate,
    "another-name": network.another_name,
    "foreign-topic": network.foreign_topic,
    "replayed-claim": network.replayed_claim,
    "foreign-claim": network.foreign_claim,
    "legacy-tls": network.legacy_tls,
    "plaintext": network.plaintext,
}
