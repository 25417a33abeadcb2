"""What we read and write of a TPM, against tpm2-tools: a TSS and tools nobody here wrote."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from fleetward.features.attestation.model import check_attestation_key
from fleetward.wire import tpm
from support.swtpm import Swtpm, running_swtpm

# tpm2_makecredential's file: magic, version, then the two structures.
_CREDENTIAL_HEAD = bytes.fromhex("badcc0de00000001")
NONCE = bytes(range(32))
# TCG EK Credential Profile, template H-3: swtpm_setup makes one beside the RSA key.
P384_EK_HANDLE = "0x81010016"


@dataclass
class Tools:
    """tpm2-tools in a folder, at one chip, without a resource manager."""

    chip: Swtpm
    folder: Path

    def run(self, program: str, *arguments: str) -> None:
        environment = {**os.environ, "TPM2TOOLS_TCTI": self.chip.tcti}
        command = [program, *arguments]
        subprocess.run(command, cwd=self.folder, env=environment, check=True, capture_output=True, timeout=60)
        if not program.startswith("tpm2_policy") and program != "tpm2_startauthsession":
            flush = ["tpm2_flushcontext", "--transient-object"]
            subprocess.run(flush, env=environment, check=True, capture_output=True, timeout=60)

    def read(self, name: str) -> bytes:
        return (self.folder / name).read_bytes()

    def make_keys(self, endorsement: str, attestation: str) -> tpm.Public:
        """Make both keys and return the attestation key as we read it."""
        scheme = {"ecc": "ecdsa", "rsa": "rsassa"}[attestation]
        self.run("tpm2_createek", "-c", "ek.ctx", "-G", endorsement, "-u", "ek.pem", "-f", "pem")
        self.run(
            "tpm2_createak", "-C", "ek.ctx", "-c", "ak.ctx", "-G", attestation, "-g", "sha256",
            "-s", scheme, "-u", "ak.pub", "-f", "tss", "-n", "ak.name",
        )  # fmt: skip
        return check_attestation_key(self.read("ak.pub"))

    def activate(self, blob: bytes, encrypted: bytes) -> bytes:
        (self.folder / "credential").write_bytes(_CREDENTIAL_HEAD + blob + encrypted)
        self.run("tpm2_startauthsession", "--policy-session", "-S", "session.ctx")
        self.run("tpm2_policysecret", "-S", "session.ctx", "-c", "endorsement")
        self.run(
            "tpm2_activatecredential", "-c", "ak.ctx", "-C", "ek.ctx", "-i", "credential", "-o", "secret",
            "-P", "session:session.ctx",
        )  # fmt: skip
        self.run("tpm2_flushcontext", "session.ctx")
        return self.read("secret")


@pytest.fixture(scope="module")
def chip(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Swtpm]:
    if shutil.which("tpm2_createek") is None:
        pytest.skip("tpm2-tools is not installed")
    with running_swtpm(tmp_path_factory.mktemp("chip")) as started:
        yield started


@pytest.fixture
def tools(chip: Swtpm, tmp_path: Path) -> Tools:
    return Tools(chip, tmp_path)


@pytest.mark.parametrize("attestation", ["ecc", "rsa"])
@pytest.mark.parametrize("endorsement", ["rsa", "ecc"])
def test_a_chip_opens_what_we_seal_for_its_keys(tools: Tools, endorsement: str, attestation: str) -> None:
    ak = tools.make_keys(endorsement, attestation)
    key = load_pem_public_key(tools.read("ek.pem"))
    assert isinstance(key, rsa.RSAPublicKey | ec.EllipticCurvePublicKey)
    blob, encrypted = tpm.make_credential(key, ak.name, b"s" * 32)
    assert tools.activate(blob, encrypted) == b"s" * 32


def test_a_chip_opens_what_we_seal_for_the_p384_key_its_maker_put_in_it(tools: Tools) -> None:
    ak = tools.make_keys("rsa", "ecc")
    tools.run("tpm2_readpublic", "-c", P384_EK_HANDLE, "-o", "maker-ek.pem", "-f", "pem")
    key = load_pem_public_key(tools.read("maker-ek.pem"))
    assert isinstance(key, ec.EllipticCurvePublicKey)
    blob, encrypted = tpm.make_credential(key, ak.name, b"s" * 32)
    (tools.folder / "credential").write_bytes(_CREDENTIAL_HEAD + blob + encrypted)
    tools.run(
        "tpm2_activatecredential", "-c", "ak.ctx", "-C", P384_EK_HANDLE, "-i", "credential", "-o", "secret"
    )
    assert tools.read("secret") == b"s" * 32


@pytest.mark.parametrize("attestation", ["ecc", "rsa"])
def test_we_name_a_key_as_its_chip_does(tools: Tools, attestation: str) -> None:
    assert tools.make_keys("rsa", attestation).name == tools.read("ak.name")


@pytest.mark.parametrize("attestation", ["ecc", "rsa"])
def test_we_read_a_quote_as_its_chip_means_it(tools: Tools, attestation: str) -> None:
    ak = tools.make_keys("rsa", attestation)
    tools.run("tpm2_pcrextend", f"9:sha256={'ab' * 32}")
    tools.run(
        "tpm2_quote", "-c", "ak.ctx", "-l", "sha256:8,9", "-q", NONCE.hex(), "-m", "quote", "-s", "signature",
        "-g", "sha256",
    )  # fmt: skip
    tools.run("tpm2_pcrread", "sha256:8,9", "-o", "pcrs")
    quote, values = tpm.parse_quote(tools.read("quote")), tools.read("pcrs")
    assert (quote.nonce, quote.pcrs) == (NONCE, (8, 9))
    assert quote.digest == tpm.digest_pcrs([values[:32], values[32:]])
    assert tpm.verify_signature(ak.key, tools.read("signature"), tools.read("quote"))
    assert not tpm.verify_signature(ak.key, tools.read("signature"), tools.read("quote") + b"\0")


def test_we_read_what_a_chip_certifies(tools: Tools) -> None:
    ak = tools.make_keys("rsa", "ecc")
    tools.run("tpm2_createprimary", "-C", "o", "-c", "primary.ctx")
    tools.run(
        "tpm2_create", "-C", "primary.ctx", "-G", "ecc", "-u", "key.pub", "-r", "key.priv",
        "-a", "fixedtpm|fixedparent|sensitivedataorigin|userwithauth|noda|sign",
    )  # fmt: skip
    tools.run("tpm2_load", "-C", "primary.ctx", "-u", "key.pub", "-r", "key.priv", "-c", "key.ctx")
    tools.run(
        "tpm2_certify", "-c", "key.ctx", "-C", "ak.ctx", "-g", "sha256", "-o", "statement", "-s", "signature"
    )
    key = tpm.parse_public(tools.read("key.pub"))
    assert isinstance(key.key, ec.EllipticCurvePublicKey)
    statement = tpm.parse_certify(tools.read("statement"))
    assert statement.name == key.name == tpm.device_key_name(key.key)
    assert tpm.verify_signature(ak.key, tools.read("signature"), tools.read("statement"))
