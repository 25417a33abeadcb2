"""One suite for every place a device key may live."""

import hashlib
import os
import signal
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from tpm2_pytss import (
    ESAPI,
    TPM2_ALG,
    TPM2B_NV_PUBLIC,
    TPMA_NV,
    TPML_PCR_SELECTION,
    TPMS_NV_PUBLIC,
    TPMS_PCR_SELECTION,
)

from fleetward.base.errors import ConflictError, InvalidInputError, KeyUnavailableError, MissingProgramError
from fleetward.features.devices.model import KeyTier
from fleetward.features.enrollment.ports import DeviceKeyStore, KeyHandle
from fleetward.outside.keys import offload
from fleetward.outside.keys.pkcs11 import Pkcs11KeyStore
from fleetward.outside.keys.software import SoftwareKeyStore
from fleetward.outside.keys.tpm import TpmKeyStore
from support.authority import make_certificate
from support.clock import ManualClock
from support.softhsm import Token, make_token
from support.swtpm import Swtpm, running_swtpm

Open = Callable[[], DeviceKeyStore]


@pytest.fixture(scope="module")
def chip(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Swtpm]:
    with running_swtpm(tmp_path_factory.mktemp("chip")) as started:
        yield started


@pytest.fixture(scope="module")
def token(tmp_path_factory: pytest.TempPathFactory) -> Token:
    return make_token(tmp_path_factory.mktemp("token"))


@pytest.fixture(params=["software", "pkcs11", "tpm"])
def open_store(request: pytest.FixtureRequest, tmp_path: Path) -> Open:
    """How to open the same store, as a program that starts again would."""
    if request.param == "software":
        return lambda: SoftwareKeyStore(tmp_path / "keys")
    if request.param == "pkcs11":
        token: Token = request.getfixturevalue("token")
        store = Pkcs11KeyStore(token.module, token.label, token.pin)
        for label in store.list_labels():
            store.delete_key(label)
        return lambda: Pkcs11KeyStore(token.module, token.label, token.pin)
    chip: Swtpm = request.getfixturevalue("chip")
    return lambda: TpmKeyStore(chip.tcti, tmp_path / "keys")


def test_a_key_signs_what_its_public_key_verifies(open_store: Open) -> None:
    key = open_store().create_key("device-1")
    digest = hashlib.sha256(b"hello").digest()
    key.public_key.verify(key.sign_digest(digest), digest, ec.ECDSA(Prehashed(hashes.SHA256())))
    with pytest.raises(InvalidSignature):
        key.public_key.verify(key.sign_digest(digest), b"x" * 32, ec.ECDSA(Prehashed(hashes.SHA256())))


def test_a_request_names_the_device_and_proves_possession(open_store: Open) -> None:
    key = open_store().create_key("device-1")
    csr = x509.load_der_x509_csr(key.sign_csr("cam-1"))
    assert csr.is_signature_valid
    assert csr.subject.rfc4514_string() == "CN=cam-1"
    assert csr.public_key() == key.public_key


def test_keys_outlive_the_program_side_by_side(open_store: Open) -> None:
    first, second = (open_store().create_key(label).public_key for label in ("device-1", "device-2"))
    again = open_store()
    assert again.list_labels() == ["device-1", "device-2"]
    assert again.open_key("device-1").public_key == first
    assert again.open_key("device-2").public_key == second
    assert first != second


def test_a_deleted_key_is_gone_and_deleting_it_again_is_fine(open_store: Open) -> None:
    store = open_store()
    store.create_key("device-1")
    store.delete_key("device-1")
    store.delete_key("device-1")
    assert store.find_key("device-1") is None
    assert store.list_labels() == []
    with pytest.raises(KeyUnavailableError, match="device-1"):
        store.open_key("device-1")


def test_a_label_is_taken_once_and_never_a_path(open_store: Open) -> None:
    store = open_store()
    store.create_key("device-1")
    with pytest.raises(ConflictError):
        store.create_key("device-1")
    with pytest.raises(InvalidInputError):
        store.create_key("../device-1")


