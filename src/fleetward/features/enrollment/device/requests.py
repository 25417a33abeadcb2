"""The requests of each lane, and what the machine takes from the answers. Pure."""

import base64
import json
from collections.abc import Sequence

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from fleetward.base.errors import InvalidInputError
from fleetward.features.enrollment.device.messages import ChipProved, ResponseReceived, SendRequest
from fleetward.features.enrollment.device.state import Chip
from fleetward.wire import enroll, est, signed_time
from fleetward.wire.der import MALFORMED

OK = 200
_MAX_DETAIL_CHARS = 300
_MAX_DEPTH = 5
_MAX_RETRY_AFTER_S = 3600
_JSON = {"content-type": "application/json"}


def ask_time(nonce: str) -> SendRequest:
    return SendRequest("GET", f"{signed_time.PATH}?nonce={nonce}", {}, b"", is_time_unchecked=True)


def enroll_by_claim(csr: bytes, device_id: str, claim: str) -> SendRequest:
    """RFC 7030 section 3.2.3: HTTP Basic, the claim as password."""
    credentials = base64.b64encode(f"{device_id}:{claim}".encode()).decode()
    headers = {**_est_headers(), "authorization": f"Basic {credentials}"}
    return SendRequest("POST", f"{est.PATH}/simpleenroll", headers, est.render_csr(csr))


def enroll_by_hardware(csr: bytes, *, is_idevid: bool) -> SendRequest:
    """RFC 7030 section 3.3.2 with an IDevID, or for a key the shipment manifest lists."""
    return SendRequest(
        "POST", f"{est.PATH}/simpleenroll", _est_headers(), est.render_csr(csr), is_idevid=is_idevid
    )


def reenroll(csr: bytes, client_key: str) -> SendRequest:
    """RFC 7030 section 4.2.2."""
    return SendRequest(
        "POST", f"{est.PATH}/simplereenroll", _est_headers(), est.render_csr(csr), client_key=client_key
    )


def ask_issuers() -> SendRequest:
    return SendRequest("GET", f"{est.PATH}/cacerts", {}, b"")


def begin_tpm(
    device_id: str, purpose: enroll.Purpose, chip: Chip, *, claim: str | None, client_key: str | None
) -> SendRequest:
    body = enroll.TpmBegin(device_id, purpose, chip.ek_chain, chip.ak_public, claim)
    return SendRequest("POST", enroll.PATH, _JSON, enroll.render(body), client_key=client_key)


def finish_tpm(challenge_id: str, csr: bytes, proof: ChipProved, client_key: str | None) -> SendRequest:
    body = enroll.render_finish(
        proof.secret, csr, proof.certify_info, proof.certify_signature, evidence=proof.evidence
    )
    return SendRequest("POST", f"{enroll.PATH}/{challenge_id}", _JSON, body, client_key=client_key)


def refusal_of(response: ResponseReceived) -> str:
    """Return the server's reason, for people: the problem document's detail when there is one."""
    detail = ""
    try:
        problem = json.loads(response.body[: 64 * 1024])
        if isinstance(problem, dict):
            detail = str(problem.get("detail", ""))
    except (ValueError, RecursionError):
        detail = ""
    return f"HTTP {response.status} {detail}".strip()[:_MAX_DETAIL_CHARS]


def retry_after_s(response: ResponseReceived) -> int:
    """Return the pause the server asks for, at most an hour; 0 when it asks for none."""
    text = response.headers.get("retry-after", "")
    return min(int(text), _MAX_RETRY_AFTER_S) if text.isascii() and text.isdigit() else 0


def pick_leaf(found: Sequence[x509.Certificate], csr: bytes) -> x509.Certificate:
    """Return the certificate for the key of our request.

    Raises:
        InvalidInputError: none is.
    """
    wanted = _spki(est.parse_csr_der(csr))
    for certificate in found:
        if _spki(certificate) == wanted:
            return certificate
    raise InvalidInputError("issued certificate: expected one for our new key, found none")


def complete_chain(leaf: x509.Certificate, known: Sequence[x509.Certificate]) -> bytes:
    """Return PEM of the leaf and its issuers up to but without the root.

    Raises:
        InvalidInputError: `known` does not lead to a root.
    """
    chain = [leaf]
    while chain[-1].issuer != chain[-1].subject:
        issuer = next((one for one in known if _has_issued(one, chain[-1])), None)
        if issuer is None or len(chain) > _MAX_DEPTH:
            raise InvalidInputError("issued certificate: expected its issuers up to the root, found a gap")
        chain.append(issuer)
    return b"".join(certificate.public_bytes(Encoding.PEM) for certificate in chain[:-1])


def load_issued(body: bytes) -> list[x509.Certificate]:
    """Return the chain of the TPM lane's last answer. Raises InvalidInputError."""
    try:
        return [x509.load_der_x509_certificate(der) for der in enroll.parse_issued(body).certificate_chain]
    except MALFORMED as error:
        raise InvalidInputError("issued certificate: expected X.509, found something else") from error


def _has_issued(issuer: x509.Certificate, certificate: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (InvalidSignature, *MALFORMED):
        return False
    return True


def _spki(holder: x509.Certificate | x509.CertificateSigningRequest) -> bytes:
    return holder.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _est_headers() -> dict[str, str]:
    return {"content-type": est.CSR_TYPE, "content-transfer-encoding": "base64"}
