"""Operator routes of overview."""

from fastapi import APIRouter

from fleetward.features.overview.http import devices, filters, today

router = APIRouter(tags=["overview"])
for _part in (today, devices, filters):
    router.include_router(_part.router)

__all__ = ["router"]