def test_threads_may_sign_at_once(open_store: Open) -> None:
    key, digest = open_store().create_key("device-1"), hashlib.sha256(b"x").digest()
    signatures: list[bytes] = []
    threads = [threading.Thread(target=lambda: signatures.append(key.sign_digest(digest))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(signatures) == 8
    for signature in signatures:
        key.public_key.verify(signature, digest, ec.ECDSA(Prehashed(hashes.SHA256())))


class Authority:
    """A CA that certifies the keys under test."""

    def __init__(self, folder: Path, clock: ManualClock) -> None:
        self.authority = ec.generate_private_key(ec.SECP256R1())
        self.root = make_certificate(
            "Root", self.authority.public_key(), None, usage=None, own_key=self.authority, at=clock.now()
        )
        (folder / "root.pem").write_bytes(self.root.public_bytes(Encoding.PEM))
        self.folder, self.clock = folder, clock

    def issue(self, key: KeyHandle) -> Path:
        leaf = make_certificate(
            "cam-1", key.public_key, (self.root.subject, self.authority),
            usage=x509.oid.ExtendedKeyUsageOID.CLIENT_AUTH, at=self.clock.now(),
        )  # fmt: skip
        path = self.folder / "leaf.pem"
        path.write_bytes(leaf.public_bytes(Encoding.PEM))
        return path


def handshake(client: ssl.SSLContext, server: ssl.SSLContext) -> tuple[str, bytes | None]:
    """Return protocol version and the client certificate the server saw; raises what the client meets."""
    near, far = socket.socketpair()
    seen: list[bytes | None] = []

    def serve() -> None:
        try:
            with server.wrap_socket(far, server_side=True) as stream:
                seen.append(stream.getpeercert(binary_form=True))
                stream.sendall(b"ok")
        except (ssl.SSLError, OSError):
            far.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with client.wrap_socket(near, server_hostname="localhost") as stream:
            version = stream.version() or ""
            if stream.recv(2) != b"ok":
                raise ConnectionError("refused")
    finally:
        thread.join()
        near.close()
    return version, seen[0]


def contexts(folder: Path, root: Path, version: ssl.TLSVersion) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    server_key = ec.generate_private_key(ec.SECP256R1())
    certificate = make_certificate(
        "localhost", server_key.public_key(), None, usage=x509.oid.ExtendedKeyUsageOID.SERVER_AUTH,
        own_key=server_key,
    )  # fmt: skip
    pem = folder / "server.pem"
    pem.write_bytes(
        certificate.public_bytes(Encoding.PEM)
        + server_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(pem)
    server.load_verify_locations(root)
    server.verify_mode = ssl.CERT_REQUIRED
    server.verify_flags |= ssl.VerifyFlags(0x200000)  # the test's clock is not the system's
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_mode = ssl.CERT_NONE  # whom the client trusts is not the subject here
    client.minimum_version = client.maximum_version = version
    return client, server


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_the_key_authenticates_a_stdlib_tls_context(
    open_store: Open, tmp_path: Path, clock: ManualClock, version: ssl.TLSVersion
) -> None:
    authority = Authority(tmp_path, clock)
    key = open_store().create_key("device-1")
    chain = authority.issue(key)
    client, server = contexts(tmp_path, tmp_path / "root.pem", version)
    key.bind(client, chain)
    for _ in range(3):
        spoken, seen = handshake(client, server)
        assert spoken == version.name.replace("_", ".")
        assert seen == x509.load_pem_x509_certificate(chain.read_bytes()).public_bytes(Encoding.DER)


def test_another_keys_signature_is_refused(tmp_path: Path, clock: ManualClock) -> None:
    authority = Authority(tmp_path, clock)
    store = SoftwareKeyStore(tmp_path / "keys")
    chain, other = authority.issue(store.create_key("device-1")), store.create_key("device-2")
    client, server = contexts(tmp_path, tmp_path / "root.pem", ssl.TLSVersion.TLSv1_3)
    offload.install(client, chain, other.sign_digest)
    with pytest.raises((ssl.SSLError, OSError)):
        handshake(client, server)


@pytest.mark.parametrize(
    "fault", [KeyUnavailableError("chip: expected an answer, found none"), RuntimeError("bug")]
)
def test_a_signer_that_fails_ends_the_handshake_and_nothing_else(
    tmp_path: Path, clock: ManualClock, fault: Exception
) -> None:
    authority = Authority(tmp_path, clock)
    chain = authority.issue(SoftwareKeyStore(tmp_path / "keys").create_key("device-1"))
    client, server = contexts(tmp_path, tmp_path / "root.pem", ssl.TLSVersion.TLSv1_3)

    def fail(_digest: bytes) -> bytes:
        raise fault

    offload.install(client, chain, fail)
    with pytest.raises((ssl.SSLError, OSError)):
        handshake(client, server)


@pytest.mark.parametrize("junk", [b"", b"x" * 500])
def test_a_signature_of_impossible_length_never_reaches_openssl(
    tmp_path: Path, clock: ManualClock, junk: bytes
) -> None:
    authority = Authority(tmp_path, clock)
    chain = authority.issue(SoftwareKeyStore(tmp_path / "keys").create_key("device-1"))
    client, server = contexts(tmp_path, tmp_path / "root.pem", ssl.TLSVersion.TLSv1_2)
    offload.install(client, chain, lambda _digest: junk)
    with pytest.raises((ssl.SSLError, OSError)):
        handshake(client, server)


def test_keys_in_chips_are_labelled_as_what_they_are(open_store: Open) -> None:
    store = open_store()
    expected = {SoftwareKeyStore: KeyTier.SOFTWARE, Pkcs11KeyStore: KeyTier.PKCS11, TpmKeyStore: KeyTier.TPM}
    assert store.tier is expected[type(store)]


def test_missing_parts_are_named(tmp_path: Path) -> None:
    with pytest.raises(MissingProgramError, match=r"nowhere\.so"):
        Pkcs11KeyStore(tmp_path / "nowhere.so", "t", "1234")
    with pytest.raises(KeyUnavailableError, match="TPM at"):
        TpmKeyStore("swtpm:host=127.0.0.1,port=1", tmp_path / "keys")


def test_an_unknown_token_is_named(token: Token) -> None:
    with pytest.raises(KeyUnavailableError, match="nowhere"):
        Pkcs11KeyStore(token.module, "nowhere", token.pin)


def test_a_chip_that_lost_power_comes_back_with_its_keys_and_counter(chip: Swtpm, tmp_path: Path) -> None:
    store = TpmKeyStore(chip.tcti, tmp_path / "keys")
    key, ak = store.create_key("device-1"), store.ak_public()
    before = store.read_counter()
    store.advance_counter(before + 2)
    store.extend_pcr(8, b"\1" * 32)
    assert chip.process
    os.kill(chip.process.pid, signal.SIGKILL)
    chip.process.wait()
    with pytest.raises(KeyUnavailableError):
        key.sign_digest(b"x" * 32)
    chip.power_on()
    assert key.sign_digest(b"x" * 32)
    assert store.ak_public() == ak
    assert store.read_pcrs((8,)) == {8: bytes(32)}
    assert store.read_counter() == before + 2
    store.advance_counter(before)
    assert store.read_counter() == before + 2


def test_a_blob_of_another_chip_does_not_load(chip: Swtpm, tmp_path: Path) -> None:
    TpmKeyStore(chip.tcti, tmp_path / "keys").create_key("device-1")
    with running_swtpm(tmp_path / "other") as other:
        stolen = TpmKeyStore(other.tcti, tmp_path / "keys")
        with pytest.raises(KeyUnavailableError):
            stolen.open_key("device-1").sign_digest(b"x" * 32)


def test_a_chip_whose_sha256_bank_is_off_is_refused_by_name(tmp_path: Path) -> None:
    with running_swtpm(tmp_path / "chip") as chip:
        store = TpmKeyStore(chip.tcti, tmp_path / "keys")
        with ESAPI(chip.tcti) as esys:
            off = TPMS_PCR_SELECTION.parse("sha256:0")
            off.pcrSelect = bytes(3)
            esys.pcr_allocate(TPML_PCR_SELECTION([off, TPMS_PCR_SELECTION.parse("sha384:all")]))
        assert chip.process
        chip.process.kill()
        chip.process.wait()
        chip.power_on()
        for act in (
            lambda: store.read_pcrs((8,)),
            lambda: store.extend_pcr(8, b"\1" * 32),
            lambda: store.quote(b"n" * 32, (8, 9)),
        ):
            with pytest.raises(KeyUnavailableError, match="SHA-256 bank") as refused:
                act()
            assert "tpm2_pcrallocate" in str(refused.value.hint)


def test_issuers_kept_in_the_chip_are_sent_with_its_certificate(tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    made = [
        make_certificate(name, key.public_key(), None, usage=None, own_key=key).public_bytes(Encoding.DER)
        for name in ("near", "far" * 20)
    ]
    whole, cut = b"".join(made), len(made[0]) + 40  # the second lies across two indices
    with running_swtpm(tmp_path / "chip") as chip:
        store = TpmKeyStore(chip.tcti, tmp_path / "keys", ek_issuers=(made[1],))
        before = store.ek_certificate_chain()
        assert before[1:] == [made[1]]
        with ESAPI(chip.tcti) as esys:
            for index, content in ((0x01C00100, whole[:cut]), (0x01C00101, whole[cut:] + b"\xff" * 9)):
                access = TPMA_NV.OWNERWRITE | TPMA_NV.AUTHWRITE | TPMA_NV.AUTHREAD | TPMA_NV.NO_DA
                public = TPMS_NV_PUBLIC(
                    nvIndex=index, nameAlg=TPM2_ALG.SHA256, attributes=access, dataSize=len(content)
                )
                handle = esys.nv_define_space(None, TPM2B_NV_PUBLIC(nvPublic=public))
                esys.nv_write(handle, content)
        assert store.ek_certificate_chain() == [before[0], made[1], made[0]]
