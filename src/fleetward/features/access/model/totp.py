"""Time-based one-time passwords (RFC 6238): six digits, 30 seconds, one step of drift either way."""

from datetime import datetime

import pyotp

from fleetward.features.access.model.secrets import is_same

ISSUER = "Fleetward"
STEP_S = 30
_DRIFT_STEPS = 1
_DIGITS = 6


def new_secret() -> str:
    """Return a fresh secret of 160 bits, base32."""
    return pyotp.random_base32()


def provisioning_uri(secret: str, name: str, server: str) -> str:
    """Return the `otpauth:` URI that authenticator apps read."""
    return pyotp.TOTP(secret).provisioning_uri(name=f"{name}@{server}", issuer_name=ISSUER)


def find_step(secret: str, code: str, now: datetime, *, last_step: int) -> int | None:
    """Return the time step whose code this is, or None.

    A step at or before `last_step` does not count: a code is accepted once (RFC 6238 section 5.2). A last
    step that no code of today can have was used before the clock was set back: it locks nobody out.
    """
    given = "".join(code.split())
    if len(given) != _DIGITS or not given.isascii() or not given.isdigit():
        return None
    current = int(now.timestamp()) // STEP_S
    otp = pyotp.TOTP(secret)
    matching = [
        step
        for step in range(current - _DRIFT_STEPS, current + _DRIFT_STEPS + 1)
        if is_same(otp.generate_otp(step), given)
    ]
    used = last_step if last_step <= current + _DRIFT_STEPS else -1
    return next((step for step in matching if step > used), None)
