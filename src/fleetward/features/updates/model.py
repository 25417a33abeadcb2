"""Rules of releases: what may be published, which one a model's devices should run, when metadata is due."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated, Literal

import msgspec

from fleetward.base.errors import ConflictError, ForbiddenError, InvalidInputError, TooLargeError
from fleetward.wire.manifest import MAX_COUNTER

MAX_SBOM_BYTES = 32 * 1024 * 1024
MAX_VERSION_CHARS = 64
APPROVALS_NEEDED = 2
_VERSION = re.compile(rf"[A-Za-z0-9][A-Za-z0-9._+-]{{0,{MAX_VERSION_CHARS - 1}}}")

# How long each kind of TUF metadata is believed. A frozen mirror cannot outlive the timestamp. All are signed
# anew by whoever runs, so a platform that was off for months comes back by itself.
LIFETIMES = {
    "targets": timedelta(days=90),
    "snapshot": timedelta(days=14),
    "timestamp": timedelta(days=1),
}
# What a device tells of an update or a start that went wrong.
TROUBLES = ("update.refused", "update.failed", "update.rolled_back", "boot.refused", "boot.degraded")


class ReleaseError(ConflictError):
    """The release cannot be published or changed as asked."""

    code = "release_conflict"


class ArtifactChangedError(ReleaseError):
    """A stored file of a release is not the one that was handed in."""

    code = "artifact_changed"


class SeparationOfDutyError(ForbiddenError):
    """It takes another person than who has acted already."""

    code = "separation_of_duty"


class ReleaseState(StrEnum):
    """PENDING waits for approvals and is not signed; PUBLISHING is promised, and finished by asking again.

    No device is offered either of them.
    """

    PENDING = "pending"
    REJECTED = "rejected"
    PUBLISHING = "publishing"
    PUBLISHED = "published"
    WITHDRAWN = "withdrawn"


@dataclass(frozen=True)
class Artifact:
    """Bytes by which everyone can check they hold the same thing. Digests in hex, length in bytes."""

    sha256: str
    sha512: str
    length: int


@dataclass(frozen=True)
class Release:
    """Firmware of one version for one model. Never changes, apart from its state.

    Attributes:
        manifest: the signed DSSE envelope, as devices keep it; empty until it is approved.
    """

    id: int
    model: str
    version: str
    state: ReleaseState
    security_counter: int
    image: Artifact
    sbom: Artifact
    manifest: bytes
    author: str
    created_at: datetime
    published_at: datetime | None = None
    withdrawn_at: datetime | None = None
    withdrawn_reason: str = ""
    rejected_at: datetime | None = None
    rejected_by: str | None = None
    rejected_reason: str | None = None

    @property
    def is_signed(self) -> bool:
        return bool(self.manifest)


@dataclass(frozen=True)
class Approval:
    """One operator's yes to a release."""

    release: int
    operator: str
    at: datetime


@dataclass(frozen=True)
class RepositoryState:
    """Which TUF metadata of a model stands published.

    Attributes:
        reserved: the last version number given out; a number is never used for two different contents.
        roles: version and expiry of what is published, by role; empty before the first release.
        root: version of the root that signed off the keys of what is published.
    """

    model: str
    reserved: int
    roles: dict[str, tuple[int, datetime]]
    root: int


class Sbom(msgspec.Struct, frozen=True, rename="camel"):
    """What is checked of a CycloneDX document; its other fields are kept and not read here."""

    bom_format: Literal["CycloneDX"]
    spec_version: Annotated[str, msgspec.Meta(pattern=r"^1\.[0-9]{1,2}$")]
    components: tuple["SbomComponent", ...] = ()


class SbomComponent(msgspec.Struct, frozen=True):
    type: Annotated[str, msgspec.Meta(max_length=64)]
    name: Annotated[str, msgspec.Meta(min_length=1)]


def parse_version(text: str) -> str:
    """Return a valid version: it becomes a URL segment and a column.

    Raises:
        InvalidInputError: empty, over 64 characters, or with a character outside `A-Z a-z 0-9 . _ + -`.
    """
    if not _VERSION.fullmatch(text):
        raise InvalidInputError(
            f"version: expected 1 to {MAX_VERSION_CHARS} of letters, digits and . _ + -, found {text[:80]!r}"
        )
    return text


def parse_sbom(content: bytes) -> Sbom:
    """Return what we check of a CycloneDX JSON document.

    Raises:
        TooLargeError: over 32 MiB.
        InvalidInputError: not CycloneDX JSON.
    """
    if len(content) > MAX_SBOM_BYTES:
        raise TooLargeError(f"SBOM: expected at most {MAX_SBOM_BYTES} bytes, found {len(content)}")
    try:
        return msgspec.json.decode(content, type=Sbom)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidInputError(
            f"SBOM: expected CycloneDX JSON, found an error: {error}",
            hint="Make one with syft, cdxgen or your build system: CycloneDX 1.x, JSON.",
        ) from error


def next_counter(model: str, highest: int | None, wanted: int | None) -> int:
    """Return the security counter of a model's next release: over all before it.

    Raises:
        ReleaseError: `wanted` is not.
        InvalidInputError: out of a counter's range.
    """
    counter = (highest or 0) + 1 if wanted is None else wanted
    if not 1 <= counter <= MAX_COUNTER:
        raise InvalidInputError(f"security counter: expected 1 to {MAX_COUNTER}, found {counter}")
    if highest is not None and counter <= highest:
        raise ReleaseError(
            f"security counter of {model}: expected more than {highest}, found {counter}",
            hint="Leave it out to get the next one. Devices never go back below a counter they confirmed.",
        )
    return counter


def check_approver(release: Release, approvals: Iterable[Approval], operator: str) -> None:
    """Pass when this operator's approval may count.

    Raises:
        ReleaseError: the release waits for none, or they gave theirs.
        SeparationOfDutyError: they handed it in.
    """
    name = f"release {release.version} of {release.model}"
    if release.state is not ReleaseState.PENDING:
        raise ReleaseError(f"{name}: expected it pending, found it {release.state}")
    if release.author == f"operator:{operator}":
        raise SeparationOfDutyError(
            f"{name}: expected approval by others than its author, found {operator}",
            hint="Ask two other release managers, security officers or administrators.",
        )
    if operator in {one.operator for one in approvals}:
        raise ReleaseError(f"{name}: expected approval by another operator, found {operator} approved before")


def find_current(releases: Iterable[Release]) -> Release | None:
    """Return the release that a model's devices should run: of those published, the highest counter."""
    published = [one for one in releases if one.state is ReleaseState.PUBLISHED]
    return max(published, key=lambda one: one.security_counter, default=None)


def due_roles(state: RepositoryState, root: int, now: datetime) -> tuple[str, ...]:
    """Return the roles to sign anew, in the order targets, snapshot, timestamp.

    A role is due at half of its lifetime. Whatever is signed anew must be named by what stands above it, and
    a new root may have replaced every key.
    """
    if not state.roles:
        return ()
    order = tuple(LIFETIMES)
    if state.root != root:
        return order
    for index, role in enumerate(order):
        _, expires_at = state.roles[role]
        if expires_at - now < LIFETIMES[role] / 2:
            return order[index:]
    return ()
