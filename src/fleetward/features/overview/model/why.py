"""Why a device is denied, offline, not updating or without video: answered from facts alone."""

from collections.abc import Callable
from dataclasses import replace

from fleetward.base.clock import say_time
from fleetward.features.attestation.model import ReasonCode
from fleetward.features.devices.model import AttestationPolicy, DeviceState
from fleetward.features.messaging.model import Refusal, RefusalCode
from fleetward.features.overview.model.situation import Answer, Fact, Question, Situation
from fleetward.features.overview.model.why_update import explain_update

_REFUSED_FIX = {
    "client_id_mismatch": "Set the MQTT client id to the device's own id. If the device does, somebody else "
    "uses its certificate: revoke it.",
    "certificate_unknown": "It shows a certificate we do not remember: enroll it anew with a fresh claim.",
    "unknown_authority": "It shows a certificate of another authority: enroll it here with a fresh claim.",
}


def explain(situation: Situation) -> list[Answer]:
    """Return the answers that a device's page gives: its session, its updates, its video."""
    session = _explain_session(situation)
    answers = [session]
    if not situation.device.has_ended:
        answers += [explain_update(situation), _explain_video(situation, session)]
    return answers


def _explain_session(s: Situation) -> Answer:
    """A closed gate is the answer, as the broker would decide it; else what is known of its connection."""
    refusal = _leading(s)
    if refusal is not None:
        return _closed(s, refusal)
    if s.is_connected:
        return _connected(s)
    if s.is_refused_since_last_seen and s.refused is not None:
        return _turned_away(s)
    return _offline(s)


def _leading(s: Situation) -> Refusal | None:
    """Return the closed gate that people want to hear of: its life before what follows from that."""
    closed = {asked.gate.name: asked.refusal for asked in s.gates if asked.refusal is not None}
    life = closed.pop("life", None)
    if life is not None and s.device.state is not DeviceState.ENROLLED:
        return life
    return next(iter(closed.values()), life)


def _closed(s: Situation, refusal: Refusal) -> Answer:
    """Say what a gate found, with what more is known of the cause."""
    say = _MORE.get(refusal.code)
    code, said, fix, command = "", "", "", ""
    if say is not None:
        code, said, fix, command = say(s)
    return _denied(
        s, code or refusal.code, said or refusal.finding, fix or refusal.fix, command or refusal.command
    )


_Told = tuple[str, str, str, str]  # code, answer, fix and command; "" where the gate's own says it


def _say_life(s: Situation) -> _Told:
    since = f"{say_time(s.device.state_changed_at)}: {s.device.state_reason}."
    if s.device.has_ended:
        return "", f"It was {s.device.state} at {since}", "", ""
    if s.device.state is DeviceState.REGISTERED:
        return "never_enrolled", "It has never enrolled: no certificate was issued to it.", "", ""
    if s.device.state is DeviceState.QUARANTINED:
        return "quarantined", f"It is quarantined since {since}", "", ""
    return "", "It is attested, and becomes active in a moment.", "Wait a second and look again.", ""


def _say_expired(s: Situation) -> _Told:
    newest = next(iter(s.certificates), None)
    if newest is None:
        said = "It has no certificate that we remember: its last one expired more than 90 days ago."
        return "", said, "Recover it with a fresh claim.", ""
    return (
        "",
        f"Its certificate expired at {say_time(newest.not_after)} and it did not renew in time.",
        "",
        "",
    )


def _say_revoked(s: Situation) -> _Told:
    newest = next((one for one in s.certificates if one.revoked_at is not None), None)
    if newest is None or newest.revoked_at is None:
        return "", "", "", ""
    return "", f"Its certificate was revoked at {say_time(newest.revoked_at)}.", "", ""


def _say_missing(_s: Situation) -> _Told:
    return "", "It has a certificate and has not been attested yet.", "", ""


def _say_failed(s: Situation) -> _Told:
    if s.appraisal is None:
        return "", "", "", ""
    reasons = " ".join(one.message for one in s.appraisal.reasons) or "no reason was recorded."
    return "", f"It failed attestation at {say_time(s.appraisal.at)}: {reasons}", _fix_appraisal(s), ""


def _say_stale(s: Situation) -> _Told:
    if s.appraisal is None:
        return "", "", "", ""
    ended = say_time(s.appraisal.expires_at)
    said = f"Its last good attestation ran out at {ended}, and it has not handed in evidence since."
    return "", said, "", ""


_MORE: dict[RefusalCode, Callable[[Situation], _Told]] = {
    RefusalCode.DEVICE_NOT_ACTIVE: _say_life,
    RefusalCode.CERTIFICATE_EXPIRED: _say_expired,
    RefusalCode.CERTIFICATE_REVOKED: _say_revoked,
    RefusalCode.APPRAISAL_MISSING: _say_missing,
    RefusalCode.APPRAISAL_FAILED: _say_failed,
    RefusalCode.APPRAISAL_EXPIRED: _say_stale,
}


