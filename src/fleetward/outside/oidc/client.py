"""An OpenID provider, reached as relying party: authorization code flow with PKCE (OpenID Connect Core 1.0).

The ID token is verified here: signature by the provider's keys, issuer, audience, expiry, nonce, at_hash.
Only the token endpoint's answer over TLS is taken; nothing comes from the browser but `code` and `state`.

The provider's keys are asked for at every sign-in, once it has taken the code: keys that it has changed,
under a new name or the same or none, count at once, and those it has withdrawn verify nothing any more.
"""

import json
import ssl
import threading
from base64 import b64encode
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus, urlencode, urlsplit

import urllib3
from authlib.oauth2.rfc6749.parameters import prepare_grant_uri
from authlib.oauth2.rfc7636 import create_s256_code_challenge
from authlib.oidc.core import CodeIDToken
from joserfc import jws, jwt
from joserfc.errors import BadSignatureError, JoseError
from joserfc.jwk import JWKRegistry, Key

from fleetward.base.clock import Clock
from fleetward.base.errors import FleetwardError, UnavailableError
from fleetward.features.access.ports import Login, Person, ProviderRefusedError
from fleetward.wire.der import MALFORMED

_TIMEOUT = urllib3.Timeout(connect=5, read=10)
_MAX_ANSWER_BYTES = 256 * 1024
_LEEWAY_S = 60
_OK = 200
_MAX_KEYS = 64
_KEY_TYPES = ("RSA", "EC", "OKP")
# Asymmetric only: with a shared secret anybody who can verify could also sign.
_ALGORITHMS = (
    "RS256",
    "RS384",
    "RS512",
    "PS256",
    "PS384",
    "PS512",
    "ES256",
    "ES384",
    "ES512",
    "Ed25519",
    "EdDSA",
)


@dataclass(frozen=True)
class ProviderSettings:
    """How a provider knows us. `ca_file` None: the system's roots."""

    issuer: str
    client_id: str
    client_secret: str = field(repr=False)
    scopes: tuple[str, ...]
    groups_claim: str
    ca_file: Path | None


