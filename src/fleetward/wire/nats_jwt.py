"""What nats-server and its authorization callout say to each other (NATS ADR-26): JWTs signed with nkeys.

nats-server asks whether a connection may live, with a request that carries the verified client certificate;
the answer carries a user JWT with the subjects and the second at which the server itself ends the connection.
"""

import base64
import binascii
from dataclasses import dataclass

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fleetward.base.errors import InvalidInputError, KeyUnavailableError, TooLargeError

MAX_REQUEST_BYTES = 256 * 1024
MAX_CHAIN = 8
_SEED_PREFIX = 18 << 3
_ACCOUNT_PREFIX = 0
_SEED_BYTES = 32
_HEADER = base64.urlsafe_b64encode(b'{"typ":"JWT","alg":"ed25519-nkey"}').rstrip(b"=")
_JWT_PARTS = 3


class _ServerId(msgspec.Struct, frozen=True):
    id: str
    name: str = ""


class _ClientInfo(msgspec.Struct, frozen=True):
    host: str = ""
    id: int = 0
    type: str = ""
    mqtt_id: str = ""


class _ClientTls(msgspec.Struct, frozen=True):
    verified_chains: list[list[str]] = []


class _RequestBody(msgspec.Struct, frozen=True):
    server_id: _ServerId
    user_nkey: str
    client_info: _ClientInfo
    client_tls: _ClientTls = _ClientTls()


class _RequestClaims(msgspec.Struct, frozen=True):
    nats: _RequestBody


_decode_request = msgspec.json.Decoder(_RequestClaims).decode


@dataclass(frozen=True, slots=True)
class AuthorizationRequest:
    """A connection that waits for an answer.

    Attributes:
        connection: the server's number for it.
        kind: protocol of the client: `mqtt`, `nats`, `websocket`.
        chain: client certificate and issuers in PEM, as the TLS handshake verified them; may be empty.
    """

    server: str
    user: str
    connection: int
    kind: str
    address: str
    mqtt_client: str
    chain: tuple[str, ...]


def parse_authorization_request(token: bytes) -> AuthorizationRequest:
    """Return what nats-server asks. Only it may write on that subject: its signature is not verified.

    Raises:
        InvalidInputError: not such a request, or over 256 KiB.
    """
    if len(token) > MAX_REQUEST_BYTES:
        raise TooLargeError(
            f"authorization request: expected at most {MAX_REQUEST_BYTES} bytes, found {len(token)}"
        )
    parts = token.split(b".")
    if len(parts) != _JWT_PARTS:
        raise InvalidInputError(f"authorization request: expected a JWT of three parts, found {len(parts)}")
    try:
        body = _decode_request(base64.urlsafe_b64decode(parts[1] + b"==")).nats
    except (msgspec.MsgspecError, binascii.Error, ValueError, RecursionError) as error:
        raise InvalidInputError("authorization request: expected its claims, found something else") from error
    chains = body.client_tls.verified_chains
    return AuthorizationRequest(
        server=body.server_id.id,
        user=body.user_nkey,
        connection=body.client_info.id,
        kind=body.client_info.type,
        address=body.client_info.host,
        mqtt_client=body.client_info.mqtt_id,
        chain=tuple(chains[0][:MAX_CHAIN]) if chains else (),
    )


class _Subjects(msgspec.Struct, frozen=True):
    allow: tuple[str, ...]


class _User(msgspec.Struct, frozen=True):
    pub: _Subjects
    sub: _Subjects
    payload: int
    subs: int
    allowed_connection_types: tuple[str, ...]
    data: int = -1
    type: str = "user"
    version: int = 2


class _UserClaims(msgspec.Struct, frozen=True):
    aud: str
    sub: str
    iss: str
    iat: int
    exp: int
    nats: _User


class _Answer(msgspec.Struct, frozen=True):
    jwt: str | msgspec.UnsetType = msgspec.UNSET
    error: str | msgspec.UnsetType = msgspec.UNSET
    type: str = "authorization_response"
    version: int = 2


