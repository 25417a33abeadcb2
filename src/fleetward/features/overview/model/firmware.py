"""Where a device stands with its firmware: its own word, beside what is published and what was proven."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from fleetward.features.messaging.model import Shadow
from fleetward.features.updates.model import Release, ReleaseState, find_current

_MAX_TEXT_CHARS = 300
_SLOTS = ("a", "b")
UNDER_WAY = frozenset(
    {"downloading", "verifying", "writing", "switching", "rebooting", "trial", "confirming"}
)


@dataclass(frozen=True)
class SlotReport:
    """What a device says lies in one of its slots; `version` is None for an empty one."""

    slot: str
    version: str | None


@dataclass(frozen=True)
class TrialReport:
    """Firmware that has to prove itself; it is started `tries_left` times more."""

    slot: str
    version: str | None
    tries_left: int


@dataclass(frozen=True)
class UpdateReport:
    """What the device last said of its update.

    Attributes:
        state: a phase of the update machine, e.g. `idle`, `downloading`, `trial`, `blocked`.
        progress: percent of the download, while there is one.
    """

    state: str
    version: str | None
    progress: int | None
    error: str
    at: datetime | None


@dataclass(frozen=True)
class FirmwareStatus:
    """All that is known of a device's firmware.

    Attributes:
        running: the version it runs; by its appraisal where the model asks for one, else by its own word.
        is_proven: `running` comes from an appraisal.
        current: the release it runs, None when it is none of ours.
        wanted: the release it should run, None when nothing is published for its model.
    """

    running: str | None
    is_proven: bool
    active: SlotReport | None
    inactive: SlotReport | None
    trial: TrialReport | None
    current: Release | None
    wanted: Release | None
    report: UpdateReport | None

    @property
    def is_up_to_date(self) -> bool:
        return self.wanted is not None and self.running == self.wanted.version

    @property
    def is_ahead(self) -> bool:
        """Whether it runs a later release than it should: one that was withdrawn. It does not go back."""
        if self.wanted is None or self.current is None:
            return False
        return self.current.security_counter > self.wanted.security_counter


def describe_firmware(
    running: str | None, *, is_proven: bool, shadow: Shadow, releases: list[Release]
) -> FirmwareStatus:
    """Return the status drawn from a shadow's `firmware` section, which may hold anything."""
    section = _object(shadow.reported.get("firmware"))
    version = running or _text(section.get("version"))
    slots = _object(section.get("slots"))
    versions = _object(slots.get("versions"))
    active = _slot(slots.get("running"), versions)
    inactive = None
    if active is not None:
        inactive = _slot(next(one for one in _SLOTS if one != active.slot), versions)
    on_trial = _slot(slots.get("trial"), versions)
    return FirmwareStatus(
        running=version,
        is_proven=is_proven and running is not None,
        active=active,
        inactive=inactive,
        trial=None
        if on_trial is None
        else TrialReport(on_trial.slot, on_trial.version, _number(slots.get("tries_left"), 16) or 0),
        current=next((one for one in releases if one.version == version), None),
        wanted=find_current(releases),
        report=_report(section, shadow.reported_at) if section else None,
    )


def is_withdrawn(release: Release | None) -> bool:
    return release is not None and release.state is ReleaseState.WITHDRAWN


def _report(section: dict[str, Any], at: datetime | None) -> UpdateReport:
    return UpdateReport(
        state=_text(section.get("state")) or "unknown",
        version=_text(section.get("version")),
        progress=_number(section.get("progress"), 100),
        error=_text(section.get("error")) or "",
        at=at,
    )


def _slot(name: object, versions: dict[str, Any]) -> SlotReport | None:
    return SlotReport(name, _text(versions.get(name))) if isinstance(name, str) and name in _SLOTS else None


def _object(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: object) -> str | None:
    return value[:_MAX_TEXT_CHARS] if isinstance(value, str) and value else None


def _number(value: object, highest: int) -> int | None:
    return value if isinstance(value, int) and 0 <= value <= highest else None