def _fix_appraisal(s: Situation) -> str:
    codes = {reason.code for reason in s.appraisal.reasons} if s.appraisal else set()
    if ReasonCode.NO_ATTESTATION_KEY in codes:
        return "Its model asks for a TPM and the device showed none: enroll it with its chip."
    if ReasonCode.NO_REFERENCES in codes:
        return f"Publish the firmware that devices of {s.device.model} run: fleetward release publish."
    if any(code.startswith("withdrawn_") for code in codes):
        return "Publish a newer release: it updates itself without a session, and then attests well."
    if any(code.startswith("unknown_firmware") for code in codes):
        return "It runs firmware we did not sign off: quarantine it and find out how that came there."
    return "Look at the reasons; docs/explanation/attestation.md says for each what to do."


def _connected(s: Situation) -> Answer:
    since = s.presence.since if s.presence else ""
    said = f"It has a verified session since {since[:19].replace('T', ' ')} UTC."
    return Answer(Question.CONNECTED, "connected", said, session_facts(s), good=True)


def _turned_away(s: Situation) -> Answer:
    assert s.refused is not None  # noqa: S101 - asked before
    reason = s.refused.reason or s.refused.kind
    said = f"It tried to connect at {say_time(s.refused.at)} and was refused: {s.refused.message}"
    fix = _REFUSED_FIX.get(reason, "By all rules it may connect now: let it try again, and look at its log.")
    return _denied(s, reason, said, fix, f"fleetward events --device {s.device.id}")


def _offline(s: Situation) -> Answer:
    look = f"fleetward events --device {s.device.id} --follow"
    if s.presence is None:
        said = "It may connect, and never has."
        fix = "See that its agent runs and reaches the MQTT port: fleetward agent status, on the device."
    else:
        since, reason = s.presence.since[:19].replace("T", " "), s.presence.reason or "no reason is known"
        said = f"It may connect, and has not since {since} UTC. Its last session ended: {reason}."
        fix = "See that it has power and network; it comes back by itself."
    return Answer(Question.OFFLINE, "offline", said, session_facts(s), fix, look, good=False)


def _explain_video(s: Situation, session: Answer) -> Answer:
    if session.question is Question.CONNECTED:
        said = (
            "A live view can be opened: it has a verified session. A camera that sends nothing shows nothing."
        )
        look = f"fleetward device view {s.device.id}"
        return Answer(Question.NO_VIDEO, "available", said, session.facts, "", look, good=True)
    said = f"Video comes only over a verified session, and there is none. {session.answer}"
    return replace(session, question=Question.NO_VIDEO, answer=said)


def _denied(s: Situation, code: str, said: str, fix: str, command: str) -> Answer:
    return Answer(Question.DENIED, str(code), said, session_facts(s), fix, command, good=False)


def session_facts(s: Situation) -> tuple[Fact, ...]:
    """Return what decides on a session, in the order it is decided."""
    life = f"{s.device.state} since {say_time(s.device.state_changed_at)}: {s.device.state_reason}"
    found = [
        Fact("life", life, good=s.is_open("life")),
        _certificate_fact(s),
        _appraisal_fact(s),
        *(
            Fact("hold", f"{one.name} since {say_time(one.since)}: {one.reason}", good=False)
            for one in s.holds
        ),
        _presence_fact(s),
    ]
    if s.refused is not None:
        said = f"{say_time(s.refused.at)}: {s.refused.message}"
        found.append(Fact("last refusal", said, good=not s.is_refused_since_last_seen or s.is_connected))
    return tuple(found)


def _certificate_fact(s: Situation) -> Fact:
    if s.is_open("certificate") and s.is_open("issued"):
        live = next(one for one in s.certificates if one.is_live(s.now))
        return Fact("certificate", f"valid until {say_time(live.not_after)}", good=True)
    newest = next(iter(s.certificates), None)
    if newest is None:
        return Fact("certificate", "none", good=False)
    if newest.revoked_at is not None:
        code = newest.revocation_reason.value.replace("_", " ") if newest.revocation_reason else "unspecified"
        why = f"{code}: {newest.revocation_note}" if newest.revocation_note else code
        return Fact("certificate", f"revoked at {say_time(newest.revoked_at)} ({why})", good=False)
    return Fact("certificate", f"expired at {say_time(newest.not_after)}", good=False)


def _appraisal_fact(s: Situation) -> Fact:
    if s.model.attestation is AttestationPolicy.NONE:
        return Fact("attestation", "not asked for by its model", good=True)
    if s.appraisal is None:
        return Fact("attestation", "none yet", good=False)
    if not s.appraisal.good:
        codes = ", ".join(one.code.value for one in s.appraisal.reasons)
        return Fact("attestation", f"failed at {say_time(s.appraisal.at)}: {codes}", good=False)
    is_fresh = s.is_open("appraisal")
    word = "good until" if is_fresh else "ran out at"
    return Fact("attestation", f"{word} {say_time(s.appraisal.expires_at)}", good=is_fresh)


def _presence_fact(s: Situation) -> Fact:
    if s.presence is None:
        return Fact("session", "never had one", good=False)
    since = s.presence.since[:19].replace("T", " ")
    if s.presence.is_connected:
        address = s.presence.address or "an unknown address"
        return Fact("session", f"since {since} UTC from {address}", good=True)
    return Fact("session", f"none since {since} UTC: {s.presence.reason or 'reason unknown'}", good=False)
