"""Opens the key store a device's settings name."""

from fleetward.base.agent_config import Keys, Pkcs11Keys, SoftwareKeys
from fleetward.base.errors import ConfigError
from fleetward.features.enrollment.ports import DeviceKeyStore
from fleetward.outside.keys.software import SoftwareKeyStore


def open_key_store(keys: Keys) -> DeviceKeyStore:
    """Return the key store of `keys`; libraries of the other tiers are not loaded.

    Raises:
        MissingProgramError: its library or module is not installed.
        KeyUnavailableError: chip or token does not answer.
        ConfigError: the PIN file is unreadable.
    """
    if isinstance(keys, SoftwareKeys):
        return SoftwareKeyStore(keys.folder)
    if isinstance(keys, Pkcs11Keys):
        from fleetward.outside.keys.pkcs11 import Pkcs11KeyStore  # noqa: PLC0415 - only this tier pays

        try:
            pin = keys.pin_file.read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{keys.pin_file}: expected the token's PIN, found it unreadable") from error
        return Pkcs11KeyStore(keys.module, keys.token, pin)
    from fleetward.outside.keys.tpm import TpmKeyStore  # noqa: PLC0415 - only this tier pays

    return TpmKeyStore(keys.tcti, keys.folder)