class OidcProvider:
    """Implements `features.access.ports.OidcClient`. Thread-safe; discovery is remembered."""

    def __init__(self, settings: ProviderSettings, clock: Clock) -> None:
        context = ssl.create_default_context(
            cafile=None if settings.ca_file is None else str(settings.ca_file)
        )
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        self._pool = urllib3.PoolManager(ssl_context=context, timeout=_TIMEOUT, retries=False)
        self._settings, self._clock = settings, clock
        self._lock = threading.Lock()
        self._metadata: dict[str, Any] | None = None

    def authorization_url(self, login: Login) -> str:
        """Return where to send the browser. Raises UnavailableError: the provider does not answer."""
        url: str = prepare_grant_uri(
            self._endpoint("authorization_endpoint"),
            client_id=self._settings.client_id,
            response_type="code",
            redirect_uri=login.redirect_uri,
            scope=list(self._settings.scopes),
            state=login.state,
            nonce=login.nonce,
            code_challenge=create_s256_code_challenge(login.verifier),
            code_challenge_method="S256",
        )
        return url

    def redeem(self, login: Login, code: str) -> Person:
        """Exchange a code and verify the ID token.

        Raises:
            ProviderRefusedError: the provider refuses the code, or the token does not verify.
            UnavailableError: the provider does not answer.
        """
        answer = self._ask_for_token(login, code)
        claims = self._complete(self._verify(answer, login), answer)
        name = str(claims.get("preferred_username") or claims.get("email") or claims["sub"])
        return Person(
            issuer=self._settings.issuer,
            subject=str(claims["sub"]),
            name=name,
            display_name=str(claims.get("name") or name),
            groups=_texts(claims.get(self._settings.groups_claim)),
            amr=_texts(claims.get("amr")),
            acr=str(claims.get("acr") or ""),
        )

    def _ask_for_token(self, login: Login, code: str) -> dict[str, Any]:
        settings = self._settings
        # RFC 6749 section 2.3.1: form-encoded before they are joined.
        pair = f"{quote_plus(settings.client_id)}:{quote_plus(settings.client_secret)}"
        body = urlencode(
            {
                "grant_type": "authorization_code",
                "code": code,
                "redirect_uri": login.redirect_uri,
                "code_verifier": login.verifier,
            }
        )
        status, answer = self._request(
            "POST",
            self._endpoint("token_endpoint"),
            body=body,
            headers={
                "Content-Type": "application/x-www-form-urlencoded",
                "Authorization": f"Basic {b64encode(pair.encode()).decode()}",
            },
        )
        if status != _OK:
            reason = str(answer.get("error", status))[:100]
            raise ProviderRefusedError(f"provider: expected tokens for the code, found {reason}")
        return answer

    def _complete(self, claims: Mapping[str, Any], answer: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the claims with those that the provider keeps for its UserInfo endpoint, if any are missing.

        What the signed ID token says is never replaced (OpenID Connect Core 1.0 section 5.3).
        """
        is_named = any(claims.get(name) for name in ("preferred_username", "email"))
        if (is_named and self._settings.groups_claim in claims) or not self._offers("userinfo_endpoint"):
            return claims
        bearer = {"Authorization": f"Bearer {answer.get('access_token', '')}"}
        status, found = self._request("GET", self._endpoint("userinfo_endpoint"), headers=bearer)
        if status != _OK:
            return claims
        if found.get("sub") != claims["sub"]:
            raise ProviderRefusedError("UserInfo: expected sub as in the ID token, found another")
        return {**found, **claims}

    def _verify(self, answer: Mapping[str, Any], login: Login) -> CodeIDToken:
        settings, now = self._settings, int(self._clock.now().timestamp())
        try:
            token = self._decode(str(answer["id_token"]))
            claims = CodeIDToken(
                token.claims,
                token.header,
                {
                    "iss": {"essential": True, "value": settings.issuer},
                    "aud": {"essential": True, "value": settings.client_id},
                },
                {
                    "nonce": login.nonce,
                    "client_id": settings.client_id,
                    "access_token": answer.get("access_token"),
                },
            )
            claims.validate(now=now, leeway=_LEEWAY_S)
        except FleetwardError:
            raise
        except Exception as error:
            # The libraries let errors of numbers, types and keys through: each says that it does not hold.
            raise ProviderRefusedError(
                f"ID token: expected one that verifies, found {type(error).__name__}: {error}"
            ) from error
        if not isinstance(claims["sub"], str | int) or claims["sub"] == "":
            raise ProviderRefusedError("ID token: expected sub to name somebody, found it empty or no text")
        return claims

    def _decode(self, text: str) -> jwt.Token:
        """Return the token, verified by the key that it names; where it names none, by one that fits."""
        error: Exception = BadSignatureError()
        named = _key_id_of(text)
        for key in self._fetch_keys():
            if named is None or key.kid in (None, named):
                try:
                    return jwt.decode(text, key, algorithms=_ALGORITHMS)
                except JoseError as found:  # of another kind, for another use, or not the one
                    error = found
        raise error

    def _fetch_keys(self) -> list[Key]:
        """Return the provider's keys (RFC 7517 section 5: those we do not understand are left out)."""
        status, answer = self._request("GET", self._endpoint("jwks_uri"))
        offered = answer.get("keys")
        if status != _OK or not isinstance(offered, list):
            raise UnavailableError(f"provider: expected its keys, found status {status}")
        keys: list[Key] = []
        for one in offered[:_MAX_KEYS]:
            if isinstance(one, dict) and one.get("kty") in _KEY_TYPES:
                with suppress(JoseError, LookupError, *MALFORMED):
                    keys.append(JWKRegistry.import_key(one))
        return keys

    def _offers(self, name: str) -> bool:
        self._endpoint("token_endpoint")
        with self._lock:
            return bool((self._metadata or {}).get(name))

    def _endpoint(self, name: str) -> str:
        with self._lock:
            metadata = self._metadata
        if metadata is None:
            metadata = self._discover()
            with self._lock:
                self._metadata = metadata
        url = str(metadata.get(name, ""))
        if urlsplit(url).scheme != "https":
            raise UnavailableError(f"provider: expected {name} over https, found {url[:100]!r}")
        return url

    def _discover(self) -> dict[str, Any]:
        """Return the provider's metadata (OpenID Connect Discovery 1.0 section 4)."""
        issuer = self._settings.issuer
        status, metadata = self._request("GET", f"{issuer.rstrip('/')}/.well-known/openid-configuration")
        if status != _OK or metadata.get("issuer") != issuer:
            raise UnavailableError(
                f"provider: expected the metadata of {issuer}, found {metadata.get('issuer', status)}",
                hint="Compare issuer in [oidc] with the provider's own, letter by letter.",
            )
        return metadata

    def _request(
        self, method: str, url: str, *, body: str | None = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, dict[str, Any]]:
        """Return status and JSON object of an answer; no redirect is followed."""
        try:
            response = self._pool.request(
                method, url, body=body, headers={"Accept": "application/json", **(headers or {})},
                redirect=False, preload_content=False,
            )  # fmt: skip
            content = response.read(_MAX_ANSWER_BYTES + 1)
            response.release_conn()
        except urllib3.exceptions.HTTPError as error:
            raise UnavailableError(
                f"provider: expected an answer from {urlsplit(url).netloc}, found none",
                hint="Is it reachable, and its certificate signed by a root we trust (oidc.ca_file)?",
            ) from error
        try:
            found = json.loads(content) if len(content) <= _MAX_ANSWER_BYTES else None
        except (ValueError, RecursionError):
            found = None
        return response.status, found if isinstance(found, dict) else {}


def _key_id_of(text: str) -> str | None:
    """Return the name of the key in a token's header that nobody has verified, None where it has none."""
    found = jws.extract_compact(text.encode()).headers().get("kid")
    if found is None or isinstance(found, str):
        return found
    raise ValueError("kid: expected text")


def _texts(value: object) -> frozenset[str]:
    """Return the texts of a claim that is a list, or one text."""
    if isinstance(value, str):
        return frozenset({value})
    return frozenset(str(one) for one in value) if isinstance(value, list) else frozenset()
