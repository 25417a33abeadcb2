"""HTTP routes of access."""

from fastapi import APIRouter

from fleetward.features.access.http import (
    breakglass,
    device_codes,
    grants,
    me,
    oauth,
    oidc,
    operators,
    public,
    reviews,
    setup,
    signin,
    tokens,
)

router = APIRouter()
pages_router = oauth.metadata_router
for _one in (
    public, setup, signin, oauth, oidc, me, device_codes, tokens, operators, grants, reviews, breakglass,
):  # fmt: skip
    router.include_router(_one.router)
