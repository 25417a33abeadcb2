"""Claims and EST's decisions, against a real database and CA."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from fleetward.base.db import Database
from fleetward.base.errors import ConflictError, FleetwardError, InvalidInputError
from fleetward.features.audit import service as audit
from fleetward.features.devices import service as devices
from fleetward.features.devices.model import (
    DeviceState,
    HardwareIdentity,
    HardwareKind,
    KeyTier,
    KeyTierError,
)
from fleetward.features.devices.peer import DevicePeer
from fleetward.features.enrollment import service
from fleetward.features.enrollment.model import (
    ClaimRefusedError,
    EnrollmentConflictError,
    EnrollmentRefusedError,
    fingerprint_of,
)
from fleetward.features.pki import service as pki
from fleetward.features.pki.model import CsrRefusedError
from fleetward.features.pki.service import PkiContext
from support.authority import Authority, make_certificate
from support.clock import ManualClock
from support.enrollment import Keypair, add_model, events_of, make_pki

HOUR = timedelta(hours=1)


@pytest.fixture
def ca(tmp_path: Path, db: Database) -> PkiContext:
    add_model(db)
    return make_pki(tmp_path, db)


@pytest.fixture
def token(db: Database, ca: PkiContext) -> str:
    """A claim of cam-1."""
    del ca
    with db.write("operator:test") as tx:
        return service.add_device(tx, "cam-1", "cam")[1].token


def enroll(db: Database, ca: PkiContext, device_id: str, token: str, keys: Keypair) -> x509.Certificate:
    with db.write("device:x") as tx:
        return service.enroll_by_claim(tx, ca, device_id, token, keys.csr_for(device_id))


def refusal(db: Database, ca: PkiContext, device_id: str, token: str, keys: Keypair) -> str:
    with pytest.raises(ClaimRefusedError) as caught:
        enroll(db, ca, device_id, token, keys)
    return str(caught.value.details["reason"])


def test_a_claim_gives_one_certificate_in_the_devices_name(db: Database, ca: PkiContext, token: str) -> None:
    keys = Keypair()
    certificate = enroll(db, ca, "cam-1", token, keys)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == ["spiffe://fleet.test/device/cam-1"]
    assert certificate.public_key() == keys.key.public_key()
    with db.read() as tx:
        device = devices.get_device(tx, "cam-1")
    assert (device.state, device.tier) == (DeviceState.ACTIVE, KeyTier.SOFTWARE)


def test_a_lost_answer_is_given_again_to_the_same_key(db: Database, ca: PkiContext, token: str) -> None:
    keys = Keypair()
    first = enroll(db, ca, "cam-1", token, keys)
    assert enroll(db, ca, "cam-1", token, keys) == first
    with db.read() as tx:
        assert len(pki.list_certificates(tx, "cam-1")) == 1


def test_a_used_claim_serves_no_other_key(db: Database, ca: PkiContext, token: str) -> None:
    enroll(db, ca, "cam-1", token, Keypair())
    assert refusal(db, ca, "cam-1", token, Keypair()) == "used"


def test_a_used_claim_ends_with_its_certificate(
    db: Database, ca: PkiContext, token: str, clock: ManualClock
) -> None:
    keys = Keypair()
    enroll(db, ca, "cam-1", token, keys)
    clock.advance(25 * HOUR)
    assert refusal(db, ca, "cam-1", token, keys) == "used"


def test_a_used_claim_ends_when_its_certificate_is_revoked(db: Database, ca: PkiContext, token: str) -> None:
    keys = Keypair()
    certificate = enroll(db, ca, "cam-1", token, keys)
    with db.write("operator:test") as tx:
        pki.revoke_certificate(tx, certificate.serial_number, "stolen")
    assert refusal(db, ca, "cam-1", token, keys) == "used"


def test_an_expired_claim_is_refused(db: Database, ca: PkiContext, token: str, clock: ManualClock) -> None:
    clock.advance(HOUR)
    assert refusal(db, ca, "cam-1", token, Keypair()) == "expired"


def test_a_claim_for_another_device_is_refused(db: Database, ca: PkiContext, token: str) -> None:
    with db.write("operator:test") as tx:
        service.add_device(tx, "cam-2", "cam")
    assert refusal(db, ca, "cam-2", token, Keypair()) == "foreign"


def test_a_newer_claim_withdraws_the_older(db: Database, ca: PkiContext, token: str) -> None:
    with db.write("operator:test") as tx:
        newer = service.create_claim(tx, "cam-1")
    assert refusal(db, ca, "cam-1", token, Keypair()) == "withdrawn"
    enroll(db, ca, "cam-1", newer.token, Keypair())


def test_what_ran_out_is_forgotten_in_the_end(
    db: Database, ca: PkiContext, token: str, clock: ManualClock
) -> None:
    enroll(db, ca, "cam-1", token, Keypair())
    with db.write("system:timer") as tx:
        assert service.forget_expired(tx) == 0
    clock.advance(timedelta(days=91))
    with db.write("system:timer") as tx:
        assert service.forget_expired(tx) == 2
    assert refusal(db, ca, "cam-1", token, Keypair()) == "unknown"


@pytest.mark.parametrize("guess", ["", "x", "A" * 32, "é" * 40])
def test_a_guess_is_unknown_whether_or_not_the_device_exists(
    db: Database, ca: PkiContext, guess: str
) -> None:
    assert refusal(db, ca, "cam-1", guess, Keypair()) == "unknown"


def test_the_token_is_not_in_the_database(db: Database, token: str) -> None:
    with db.read() as tx:
        for table in ("enrollment_claims", "audit_entries", "events"):
            rows = tx.conn.exec_driver_sql(f"SELECT * FROM {table}").all()  # noqa: S608 - our own names
            assert rows
            assert token not in str(rows)


def test_a_failed_enrollment_leaves_the_claim_unused(db: Database, ca: PkiContext, token: str) -> None:
    with pytest.raises(CsrRefusedError), db.write("device:x") as tx:
        service.enroll_by_claim(tx, ca, "cam-1", token, Keypair().csr_for("cam-2"))
    enroll(db, ca, "cam-1", token, Keypair())


@pytest.mark.parametrize("state", [DeviceState.REVOKED, DeviceState.RETIRED])
def test_a_device_whose_life_has_ended_gets_neither_claim_nor_certificate(
    db: Database, ca: PkiContext, token: str, state: DeviceState
) -> None:
    with db.write("operator:test") as tx:
        devices.end(tx, "cam-1", state, "test")
    with pytest.raises(EnrollmentRefusedError):
        enroll(db, ca, "cam-1", token, Keypair())
    with pytest.raises(EnrollmentRefusedError), db.write("operator:test") as tx:
        service.create_claim(tx, "cam-1")


@pytest.mark.parametrize("seconds", [0, 9, 31 * 86400])
def test_a_claim_has_a_sensible_lifetime(db: Database, token: str, seconds: int) -> None:
    del token
    with pytest.raises(InvalidInputError), db.write("operator:test") as tx:
        service.create_claim(tx, "cam-1", timedelta(seconds=seconds))


def test_a_claim_alone_does_not_reach_a_model_that_wants_hardware(db: Database, ca: PkiContext) -> None:
    add_model(db, "vault", min_tier=KeyTier.PKCS11)
    with db.write("operator:test") as tx:
        _, claim = service.add_device(tx, "vault-1", "vault")
    with pytest.raises(KeyTierError, match="pkcs11"):
        enroll(db, ca, "vault-1", claim.token, Keypair())


def register(db: Database, device_id: str, kind: HardwareKind, fingerprint: str, model: str = "cam") -> None:
    with db.write("operator:test") as tx:
        devices.register(tx, device_id, model, hardware=HardwareIdentity(kind, fingerprint))


def test_a_listed_key_enrolls_in_the_pkcs11_tier_without_a_claim(db: Database, ca: PkiContext) -> None:
    keys = Keypair()
    csr = keys.csr_for("cam-9")
    register(db, "cam-9", HardwareKind.CSR_KEY, fingerprint_of(csr))
    for _ in range(2):
        with db.write("device:cam-9") as tx:
            assert service.enroll_by_listed_key(tx, ca, csr) is not None
            assert devices.get_device(tx, "cam-9").tier is KeyTier.PKCS11
            assert len(pki.list_certificates(tx, "cam-9")) == 1
            assert service.enroll_by_listed_key(tx, ca, Keypair().csr_for("cam-9")) is None


def test_a_listed_key_returns_after_its_certificate_expired(
    db: Database, ca: PkiContext, clock: ManualClock
) -> None:
    csr = Keypair().csr_for("cam-9")
    register(db, "cam-9", HardwareKind.CSR_KEY, fingerprint_of(csr))
    with db.write("device:cam-9") as tx:
        first = service.enroll_by_listed_key(tx, ca, csr)
    clock.advance(25 * HOUR)
    with db.write("device:cam-9") as tx:
        second = service.enroll_by_listed_key(tx, ca, csr)
    assert first is not None
    assert second is not None
    assert first.serial_number != second.serial_number


@pytest.fixture
def idevid() -> x509.Certificate:
    key = ec.generate_private_key(ec.SECP256R1())
    return make_certificate(
        "SN 1", key.public_key(), Authority("maker").as_issuer(), usage=ExtendedKeyUsageOID.CLIENT_AUTH
    )


def test_an_idevid_that_a_shipment_lists_enrolls(
    db: Database, ca: PkiContext, idevid: x509.Certificate
) -> None:
    add_model(db, "vault", min_tier=KeyTier.PKCS11)
    register(db, "vault-1", HardwareKind.IDEVID, fingerprint_of(idevid), "vault")
    with db.write("device:vault-1") as tx:
        certificate = service.enroll_by_idevid(tx, ca, idevid, Keypair().csr_for("vault-1"))
    assert certificate.subject.rfc4514_string() == "CN=vault-1"


def test_an_idevid_nobody_listed_is_refused(db: Database, ca: PkiContext, idevid: x509.Certificate) -> None:
    register(db, "cam-9", HardwareKind.TPM_EK, fingerprint_of(idevid))
    with pytest.raises(EnrollmentRefusedError, match="IDevID"), db.write("device:x") as tx:
        service.enroll_by_idevid(tx, ca, idevid, Keypair().csr_for("cam-9"))


@pytest.fixture
def peer(db: Database, ca: PkiContext, token: str) -> Iterator[DevicePeer]:
    certificate = enroll(db, ca, "cam-1", token, Keypair())
    with db.read() as tx:
        verified = pki.verify_device_certificate(
            tx, ca, certificate.public_bytes(Encoding.DER), db.clock.now()
        )
        yield DevicePeer(devices.get_device(tx, "cam-1"), verified)


def test_reenrollment_takes_a_new_key_and_keeps_the_old_certificate(
    db: Database, ca: PkiContext, peer: DevicePeer
) -> None:
    with db.write("device:cam-1") as tx:
        renewed = service.reenroll(tx, ca, peer, Keypair().csr_for("cam-1"))
        assert not pki.is_revoked(tx, peer.certificate.serial)
        assert not pki.is_revoked(tx, renewed.serial_number)


def test_est_does_not_renew_what_lives_in_a_tpm(db: Database, ca: PkiContext, peer: DevicePeer) -> None:
    with db.write("system:test") as tx:
        devices.record_enrollment(tx, "cam-1", KeyTier.TPM)
        raised = DevicePeer(devices.get_device(tx, "cam-1"), peer.certificate)
    with pytest.raises(EnrollmentConflictError, match="TPM"), db.write("device:cam-1") as tx:
        service.reenroll(tx, ca, raised, Keypair().csr_for("cam-1"))


SAN = x509.SubjectAlternativeName
URI = x509.UniformResourceIdentifier
KEY_CERT_SIGN = x509.KeyUsage(
    digital_signature=True, content_commitment=False, key_encipherment=False, data_encipherment=False,
    key_agreement=False, key_cert_sign=True, crl_sign=False, encipher_only=False, decipher_only=False,
)  # fmt: skip


@pytest.mark.parametrize(
    ("names", "extensions", "reason"),
    [
        ([(NameOID.COMMON_NAME, "cam-2")], [], "name"),
        ([(NameOID.SERIAL_NUMBER, "cam-2")], [], "name"),
        ([(NameOID.COMMON_NAME, "cam-1"), (NameOID.COMMON_NAME, "cam-2")], [], "name"),
        ([], [SAN([URI("spiffe://fleet.test/device/cam-2")])], "name"),
        ([], [SAN([URI("spiffe://fleet.test/device/cam-1"), x509.DNSName("cam-2")])], "name"),
        ([], [SAN([x509.RFC822Name("root@fleet.test")])], "name"),
        ([], [x509.BasicConstraints(ca=True, path_length=None)], "ca"),
        ([], [KEY_CERT_SIGN], "ca"),
        ([(NameOID.ORGANIZATION_NAME, str(n)) for n in range(9)], [], "subject"),
    ],
)
def test_a_request_for_more_than_its_own_certificate_is_refused(
    db: Database,
    ca: PkiContext,
    token: str,
    names: list[tuple[x509.ObjectIdentifier, str]],
    extensions: list[x509.ExtensionType],
    reason: str,
) -> None:
    csr = Keypair().csr(*names, extensions=tuple(extensions))
    with pytest.raises(CsrRefusedError) as caught, db.write("device:cam-1") as tx:
        service.enroll_by_claim(tx, ca, "cam-1", token, csr)
    assert caught.value.details["reason"] == reason


def test_a_request_may_name_itself_in_every_way(db: Database, ca: PkiContext, token: str) -> None:
    san = SAN([URI("spiffe://fleet.test/device/cam-1"), x509.DNSName("cam-1")])
    constraints = x509.BasicConstraints(ca=False, path_length=None)
    csr = Keypair().csr((NameOID.COMMON_NAME, "cam-1"), extensions=(san, constraints))
    with db.write("device:cam-1") as tx:
        service.enroll_by_claim(tx, ca, "cam-1", token, csr)


def test_only_p256_keys_are_certified(db: Database, ca: PkiContext, token: str) -> None:
    keys = Keypair(ec.generate_private_key(ec.SECP384R1()))
    with pytest.raises(CsrRefusedError, match="P-256"):
        enroll(db, ca, "cam-1", token, keys)


def test_an_enrollment_is_audited_and_told(db: Database, ca: PkiContext, token: str) -> None:
    enroll(db, ca, "cam-1", token, Keypair())
    with db.read() as tx:
        actions = [entry.action for entry, _ in audit.search(tx, subject="device:cam-1")]
    assert {"claim.created", "claim.used", "device.certified", "certificate.issued"} <= set(actions)
    [event] = events_of(db, "enrollment.completed")
    assert event.details["lane"] == "claim"
    assert event.details["tier"] == "software"


def test_two_devices_cannot_have_one_id(db: Database, token: str) -> None:
    del token
    with pytest.raises(ConflictError), db.write("operator:test") as tx:
        service.add_device(tx, "cam-1", "cam")


@pytest.mark.parametrize("bad_id", ["", ".", "a/b", "a+b", "a#", "*", ">", "a b", "-a", "a" * 65, "ü"])
def test_a_bad_id_is_refused(db: Database, ca: PkiContext, bad_id: str) -> None:
    del ca
    with pytest.raises(FleetwardError), db.write("operator:test") as tx:
        service.add_device(tx, bad_id, "cam")
