"""HTTP routes of access."""

from fastapi import APIRouter

from fleetward.features.access.http import (
    breakglass,
    device_codes,
    grants,
    me,
    oidc,
    operators,
    public,
    reviews,
    setup,
    signin,
    tokens,
)

router = APIRouter()
for _one in (
    public, setup, signin, oidc, me, device_codes, tokens, operators, grants, reviews, breakglass,
):  # fmt: skip
    router.include_router(_one.router)
