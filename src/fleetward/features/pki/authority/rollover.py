"""A new key for an issuing CA, certified by the offline root; its predecessor is trusted until its end.

Every step leaves files that the next call, or the next start, completes: the successor is written beside
first, the predecessor is filed away, then key and certificate change their names.
"""

from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from fleetward.base.files import sync_folder, write_atomically, write_secret
from fleetward.features.pki.authority.ceremony import (
    ISSUING,
    FileCa,
    load_ca,
    load_root,
    open_root_key,
    write_chains,
)
from fleetward.features.pki.authority.profiles import sign_issuing_ca, subject_key_id

NAMES = tuple(one.file for one in ISSUING)
_NEXT = ".next"
_NAME_CHARS = 16


def replace_issuing_ca(
    folder: Path, name: str, trust_domain: str, passphrase: bytes, now: datetime
) -> x509.Certificate:
    """Give the issuing CA `name` (one of `NAMES`) a new key and return its new certificate.

    Certificates of the old one stay valid to their end; new ones come from the new one. The platform must not
    run from this folder.

    Raises:
        WrongPassphraseError: the root key does not open; nothing was changed.
        KeyUnavailableError: the root key is not in the folder.
    """
    finish_replacement(folder, name, now)
    issuing = next(one for one in ISSUING if one.file == name)
    root, root_key = load_root(folder), open_root_key(folder, passphrase)
    key = ec.generate_private_key(ec.SECP256R1())
    successor = sign_issuing_ca(
        root, root_key, key.public_key(),
        trust_domain=trust_domain, name=issuing.name, usages=issuing.usages, now=now,
    )  # fmt: skip
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    write_secret(folder / "keys" / f"{name}.pem{_NEXT}", secret)
    write_atomically(folder / "ca" / f"{name}.crt{_NEXT}", successor.public_bytes(Encoding.PEM))
    finish_replacement(folder, name, now)
    return successor


def finish_replacement(folder: Path, name: str, now: datetime) -> bool:
    """Complete a replacement that was interrupted; return whether there was one."""
    next_key, next_certificate = folder / "keys" / f"{name}.pem{_NEXT}", folder / "ca" / f"{name}.crt{_NEXT}"
    if not next_certificate.exists():
        next_key.unlink(missing_ok=True)  # its certificate was never written: nothing knows of it
        return False
    if next_key.exists():
        _file_away(folder, name)
        next_key.replace(folder / "keys" / f"{name}.pem")
        sync_folder(folder / "keys")
    next_certificate.replace(folder / "ca" / f"{name}.crt")
    sync_folder(folder / "ca")
    write_chains(folder, tuple(one.certificate for one in load_earlier_cas(folder, "device-ca", now)))
    return True


def load_earlier_cas(folder: Path, name: str, now: datetime) -> tuple[FileCa, ...]:
    """Return the predecessors of an issuing CA that have not ended. Raises KeyUnavailableError."""
    found = [load_ca(folder, path.stem) for path in sorted((folder / "ca").glob(f"{name}-*.crt"))]
    return tuple(one for one in found if one.certificate.not_valid_after_utc > now)


def _file_away(folder: Path, name: str) -> None:
    ca = load_ca(folder, name)
    filed = f"{name}-{subject_key_id(ca.certificate).hex()[:_NAME_CHARS]}"
    write_secret(folder / "keys" / f"{filed}.pem", (folder / "keys" / f"{name}.pem").read_bytes())
    write_atomically(folder / "ca" / f"{filed}.crt", ca.certificate.public_bytes(Encoding.PEM))
