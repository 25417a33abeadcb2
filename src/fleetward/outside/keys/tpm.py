"""A TPM 2.0 through tpm2-pytss: device keys, and the evidence only a chip can give.

Every operation opens the TPM, loads what it needs, flushes it and closes: no resource manager is needed, boot
stage and agent take turns, and a chip that was powered off and on is simply there again. Long-lived keys
(SRK, EK, AK) are persistent objects in the chip; device keys are blobs on disk that only this chip can load.
"""

import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from fleetward.base.errors import ConflictError, ForbiddenError, KeyUnavailableError, MissingProgramError
from fleetward.base.files import sync_folder, write_secret
from fleetward.base.ids import parse_id
from fleetward.features.devices.model import KeyTier
from fleetward.outside.keys import offload
from fleetward.outside.keys import tpm_ek as ek
from fleetward.outside.keys import tpm_nv as nv
from fleetward.outside.keys import tpm_pcrs as registers
from fleetward.outside.keys.signing import sign_csr
from fleetward.outside.keys.tpm_errors import hint_of

SRK_HANDLE = 0x81000001
AK_HANDLE = 0x8101F1E0
_SUFFIX = ".tpm"
_MAX_CHAIN = 6  # what the platform takes


class ChallengeRefusedError(ForbiddenError):
    """A credential that was not made for this chip and its attestation key."""

    code = "challenge_refused"


@dataclass(frozen=True)
class TpmKey:
    """A key in the chip; implements `KeyHandle`."""

    label: str
    public_key: ec.EllipticCurvePublicKey
    store: "TpmKeyStore" = field(repr=False)

    def sign_digest(self, digest: bytes) -> bytes:
        return self.store.sign(self.label, digest)

    def sign_csr(self, device_id: str) -> bytes:
        return sign_csr(device_id, self.public_key, self.sign_digest)

    def bind(self, context: ssl.SSLContext, chain: Path) -> None:
        offload.install(context, chain, self.sign_digest)


