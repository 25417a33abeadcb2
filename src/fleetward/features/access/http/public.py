"""What anyone may ask: whether we are well."""

from dataclasses import dataclass
from typing import Literal

from fastapi import APIRouter

from fleetward import __version__

router = APIRouter(tags=["health"])


@dataclass(frozen=True)
class Health:
    status: Literal["ok"]
    version: str


@router.get("/health")
def health() -> Health:
    """Answer while this process serves requests."""
    return Health("ok", __version__)
