"""The shape of a feature's door: all that others need to know of a feature, as plain frozen data.

`features/<f>/door.py` exports one `feature = Feature(…)`. Importing a door starts nothing and registers
nothing: `programs/server/doors.py` lists the doors, and whoever needs routes, permissions, kinds of events,
timers or settings loops over that list. What an act needs of the process (keys, stores, adapters) it gets by
type from the `House`.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, TypeAlias, TypeVar, cast

from fastapi import APIRouter

from fleetward.base.board import Card
from fleetward.base.checklist import Check
from fleetward.base.clock import Clock
from fleetward.base.coap import CoapAnswer, CoapRequest
from fleetward.base.config import Section
from fleetward.base.db import Database, Tx
from fleetward.base.events import Event, Severity
from fleetward.base.permissions import Permission

T = TypeVar("T")
_ANY = "+"


@dataclass(frozen=True)
class House:
    """What a process has, found by type: contexts of features, adapters of their ports."""

    db: Database
    clock: Clock
    things: Mapping[type, object] = field(default_factory=dict)

    def get(self, kind: type[T]) -> T:
        """Return the process's one thing of this type. Raises LookupError: programs/server built none."""
        if kind not in self.things:
            raise LookupError(f"house: expected a {kind.__name__}, found none")
        return cast("T", self.things[kind])

    def furnished(self, *things: object) -> "House":
        """Return a house that has these too, each under its own type."""
        return House(self.db, self.clock, {**self.things, **{type(thing): thing for thing in things}})


class Port(StrEnum):
    """Where routes are served.

    API: operators' port, under /api/v1 and in the OpenAPI document.
    PAGES: operators' port, at the path itself.
    DEVICES: devices' port; each route asks for a certificate or a claim.
    """

    API = "api"
    PAGES = "pages"
    DEVICES = "devices"


@dataclass(frozen=True)
class Routes:
    """HTTP routes of a feature.

    Attributes:
        body_limits: bytes a request's body may have, by its whole path; others get the default.
    """

    router: APIRouter
    port: Port
    body_limits: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class CoapResource:
    """One resource of a feature.

    Attributes:
        path: its levels, joined by `/`; `+` stands for any one level.
        act: on the event loop: what blocks goes to a thread.
    """

    method: str
    path: str
    act: Callable[[House, CoapRequest], Awaitable[CoapAnswer]]

    def is_at(self, path: tuple[str, ...]) -> bool:
        levels = self.path.split("/")
        return len(levels) == len(path) and all(
            level in (_ANY, found) for level, found in zip(levels, path, strict=True)
        )


class About(StrEnum):
    """Whom an event is about; one about a device is seen by whoever may see its group."""

    DEVICE = "device"
    OPERATOR = "operator"
    RELEASE = "release"
    PLATFORM = "platform"


@dataclass(frozen=True)
class EventKind:
    """A kind of event that this feature tells: `<noun>.<past participle>`.

    Attributes:
        severity: how it is told, unless it says another of `or_severities`.
        may_device_say: whether a device may tell of it in its log.
        meaning: one line for people, in docs/reference/http.md.
    """

    name: str
    severity: Severity
    about: About
    meaning: str
    may_device_say: bool = False
    or_severities: frozenset[Severity] = frozenset()


@dataclass(frozen=True)
class Hears:
    """Events of others that a feature acts on, by a durable consumer of this name.

    Attributes:
        handle: idempotent, for an event comes at least once; one transaction each.
        max_deliveries: after so many failures the event goes to the dead letters.
    """

    name: str
    kinds: frozenset[str]
    handle: Callable[[Tx, Event], None]
    max_deliveries: int = 5


# A step of the intake of what devices send: from a batch and the time to a batch. The type of the batch is
# messaging's own (`messaging.intake.batch`), which no base may name.
Stage: TypeAlias = Callable[[T, datetime], T]


class Role(StrEnum):
    """What a process does for the platform."""

    API = "api"
    CALLOUT = "callout"
    WORKER = "worker"


@dataclass(frozen=True)
class Timer:
    """Work that comes back every `every_s` seconds in processes of a role; it opens its own transactions."""

    name: str
    every_s: float
    role: Role
    act: Callable[[House], object]


@dataclass(frozen=True)
class Start:
    """What a process does once before it serves: finish what a crash interrupted. Safe to repeat."""

    name: str
    act: Callable[[House], object]


@dataclass(frozen=True)
class Forget:
    """Rows that are deleted when they no longer matter; a transaction each, hourly.

    Attributes:
        after: how long they are kept once they are over; None where they go as soon as they are.
    """

    name: str
    after: timedelta | None
    act: Callable[[Tx], object]


# Whose devices somebody may see: those of these groups, None for all.
Groups: TypeAlias = frozenset[str] | None


@dataclass(frozen=True)
class Cards:
    """Cards of the front page, for who holds a permission.

    Attributes:
        kinds: what they may be about, in the order in which they are shown.
        find: within one transaction that reads; of the groups in which the permission is held.
    """

    permission: str
    kinds: tuple[str, ...]
    find: Callable[[House, Tx, Groups], Iterable[Card]]


@dataclass(frozen=True)
class Checks:
    """Points of the deployment checklist.

    Attributes:
        ids: of all the points that `find` returns.
    """

    ids: tuple[str, ...]
    find: Callable[[House, Tx], Iterable[Check]]


@dataclass(frozen=True)
class Place:
    """A page of the console about this feature.

    Attributes:
        path: of its address; `$name` stands for one level.
        permission: what its entry asks for; None where whoever signed in may go there.
    """

    path: str
    permission: str | None


@dataclass(frozen=True)
class Feature:
    """A feature's door.

    Attributes:
        name: its folder's.
        context: type of what its routes find in `app.state.<name>`; None when they need the edge alone.
        routers, permissions, …: what it offers; see each type.
    """

    name: str
    context: type | None = None
    routes: tuple[Routes, ...] = ()
    coap: tuple[CoapResource, ...] = ()
    settings: tuple[Section, ...] = ()
    permissions: tuple[Permission, ...] = ()
    events: tuple[EventKind, ...] = ()
    hears: tuple[Hears, ...] = ()
    stages: tuple[Stage[Any], ...] = ()
    starts: tuple[Start, ...] = ()
    timers: tuple[Timer, ...] = ()
    forgets: tuple[Forget, ...] = ()
    cards: tuple[Cards, ...] = ()
    checks: tuple[Checks, ...] = ()
    places: tuple[Place, ...] = ()
