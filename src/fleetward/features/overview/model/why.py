"""Why a device is denied, offline, not updating or without video: answered from facts alone."""

from dataclasses import replace

from fleetward.features.attestation.model import ReasonCode
from fleetward.features.devices.model import AttestationPolicy, DeviceState
from fleetward.features.messaging.model import RefusalCode
from fleetward.features.overview.model.situation import Answer, Fact, Question, Situation, say_time
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
    """The first of these that holds is the answer, as the broker would decide it."""
    for explain_cause in (_ended, _never_enrolled, _quarantined, _without_certificate, _not_attested):
        answer = explain_cause(s)
        if answer is not None:
            return answer
    if s.is_connected:
        return _connected(s)
    if s.is_refused_since_last_seen and s.refused is not None:
        return _turned_away(s)
    return _offline(s)


def _ended(s: Situation) -> Answer | None:
    if not s.device.has_ended:
        return None
    said = f"It was {s.device.state} at {say_time(s.device.state_changed_at)}: {s.device.state_reason}."
    fix = "That is for good. The same hardware comes back only as a device of another id, with a new key."
    return _denied(
        s, RefusalCode.DEVICE_NOT_ACTIVE, said, fix, f"fleetward audit search --device {s.device.id}"
    )


def _never_enrolled(s: Situation) -> Answer | None:
    if s.device.state is not DeviceState.REGISTERED:
        return None
    said = "It has never enrolled: no certificate was issued to it."
    fix = "Give it a fresh claim, or let it enroll with the chip it was shipped with."
    return _denied(s, "never_enrolled", said, fix, f"fleetward device claim {s.device.id}")


def _quarantined(s: Situation) -> Answer | None:
    if s.device.state is not DeviceState.QUARANTINED:
        return None
    said = f"It is quarantined since {say_time(s.device.state_changed_at)}: {s.device.state_reason}."
    fix = "Look into the reason; then release it, or revoke it."
    return _denied(s, "quarantined", said, fix, f"fleetward device release {s.device.id}")


def _without_certificate(s: Situation) -> Answer | None:
    if s.has_live_certificate:
        return None
    claim = f"fleetward device claim {s.device.id}"
    newest = next(iter(s.certificates), None)
    if newest is None:
        said = "It has no certificate that we remember: its last one expired more than 90 days ago."
        return _denied(s, RefusalCode.CERTIFICATE_EXPIRED, said, "Recover it with a fresh claim.", claim)
    if newest.revoked_at is not None:
        said = f"Its certificate was revoked at {say_time(newest.revoked_at)}."
        return _denied(s, RefusalCode.CERTIFICATE_REVOKED, said, "Recover it with a fresh claim.", claim)
    said = f"Its certificate expired at {say_time(newest.not_after)} and it did not renew in time."
    fix = "It recovers by itself where its model allows that; else give it a fresh claim."
    return _denied(s, RefusalCode.CERTIFICATE_EXPIRED, said, fix, claim)


def _not_attested(s: Situation) -> Answer | None:
    if s.model.attestation is AttestationPolicy.NONE:
        return None
    look = f"fleetward events --device {s.device.id}"
    if s.appraisal is None:
        said = "It has a certificate and has not been attested yet."
        fix = "Its agent attests by itself once it reaches us: see that it runs, and that it has a TPM."
        return _denied(s, RefusalCode.APPRAISAL_MISSING, said, fix, look)
    if not s.appraisal.good:
        reasons = " ".join(one.message for one in s.appraisal.reasons) or "no reason was recorded."
        said = f"It failed attestation at {say_time(s.appraisal.at)}: {reasons}"
        return _denied(s, RefusalCode.APPRAISAL_FAILED, said, _fix_appraisal(s), look)
    if s.appraisal.expires_at <= s.now:
        said = (
            f"Its last good attestation ran out at {say_time(s.appraisal.expires_at)}, "
            "and it has not handed in evidence since."
        )
        fix = "See that it has power and network: its agent attests before the time is over."
        return _denied(s, RefusalCode.APPRAISAL_EXPIRED, said, fix, look)
    if s.device.state is DeviceState.ENROLLED:
        said = "It is attested, and becomes active in a moment."
        return _denied(s, RefusalCode.DEVICE_NOT_ACTIVE, said, "Wait a second and look again.", look)
    return None


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
        Fact("life", life, good=s.device.state is DeviceState.ACTIVE),
        _certificate_fact(s),
        _appraisal_fact(s),
        _presence_fact(s),
    ]
    if s.refused is not None:
        said = f"{say_time(s.refused.at)}: {s.refused.message}"
        found.append(Fact("last refusal", said, good=not s.is_refused_since_last_seen or s.is_connected))
    return tuple(found)


def _certificate_fact(s: Situation) -> Fact:
    live = next((one for one in s.certificates if one.is_live(s.now)), None)
    if live is not None:
        return Fact("certificate", f"valid until {say_time(live.not_after)}", good=True)
    newest = next(iter(s.certificates), None)
    if newest is None:
        return Fact("certificate", "none", good=False)
    if newest.revoked_at is not None:
        why = newest.revocation_reason.value.replace("_", " ") if newest.revocation_reason else "unspecified"
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
    is_fresh = s.now < s.appraisal.expires_at
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