class TpmKeyStore:
    """One chip; implements `DeviceKeyStore` and `AttestationDevice`."""

    tier = KeyTier.TPM

    def __init__(self, tcti: str, folder: Path, *, ek_issuers: tuple[bytes, ...] = ()) -> None:
        """Use the TPM at `tcti`, e.g. `device:/dev/tpmrm0` or `swtpm:host=127.0.0.1,port=2321`.

        Args:
            folder: for key blobs; useless outside this chip.
            ek_issuers: certificates between the EK's and its vendor's root, DER, nearest first.

        Raises:
            MissingProgramError: tpm2-pytss is not installed.
            KeyUnavailableError: no TPM answers there.
        """
        try:
            import tpm2_pytss  # noqa: PLC0415 - an extra that other tiers need not have
        except (ImportError, NotImplementedError) as error:
            raise MissingProgramError(
                "TPM: expected the library tpm2-pytss, found it missing",
                hint="Install libtss2-dev (Debian), then: pip install 'fleetward[tpm]'",
            ) from error
        self._tss = tpm2_pytss
        self._tcti, self._folder, self._ek_issuers = tcti, folder, ek_issuers
        self._lock = threading.RLock()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self._open() as esys:
            self._persistent(esys, SRK_HANDLE, self._make_srk)

    # Keys

    def create_key(self, label: str) -> TpmKey:
        path = self._path(label)
        if path.exists():
            raise ConflictError(f"key {label}: expected a new label, found it taken")
        with self._open() as esys:
            parent = self._persistent(esys, SRK_HANDLE, self._make_srk)
            template = self._template("ecc256", self._tss.TPMA_OBJECT.SIGN_ENCRYPT)
            private, public, *_ = esys.create(parent, self._tss.TPM2B_SENSITIVE_CREATE(), template)
            blob = public.marshal() + private.marshal()
        write_secret(path, blob)
        return self.open_key(label)

    def open_key(self, label: str) -> TpmKey:
        found = self.find_key(label)
        if found is None:
            raise KeyUnavailableError(f"key {label}: expected it in {self._folder}, found none")
        return found

    def find_key(self, label: str) -> TpmKey | None:
        if not self._path(label).exists():
            return None
        public, _ = self._read_blob(label)
        point = public.publicArea.unique.ecc
        numbers = ec.EllipticCurvePublicNumbers(
            int.from_bytes(bytes(point.x), "big"), int.from_bytes(bytes(point.y), "big"), ec.SECP256R1()
        )
        return TpmKey(label, numbers.public_key(), self)

    def delete_key(self, label: str) -> None:
        self._path(label).unlink(missing_ok=True)
        sync_folder(self._folder)

    def list_labels(self) -> list[str]:
        return sorted(path.name.removesuffix(_SUFFIX) for path in self._folder.glob(f"*{_SUFFIX}"))

    def sign(self, label: str, digest: bytes) -> bytes:
        """Return the DER ECDSA signature over 32 bytes. Raises KeyUnavailableError."""
        scheme = self._ecdsa()
        with self._open() as esys, self._loaded(esys, label) as key:
            signature = esys.sign(key, self._tss.TPM2B_DIGEST(digest), scheme)
            parts = signature.signature.ecdsa
            return encode_dss_signature(
                int.from_bytes(bytes(parts.signatureR), "big"), int.from_bytes(bytes(parts.signatureS), "big")
            )

    # Evidence

    def ek_certificate_chain(self) -> list[bytes]:
        with self._open() as esys:
            found = ek.find_certificate(self._tss, esys)
            if found is not None:
                stored = nv.read_ek_issuers(self._tss, esys)
                # Those of the settings first: the platform takes few, and somebody chose them.
                return list(dict.fromkeys([found[1], *self._ek_issuers, *stored]))[:_MAX_CHAIN]
        raise KeyUnavailableError(
            f"TPM at {self._tcti}: expected an endorsement key certificate in it, found none",
            hint="Ask the chip's maker for it, or enroll this device by claim in a lower tier.",
        )

    def ek_public(self) -> bytes:
        with self._open() as esys:
            public, *_ = esys.read_public(self._ek(esys))
            return bytes(public.marshal())

    def ak_public(self) -> bytes:
        with self._open() as esys:
            public, *_ = esys.read_public(self._persistent(esys, AK_HANDLE, self._make_ak))
            return bytes(public.marshal())

    def activate_credential(self, credential_blob: bytes, encrypted_secret: bytes) -> bytes:
        tss = self._tss
        try:
            blob, _ = tss.TPM2B_ID_OBJECT.unmarshal(credential_blob)
            secret, _ = tss.TPM2B_ENCRYPTED_SECRET.unmarshal(encrypted_secret)
        except tss.TSS2_Exception as error:
            raise ChallengeRefusedError(
                "credential: expected TPM structures, found something else"
            ) from error
        with self._open() as esys:
            ak, key = self._persistent(esys, AK_HANDLE, self._make_ak), self._ek(esys)
            by_password = self._opens_by_password(esys, key)
            session = esys.start_auth_session(
                tss.ESYS_TR.NONE, tss.ESYS_TR.NONE, tss.TPM2_SE.POLICY,
                tss.TPMT_SYM_DEF(algorithm=tss.TPM2_ALG.NULL), tss.TPM2_ALG.SHA256,
            )  # fmt: skip
            try:
                esys.policy_secret(
                    tss.ESYS_TR.ENDORSEMENT,
                    session,
                    tss.TPM2B_NONCE(),
                    tss.TPM2B_DIGEST(),
                    tss.TPM2B_NONCE(),
                    0,
                )
                opened = esys.activate_credential(
                    ak,
                    key,
                    blob,
                    secret,
                    session1=tss.ESYS_TR.PASSWORD,
                    session2=tss.ESYS_TR.PASSWORD if by_password else session,
                )
            except tss.TSS2_Exception as error:
                raise ChallengeRefusedError(
                    "credential: expected one made for this chip, found the TPM refuses it"
                ) from error
            finally:
                esys.flush_context(session)
            return bytes(opened)

    def certify_key(self, label: str, nonce: bytes) -> tuple[bytes, bytes]:
        scheme = self._tss.TPMT_SIG_SCHEME(scheme=self._tss.TPM2_ALG.NULL)
        with self._open() as esys, self._loaded(esys, label) as key:
            ak = self._persistent(esys, AK_HANDLE, self._make_ak)
            attest, signature = esys.certify(key, ak, self._tss.TPM2B_DATA(nonce), scheme)
            return bytes(attest), bytes(signature.marshal())

    def quote(self, nonce: bytes, pcrs: tuple[int, ...]) -> tuple[bytes, bytes]:
        with self._open() as esys:
            ak = self._persistent(esys, AK_HANDLE, self._make_ak)
            selection = registers.make_selection(self._tss, esys, pcrs)
            attest, signature = esys.quote(ak, selection, self._tss.TPM2B_DATA(nonce))
            return bytes(attest), bytes(signature.marshal())

    def read_pcrs(self, pcrs: tuple[int, ...]) -> dict[int, bytes]:
        with self._open() as esys:
            return registers.read_pcrs(self._tss, esys, pcrs)

    def extend_pcr(self, index: int, digest: bytes) -> None:
        with self._open() as esys:
            registers.extend_pcr(self._tss, esys, index, digest)

    # Anti-rollback counter

    def read_counter(self) -> int:
        with self._open() as esys:
            return nv.read_counter(self._tss, esys)

    def advance_counter(self, to: int) -> None:
        with self._open() as esys:
            nv.advance_counter(self._tss, esys, to)

    # Within

    @contextmanager
    def _open(self) -> Iterator[Any]:
        """Yield the chip; threads wait for each other."""
        with self._lock:
            try:
                with self._tss.ESAPI(self._tcti) as esys:
                    yield esys
            except (self._tss.TSS2_Exception, RuntimeError, ValueError, OSError) as error:
                raise KeyUnavailableError(
                    f"TPM at {self._tcti}: expected it to do as asked, found: {error}",
                    hint=hint_of(getattr(error, "rc", None)),
                ) from error

    @contextmanager
    def _loaded(self, esys: Any, label: str) -> Iterator[Any]:
        public, private = self._read_blob(label)
        key = esys.load(self._persistent(esys, SRK_HANDLE, self._make_srk), private, public)
        try:
            yield key
        finally:
            esys.flush_context(key)

    def _persistent(self, esys: Any, handle: int, make: Callable[[Any], Any]) -> Any:
        """Return the persistent object at `handle`, made and kept there the first time."""
        if handle in nv.list_handles(self._tss, esys, self._tss.TPM2_HT.PERSISTENT):
            return esys.tr_from_tpmpublic(handle)
        transient, hierarchy = make(esys)
        try:
            return esys.evict_control(hierarchy, transient, handle)
        finally:
            esys.flush_context(transient)

    def _opens_by_password(self, esys: Any, key: Any) -> bool:
        """Whether the template lets the key be used by its password, which is empty: the high range does."""
        public, *_ = esys.read_public(key)
        return bool(public.publicArea.objectAttributes & self._tss.TPMA_OBJECT.USERWITHAUTH)

    def _make_srk(self, esys: Any) -> Any:
        kind = self._tss.TPMA_OBJECT.RESTRICTED | self._tss.TPMA_OBJECT.DECRYPT
        template = self._template("ecc256:aes128cfb", kind)
        owner = self._tss.ESYS_TR.OWNER
        return esys.create_primary(self._tss.TPM2B_SENSITIVE_CREATE(), template, owner)[0], owner

    def _make_ak(self, esys: Any) -> Any:
        kind = self._tss.TPMA_OBJECT.RESTRICTED | self._tss.TPMA_OBJECT.SIGN_ENCRYPT
        template = self._template("ecc256:ecdsa-sha256:null", kind)
        endorsement, owner = self._tss.ESYS_TR.ENDORSEMENT, self._tss.ESYS_TR.OWNER
        return esys.create_primary(self._tss.TPM2B_SENSITIVE_CREATE(), template, endorsement)[0], owner

    def _template(self, kind: str, attributes: Any) -> Any:
        """Return a template of a key that is born in this chip and never leaves it."""
        every = self._tss.TPMA_OBJECT
        bound = (
            every.FIXEDTPM | every.FIXEDPARENT | every.SENSITIVEDATAORIGIN | every.USERWITHAUTH | every.NODA
        )
        return self._tss.TPM2B_PUBLIC.parse(kind, objectAttributes=attributes | bound)

    def _ek(self, esys: Any) -> Any:
        """Return the endorsement key whose certificate the chip holds, made from its template if needed."""
        tss, found = self._tss, ek.find_certificate(self._tss, esys)
        if found is None:
            raise KeyUnavailableError(
                f"TPM at {self._tcti}: expected an endorsement key certificate, found none"
            )
        kept = ek.find_persistent(tss, esys, *found)
        if kept is not None:
            return kept
        transient = ek.make(tss, esys, *found)
        try:
            return esys.evict_control(tss.ESYS_TR.OWNER, transient, ek.free_handle(tss, esys, found[0]))
        finally:
            esys.flush_context(transient)

    def _ecdsa(self) -> Any:
        scheme = self._tss.TPMT_SIG_SCHEME(scheme=self._tss.TPM2_ALG.ECDSA)
        scheme.details.any.hashAlg = self._tss.TPM2_ALG.SHA256
        return scheme

    def _read_blob(self, label: str) -> tuple[Any, Any]:
        try:
            content = self._path(label).read_bytes()
            public, used = self._tss.TPM2B_PUBLIC.unmarshal(content)
            private, _ = self._tss.TPM2B_PRIVATE.unmarshal(content[used:])
        except (OSError, self._tss.TSS2_Exception) as error:
            raise KeyUnavailableError(
                f"key {label}: expected its blob in {self._folder}, found none"
            ) from error
        return public, private

    def _path(self, label: str) -> Path:
        return self._folder / f"{parse_id(label, what='key')}{_SUFFIX}"
