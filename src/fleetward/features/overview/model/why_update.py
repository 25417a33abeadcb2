"""Why a device does not run the firmware it should."""

from fleetward.base.clock import say_time
from fleetward.features.overview.model.firmware import UNDER_WAY, is_withdrawn
from fleetward.features.overview.model.situation import Answer, Fact, Question, Situation, Told
from fleetward.features.updates.model import TROUBLES

TOLD = (*TROUBLES, "update.confirmed")
_FIX = {
    "update.refused": "The device does not trust what it was offered. See that its pinned keys and model are "
    "those of this platform, and that its clock is right.",
    "update.failed": "It tries again by itself. See that it has room and network.",
    "update.rolled_back": "The new firmware did not prove its health, and is not tried again. Publish "
    "a mended one under a new version.",
    "boot.refused": "A slot holds firmware that the boot stage does not start: a newer release replaces it.",
    "boot.degraded": "No slot holds firmware it may start; its agent runs alone and takes any newer release.",
}


def explain_update(s: Situation) -> Answer:
    """Return why it does not run what it should, or that it does."""
    status = s.firmware
    look = f"fleetward events --device {s.device.id}"
    if status.wanted is None:
        said = f"There is nothing to update to: no release is published for {s.device.model}."
        command = f"fleetward release list --model {s.device.model}"
        return _answer(s, "no_release", said, good=True, fix="Publish a release.", command=command)
    version = status.wanted.version
    if status.is_up_to_date:
        return _answer(s, "up_to_date", f"It runs {version}, as it should.", good=True)
    if status.is_ahead:
        said = (
            f"It runs {status.running}, which is later than {version}. Devices never go back to firmware "
            "with a lower security counter."
        )
        fix = "Publish the mended firmware under a new version." if is_withdrawn(status.current) else ""
        return _answer(s, "ahead", said, good=not is_withdrawn(status.current), fix=fix)
    if not s.has_live_certificate:
        said = f"It cannot fetch {version}: updates need a valid certificate, and it has none."
        return _answer(s, "no_certificate", said, fix="Mend that first.", command=look)
    return _in_between(s, version, look)


def _in_between(s: Situation, version: str, look: str) -> Answer:
    status, report = s.firmware, s.firmware.report
    trouble = _current_trouble(s)
    if report is not None and report.state in UNDER_WAY and (s.is_connected or report.state == "rebooting"):
        done = f" {report.progress} %" if report.progress is not None else ""
        said = f"It is on its way from {status.running or 'unknown'} to {version}: {report.state}{done}."
        return _answer(s, "under_way", said, good=True)
    if trouble is not None:
        said = f"At {say_time(trouble.at)} it said: {_said(trouble)}"
        code = trouble.kind.replace(".", "_")
        return _answer(s, code, said, fix=_FIX[trouble.kind], command=look)
    if report is not None and report.error:
        code = "blocked" if report.state == "blocked" else "update_failed"
        fix = "Mend what it names; it tries again by itself."
        return _answer(s, code, f"Its last attempt did not go on: {report.error}", fix=fix, command=look)
    if not s.is_connected:
        said = f"It runs {status.running or 'unknown firmware'} and is not connected, so it cannot tell more."
        return _answer(s, "offline", said, fix="Bring it online first.", command=look)
    if report is None:
        said = "It does not report firmware: its agent has no firmware section and does not update itself."
        return _answer(
            s, "not_managed", said, fix="Give its agent a [firmware] section: docs/reference/config.md."
        )
    said = f"It runs {status.running or 'unknown firmware'} and has not looked for {version} yet."
    ask = f"fleetward device command {s.device.id} update-now"
    return _answer(s, "not_looked_yet", said, fix="It looks by itself; or ask it to look now.", command=ask)


def _current_trouble(s: Situation) -> Told | None:
    """Return the last trouble, when nothing went well since and it is of the present release."""
    trouble, wanted = s.trouble, s.firmware.wanted
    if trouble is None or trouble.kind not in TROUBLES or wanted is None:
        return None
    published = wanted.published_at
    return None if published is not None and trouble.at < published else trouble


def _said(event: Told) -> str:
    return event.message.partition(" says: ")[2] or event.message


def _answer(
    s: Situation, code: str, said: str, *, good: bool = False, fix: str = "", command: str = ""
) -> Answer:
    return Answer(Question.NOT_UPDATING, code, said, _facts(s, is_good=good), fix, command, good=good)


def _facts(s: Situation, *, is_good: bool) -> tuple[Fact, ...]:
    status = s.firmware
    proof = "proven by its appraisal" if status.is_proven else "by its own word"
    running = "unknown" if status.running is None else f"{status.running}, {proof}"
    found = [Fact("runs", running, good=status.is_up_to_date or is_good)]
    if status.wanted is not None:
        at = status.wanted.published_at
        when = f", published {say_time(at)}" if at else ""
        found.append(Fact("should run", f"{status.wanted.version}{when}", good=True))
    if is_withdrawn(status.current) and status.current is not None:
        found.append(
            Fact("withdrawn", f"{status.current.version}: {status.current.withdrawn_reason}", good=False)
        )
    if status.report is not None:
        said = status.report.state + (f": {status.report.error}" if status.report.error else "")
        found.append(Fact("says", said, good=not status.report.error))
    if status.trial is not None:
        trial = status.trial
        tries = f"{trial.version or 'unknown'} in slot {trial.slot}, {trial.tries_left} tries left"
        found.append(Fact("on trial", tries, good=True))
    if s.trouble is not None:
        told = f"{say_time(s.trouble.at)}: {_said(s.trouble)}"
        found.append(Fact("last told", told, good=s.trouble.kind not in TROUBLES))
    return tuple(found)
