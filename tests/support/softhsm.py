"""A SoftHSM token of the test's own."""

import os
import secrets
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

_MODULES = ("/usr/lib/softhsm/libsofthsm2.so", "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so")
_PIN = "4711-0815"


@dataclass(frozen=True)
class Token:
    module: Path
    label: str
    pin: str


def make_token(folder: Path) -> Token:
    """Return a fresh token. SoftHSM reads its folder from the environment at load: one folder a process.

    So all tokens of a test process lie together, and each needs a label of its own.
    """
    label = f"fleetward-{secrets.token_hex(4)}"
    module = next((Path(path) for path in _MODULES if Path(path).exists()), None)
    if module is None or shutil.which("softhsm2-util") is None:
        pytest.skip("SoftHSM is not installed")
    pytest.importorskip("pkcs11", reason="python-pkcs11 is not installed (extra pkcs11)")
    if "SOFTHSM2_CONF" not in os.environ:
        store = folder / "softhsm"
        store.mkdir()
        config = folder / "softhsm2.conf"
        config.write_text(f"directories.tokendir = {store}\nobjectstore.backend = file\nlog.level = ERROR\n")
        os.environ["SOFTHSM2_CONF"] = str(config)
    subprocess.run(
        ["softhsm2-util", "--init-token", "--free", "--label", label, "--so-pin", _PIN, "--pin", _PIN],
        check=True, capture_output=True, timeout=30,
    )  # fmt: skip
    return Token(module, label, _PIN)
