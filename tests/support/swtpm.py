"""A software TPM of the test's own: manufactured by swtpm_setup, on ports nobody else has."""

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from support.ports import free_ports

_CONFIG = """\
create_certs_tool= swtpm_localca
create_certs_tool_config = {folder}/swtpm-localca.conf
create_certs_tool_options = {folder}/swtpm-localca.options
active_pcr_banks = sha256
"""
_LOCAL_CA = """\
statedir = {folder}/ca
signingkey = {folder}/ca/signkey.pem
issuercert = {folder}/ca/issuercert.pem
certserial = {folder}/ca/certserial
"""
_OPTIONS = "--platform-manufacturer Fleetward\n--platform-version 2.1\n--platform-model Test\n"


@dataclass
class Swtpm:
    """A chip and its maker. `power_cycle` is what a reboot does to it."""

    folder: Path
    port: int
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def tcti(self) -> str:
        return f"swtpm:host=127.0.0.1,port={self.port}"

    @property
    def vendor_root(self) -> Path:
        """The maker's root certificate, PEM."""
        return self.folder / "ca" / "swtpm-localca-rootca-cert.pem"

    @property
    def vendor_issuer(self) -> Path:
        """The maker's certificate that signs EK certificates, PEM."""
        return self.folder / "ca" / "issuercert.pem"

    def power_on(self) -> None:
        self.process = subprocess.Popen(
            [
                "swtpm", "socket", "--tpm2", "--tpmstate", f"dir={self.folder / 'state'}",
                "--server", f"type=tcp,port={self.port},bindaddr=127.0.0.1,disconnect",
                "--ctrl", f"type=tcp,port={self.port + 1},bindaddr=127.0.0.1",
                "--flags", "not-need-init,startup-clear",
            ],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        deadline = time.monotonic() + 10
        while not (_accepts(self.port + 1) and _accepts(self.port)):
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError("swtpm did not start")
            time.sleep(0.02)

    def power_off(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait(10)
            self.process = None

    def power_cycle(self) -> None:
        self.power_off()
        self.power_on()


def _accepts(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _power_on_somewhere(folder: Path) -> Swtpm:
    """Return a running chip; between our looking for a port and its taking it, another may have."""
    for _ in range(5):
        chip = Swtpm(folder, free_ports(2))
        try:
            chip.power_on()
        except AssertionError:
            chip.power_off()
        else:
            return chip
    raise AssertionError("swtpm did not start on any of five ports")


@contextmanager
def running_swtpm(folder: Path) -> Iterator[Swtpm]:
    """Yield a fresh chip; skip where swtpm or tpm2-pytss is not installed."""
    if shutil.which("swtpm_setup") is None:
        pytest.skip("swtpm is not installed")
    pytest.importorskip("tpm2_pytss", reason="tpm2-pytss is not installed (extra tpm, needs libtss2-dev)")
    for room in ("state", "ca"):
        (folder / room).mkdir(parents=True)
    (folder / "swtpm_setup.conf").write_text(_CONFIG.format(folder=folder))
    (folder / "swtpm-localca.conf").write_text(_LOCAL_CA.format(folder=folder))
    (folder / "swtpm-localca.options").write_text(_OPTIONS)
    subprocess.run(
        [
            "swtpm_setup", "--tpm2", "--tpmstate", folder / "state", "--config", folder / "swtpm_setup.conf",
            "--createek", "--create-ek-cert", "--create-platform-cert", "--lock-nvram", "--overwrite",
        ],
        check=True, capture_output=True, timeout=60,
    )  # fmt: skip
    chip = _power_on_somewhere(folder)
    try:
        yield chip
    finally:
        chip.power_off()
