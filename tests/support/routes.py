"""Which routes an application has, and what each asks for."""

from collections.abc import Iterable, Iterator
from typing import Any

from fastapi import FastAPI

from fleetward.base.web import _Requires


def permissions_of(app: FastAPI) -> dict[str, str]:
    """Return `METHOD /path` → the permission it asks for, "" for none; a WebSocket's method is `WS`."""
    found: dict[str, str] = {}
    for path, route in _walk(app.routes, ""):
        for method in getattr(route, "methods", None) or {"WS"}:
            name = f"{method} {path}"
            assert name not in found, f"{name} is served twice"
            found[name] = ",".join(_permissions(getattr(route, "dependant", None)))
    return found


def _walk(routes: Iterable[Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for route in routes:
        included = getattr(route, "original_router", None)  # FastAPI keeps an included router whole
        if included is None:
            yield prefix + route.path, route
        else:
            yield from _walk(included.routes, prefix + route.include_context.prefix)


def _permissions(dependant: Any) -> list[str]:
    if dependant is None:
        return []
    found = [dependant.call.permission] if isinstance(dependant.call, _Requires) else []
    for inner in dependant.dependencies:
        found += _permissions(inner)
    return found
