"""Opens the device's keys and says what enrollment must know of them. It blocks: a chip may take its time."""

from dataclasses import dataclass
from typing import cast

from cryptography import x509

from fleetward.base.agent_config import AgentConfig, Pkcs11Keys, SoftwareKeys
from fleetward.base.errors import ConfigError, FleetwardError
from fleetward.features.attestation.ports import AttestationDevice
from fleetward.features.devices.model import KeyTier
from fleetward.features.enrollment import device as enrollment
from fleetward.features.enrollment.ports import DeviceKeyStore
from fleetward.outside.keys.open import open_key_store


@dataclass(frozen=True)
class DeviceKeys:
    """The key store, open.

    Attributes:
        chip: the TPM, in its tier.
    """

    store: DeviceKeyStore
    settings: enrollment.Settings
    chip: AttestationDevice | None


@dataclass(frozen=True)
class KeyTrouble:
    """The store cannot be opened now."""

    reason: str


def open_device_keys(config: AgentConfig) -> DeviceKeys | KeyTrouble:
    """Return the keys that the settings name, or why they cannot be reached."""
    try:
        store = open_key_store(config.keys)
        chip = cast("AttestationDevice", store) if store.tier is KeyTier.TPM else None
        shown = None if chip is None else _show(chip)
        return DeviceKeys(store, _settings(config, shown), chip)
    except FleetwardError as error:
        return KeyTrouble(str(error))


def _show(chip: AttestationDevice) -> enrollment.Chip:
    return enrollment.Chip(tuple(chip.ek_certificate_chain()), chip.ak_public())


def _settings(config: AgentConfig, chip: enrollment.Chip | None) -> enrollment.Settings:
    root_pem = config.ca_file.read_bytes()
    try:
        roots = x509.load_pem_x509_certificates(root_pem)
    except ValueError as error:
        raise ConfigError(f"ca_file: expected certificates in {config.ca_file}, found none") from error
    keys = config.keys
    return enrollment.Settings(
        device_id=config.device_id,
        root_pem=root_pem,
        # The root was made before this device got it: no true time is earlier.
        earliest=max(root.not_valid_before_utc for root in roots),
        chip=chip,
        has_idevid=isinstance(keys, Pkcs11Keys) and keys.idevid is not None,
        factory_key=keys.factory_key if isinstance(keys, SoftwareKeys | Pkcs11Keys) else None,
    )
