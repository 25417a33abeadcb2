"""HTTP routes of access."""

from fastapi import APIRouter

from fleetward.features.access.http import (
    device_codes,
    me,
    oidc,
    operators,
    public,
    setup,
    signin,
    tokens,
)

router = APIRouter()
for _one in (public, setup, signin, oidc, me, device_codes, tokens, operators):
    router.include_router(_one.router)