class _AnswerClaims(msgspec.Struct, frozen=True):
    aud: str
    sub: str
    iss: str
    iat: int
    nats: _Answer


class AccountSigner:
    """Signs answers with an account's nkey. Thread-safe."""

    def __init__(self, seed: str) -> None:
        """Take an account seed `SA…`.

        Raises:
            KeyUnavailableError: it is no account seed.
        """
        self._key = Ed25519PrivateKey.from_private_bytes(_decode_account_seed(seed))
        self.issuer = _encode_nkey(_ACCOUNT_PREFIX, self._key.public_key().public_bytes_raw())
        self._encode = msgspec.json.Encoder().encode

    def sign(self, claims: msgspec.Struct) -> str:
        """Return the JWT of `claims`."""
        body = base64.urlsafe_b64encode(self._encode(claims)).rstrip(b"=")
        signed = b"%b.%b" % (_HEADER, body)
        signature = base64.urlsafe_b64encode(self._key.sign(signed)).rstrip(b"=")
        return (b"%b.%b" % (signed, signature)).decode()


def render_grant(
    signer: AccountSigner,
    request: AuthorizationRequest,
    *,
    account: str,
    publish: tuple[str, ...],
    subscribe: tuple[str, ...],
    max_payload_bytes: int,
    max_subscriptions: int,
    issued_at_s: int,
    expires_at_s: int,
) -> bytes:
    """Return the answer that lets an MQTT connection live until `expires_at_s` (seconds since 1970).

    The user JWT bears no name: connections of named users are dropped whenever nats-server reads its
    configuration again (2.15), as it does for every renewed server certificate.
    """
    user = _UserClaims(
        aud=account,
        sub=request.user,
        iss=signer.issuer,
        iat=issued_at_s,
        exp=expires_at_s,
        nats=_User(
            pub=_Subjects(publish),
            sub=_Subjects(subscribe),
            payload=max_payload_bytes,
            subs=max_subscriptions,
            allowed_connection_types=("MQTT",),
        ),
    )
    return _render_answer(signer, request, issued_at_s, _Answer(jwt=signer.sign(user)))


def render_refusal(
    signer: AccountSigner, request: AuthorizationRequest, *, code: str, issued_at_s: int
) -> bytes:
    """Return the answer that ends a connection; the server logs `code`, the client learns nothing of it."""
    return _render_answer(signer, request, issued_at_s, _Answer(error=code))


def _render_answer(
    signer: AccountSigner, request: AuthorizationRequest, issued_at_s: int, answer: _Answer
) -> bytes:
    claims = _AnswerClaims(request.server, request.user, signer.issuer, issued_at_s, answer)
    return signer.sign(claims).encode()


def _decode_account_seed(seed: str) -> bytes:
    try:
        raw = base64.b32decode(seed + "=" * (-len(seed) % 8))
    except (binascii.Error, ValueError) as error:
        raise KeyUnavailableError("account seed: expected an nkey, found another encoding") from error
    prefix = (raw[0] & 7) << 5 | raw[1] >> 3 if len(raw) == _SEED_BYTES + 4 else -1
    if prefix != _ACCOUNT_PREFIX or raw[0] & 0xF8 != _SEED_PREFIX:
        raise KeyUnavailableError("account seed: expected an account's nkey seed, found another kind")
    if _crc16(raw[:-2]).to_bytes(2, "little") != raw[-2:]:
        raise KeyUnavailableError("account seed: expected an intact nkey, found a wrong checksum")
    return raw[2:-2]


def _encode_nkey(prefix: int, raw: bytes) -> str:
    body = bytes([prefix]) + raw
    return base64.b32encode(body + _crc16(body).to_bytes(2, "little")).rstrip(b"=").decode()


def _crc16(content: bytes) -> int:
    """Return the CRC-16/XMODEM that ends every nkey, as `binascii.crc_hqx` computes it."""
    return binascii.crc_hqx(content, 0)
