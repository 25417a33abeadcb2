"""How mosquitto's clients are told who they are."""

import shutil
from pathlib import Path

import pytest


def mosquitto_command(
    program: str,
    address: str,
    ca_file: Path | str,
    client_id: str,
    certificate: Path,
    key: Path,
    *options: str,
) -> list[str]:
    """Return the command line of mosquitto_pub or mosquitto_sub at `host:port`; skip where it is missing."""
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")
    host, _, port = address.rpartition(":")
    return [
        program, "-h", host, "-p", port, "--cafile", str(ca_file),
        "--cert", str(certificate), "--key", str(key), "-i", client_id, *options,
    ]  # fmt: skip
