"""What the pages say of limits, times and defaults is what the code has: sentences rendered from it."""

import json
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest

from fleetward.base import agent_config, sse, web
from fleetward.base.config import Nats, Ports, ServerConfig
from fleetward.base.limiting.failures import FailureLimit
from fleetward.base.limiting.repeats import Repeats
from fleetward.features.access.model import breakglass, identity, passwords, reviews, sign_in_limits, tokens
from fleetward.features.access.service import factors, identifying, oidc, passkeys, signing_up
from fleetward.features.access.settings import Access, Oidc
from fleetward.features.attestation import store as attestation
from fleetward.features.attestation.model import appraisal, chip
from fleetward.features.attestation.service import appraising
from fleetward.features.audit.door import feature as audit_door
from fleetward.features.devices.model import DEFAULT_CERT_LIFETIME
from fleetward.features.enrollment import model as enrollment
from fleetward.features.enrollment.device.state import RENEWAL_SHARE
from fleetward.features.events.settings import Events
from fleetward.features.media.model import TICKET_LIFETIME
from fleetward.features.media.settings import Media
from fleetward.features.messaging.intake import flood
from fleetward.features.messaging.intake.flood import Patience
from fleetward.features.messaging.intake.limit import Budgets
from fleetward.features.messaging.model import commands
from fleetward.features.messaging.service.floods import FLOOD_PAUSE
from fleetward.features.pki import model as pki
from fleetward.features.pki.authority import profiles
from fleetward.features.pki.service import revocation
from fleetward.features.updates import model as updates
from fleetward.features.updates.boot.pointer import TRIES
from fleetward.features.updates.context import DEFAULT_MAX_IMAGE_BYTES
from fleetward.features.updates.device import machine
from fleetward.features.updates.device.settings import Firmware
from fleetward.features.updates.repository import ceremony
from fleetward.outside.nats import callout, presence, streams, worker
from fleetward.outside.nats import config as nats
from fleetward.outside.nats.half_received import MAX_HALF_RECEIVED
from fleetward.outside.tuf import download
from fleetward.programs.agent import edge, session, supervise
from fleetward.programs.agent import identity as agent_identity
from fleetward.programs.server import cluster, front, initialise, listeners, tls
from fleetward.programs.server.doors import SETTINGS
from fleetward.programs.simulator.attacks.catalogue import ATTACKS
from fleetward.programs.simulator.fleet.device import MAX_HELD
from fleetward.programs.simulator.fleet.faults import Fault
from fleetward.programs.simulator.fleet.profiles import PROFILES
from fleetward.wire import bounded_json, enroll, est, shadow, shipment, signed_time, telemetry
from fleetward.wire.command import MAX_COMMAND_BYTES, MAX_RESULT_BYTES

DOCS = Path(__file__).parents[2] / "docs"
_WORDS = {
    1: "one",
    2: "two",
    3: "three",
    4: "four",
    5: "five",
    10: "ten",
    11: "eleven",
    12: "twelve",
    50: "fifty",
}


def _s(time: timedelta) -> str:
    return f"{time.total_seconds():.0f}"


def _min(time: timedelta) -> str:
    return f"{time / timedelta(minutes=1):g}"


def _h(time: timedelta) -> str:
    return f"{time / timedelta(hours=1):g}"


def _d(time: timedelta) -> str:
    return f"{time.days}"


def _years(time: timedelta) -> str:
    return f"{time.days / 365:g}"


def _word(number: float) -> str:
    return _WORDS[int(number)]


def _kib(size: int) -> str:
    return f"{size / 1024:g} KiB"


def _mib(size: float) -> str:
    return f"{size / 1024**2:g} MiB"


_checkpoint = next(one for one in audit_door.timers if one.name == "audit-checkpoint")
_default = Budgets()
_refusals_apart_s = Repeats()._interval_s
_failures = FailureLimit("x")

CLAIMS: dict[str, list[str]] = {
    "reference/topics.md": [
        f"| `d/<id>/t/<stream>` | up | telemetry of one stream | {_kib(telemetry.MAX_READING_BYTES)} |",
        (f"| `d/<id>/shadow/desired` | down | what the device should be | {_kib(shadow.MAX_SHADOW_BYTES)}, "
        f"{shadow.MAX_SHADOW_DEPTH} levels |"),
        f"| `d/<id>/cmd/<n>/result` | up | result of command *n* | {_kib(MAX_RESULT_BYTES)} |",
        f"| `d/<id>/cmd/<n>` | down | command *n* | {_kib(MAX_COMMAND_BYTES)} |",
        f"holds at most {nats.MAX_SUBSCRIPTIONS:,} subscriptions",
        f"one over {_kib(nats.MAX_PAYLOAD_BYTES)} ends the connection",
        (f"of which more than {Patience().messages} messages or {_mib(Patience().bytes)} have\n"
        f"to be refused within {flood.WINDOW_S:.0f} seconds, for whatever reason"),
        f"held back for {_min(FLOOD_PAUSE)} minutes (`device.flooding`",
        f"begins more than {MAX_HALF_RECEIVED} messages of QoS 2",
        f"at most {bounded_json.MAX_DEPTH} levels deep and {bounded_json.MAX_VALUES:,} values",
        f"within {_word(streams._DUPLICATE_WINDOW_S / 60)} minutes is kept once",
        (f"{_default.messages.burst:,} messages and {_mib(_default.bytes.burst)} at once, "
        f"{_default.messages.per_s:g} messages and {_mib(_default.bytes.per_s)} a second"),
        f"{_default.told.burst:g} at once and {_default.told.per_s * 60:g} a minute",
        f"after {_s(commands._FIRST_RESEND)}, 2, 4 … {_s(commands._LONGEST_RESEND)} seconds",
        f"flushes to disk every {nats.BrokerSettings.sync_interval_s} seconds",
    ],
    "reference/http.md": [
        f"| `head_too_large` | 431 | {_kib(front.FrontLimits.head_bytes)} for",
        f"of a chunked body, {_kib(front.FrontLimits.framing_bytes)} of extensions",
        f"and {front.FrontLimits.framing_per_chunk} bytes for each chunk",
        f"a body takes {front.FrontLimits.body_grace_s:g} seconds, and a second for",
        f"for each {front.FrontLimits.body_bytes_per_s:,} bytes that came",
        f"there within {front.REQUEST_TIMEOUT_S:g} seconds",
        f"message has {_kib(listeners._MAX_TICKET_BYTES)} on the operators' port",
        f"and {_mib(listeners._MAX_VIDEO_BYTES)} on the devices'",
        f"open files (less {listeners._FILES_BESIDES})",
        f"up to {listeners._MOST_FILES:,}, and warns",
        f"below {listeners._FEW_FILES:,}",
        f"given within {_word(identity.STEP_UP_LIFETIME.seconds / 60)} minutes, else 403 `step_up_required`",
        (f"Bodies are at most {_mib(web.DEFAULT_MAX_BODY_BYTES)}, a shipment manifest "
        f"{_mib(shipment.MAX_MANIFEST_BYTES)}, a release's image {DEFAULT_MAX_IMAGE_BYTES / 1024**3:g} GiB"),
        f"| `POST /api/v1/me/recovery-codes` | `me` | {_word(factors.RECOVERY_CODES)} new ones",
        f"let it act as you for {_word(tokens.CLI_LIFETIME.seconds / 3600)} hours",
        f"`expires_in` (at most `{_d(tokens.MAX_LIFETIME)}d`)",
        f"lend another the emergency rights for {_min(breakglass.LASTS)} minutes",
        f"its last {_word(appraising.KEPT_APPRAISALS)} verdicts, newest first",
        f"`url` opens it once, within {_s(TICKET_LIFETIME)} s",
        f"limited to {web.MAX_STREAMS} at once for each operator and process: 429",
        f"within {_word(_refusals_apart_s)} seconds are one event",
        f"it is kept for {streams.Retention.dead_letters_age_s / 86400:g} days",
        f"Every {_checkpoint.every_s:g} s in which something happened",
        f"at most every {_word(identifying._LOCAL_USE_EVERY_S / 60)} minutes",
    ],
    "reference/http-devices.md": [
        f"fails {_word(_failures._failures)} times a minute for one device gets 429",
        f"for client authentication alone, {_h(DEFAULT_CERT_LIFETIME)} h unless the model says otherwise",
        f"A request is a PKCS#10 of at most {est.MAX_CSR_BYTES // 1024} kB",
        f"bodies are at most {enroll.MAX_BODY_BYTES // 1024} kB",
        f"DER, leaf first, 1 to {enroll._MAX_CHAIN} |",
        f"good once, for {_word(chip.CHALLENGE_LIFETIME.seconds / 60)} minutes",
        f"with {signed_time.MIN_NONCE_CHARS} to {signed_time.MAX_NONCE_CHARS} characters",
        f"repeats within {_word(_refusals_apart_s)} seconds are one event",
        f"At most {_mib(shipment.MAX_MANIFEST_BYTES)} and {shipment.MAX_ROWS:,} rows",
    ],
    "reference/config.md": [
        f"| `trust_domain` | `{'fleet.local'}` |",
        f"| `listen` | `{ServerConfig('x').listen}` |",
        f"| `log_level` | `{ServerConfig('x').log_level}` |",
        f"| `nats.replicas` | {Nats().replicas} |",
        *(f"| `ports.{name}` | {getattr(Ports(), name)} |" for name in Ports.__struct_fields__),
    ],
    "reference/agent-config.md": [
        f"every {agent_identity._CLAIM_LOOK_S:g} s while one is wanted",
        f"| `keys.tcti` | `{agent_config.TpmKeys(Path()).tcti}` |",
        f"| `spool.max_bytes` | {agent_config.SpoolLimits().max_bytes} |",
        f"at least {agent_config.MIN_SPOOL_BYTES}",
        f"ends with {supervise.EXIT_REBOOT}, for the boot stage",
    ],
    "explanation/architecture.md": [
        f"after {edge.FIRST_PAUSE_S:g} s, 2 s, 4 s … {edge.LONGEST_PAUSE_S / 60:g} min it is made anew",
    ],
    "explanation/attestation.md": [
        f"The challenge lives {_word(chip.CHALLENGE_LIFETIME.seconds / 60)} minutes and opens once",
        (f"good once, for {_word(appraisal.NONCE_LIFETIME.seconds / 60)} minutes; of a device's open ones "
        f"the last {_word(attestation.MAX_OPEN)} are kept"),
        f"hand in evidence {_word(appraising._MAX_APPRAISALS_A_MINUTE)} times a minute",
        f"The last {_word(appraising.KEPT_APPRAISALS)} verdicts are kept",
        f"not over exactly PCRs {' and '.join(str(one) for one in appraisal.QUOTED_PCRS)} |",
    ],
    "explanation/audit.md": [
        f"every {_word(_checkpoint.every_s)} seconds, if it grew",
        f"critical, within {_word(_checkpoint.every_s)} seconds |",
    ],
    "explanation/identity.md": [
        f"P-256, {_years(profiles.ROOT_LIFETIME)} years, path length 1",
        f"P-256, {_years(profiles.ISSUING_LIFETIME)} years, path length 0, clientAuth only",
        f"P-256, {_h(DEFAULT_CERT_LIFETIME)} hours (per model), clientAuth",
        f"P-256, {_d(profiles.SERVER_LIFETIME)} days, serverAuth",
        f"P-256, {_years(profiles.TIME_LIFETIME)} year, timeStamping",
        f"from {_min(profiles.BACKDATE)} minutes ago",
        f"It parses whole, within {_kib(pki.MAX_CERTIFICATE_BYTES)}",
        (f"connects with none of it keeps {_word(pki.MAX_LIVE_CERTIFICATES)} live certificates: the oldest, "
        f"which it renews with, and the last {_word(pki.MAX_LIVE_CERTIFICATES - 1)}."),
        (f"valid {_h(revocation.CRL_LIFETIME)} hours, signed anew after "
        f"{_h(revocation.CRL_LIFETIME - revocation._CRL_RENEWED_BEFORE)}"),
        (f"valid {_min(revocation.OCSP_LIFETIME)} minutes. A nonce of up to "
        f"{revocation._MAX_NONCE_BYTES} bytes"),
    ],
    "explanation/session.md": [
        f"wait up to {callout.PATIENCE_S:g} s for the record to change",
        f"{_word(presence._TAKEOVERS_BEFORE_ALARM)} times in a minute",
        f"opens the view once, within {_s(TICKET_LIFETIME)} s",
        f"the last {nats.BrokerSettings.sync_interval_s} seconds on one machine",
    ],
    "explanation/updates.md": [
        f"metadata {_years(ceremony.ROOT_LIFETIME)} years",
        f"| TUF targets | `keys/` | {_d(updates.LIFETIMES['targets'])} days |",
        f"| `keys/` | {_d(updates.LIFETIMES['snapshot'])} days, {_d(updates.LIFETIMES['timestamp'])} day |",
        f"until {_word(updates.APPROVALS_NEEDED)} others than its author have approved it",
        f"and {_mib(download._RESERVE_BYTES)} to spare",
        f"after {machine._FIRST_PAUSE_S:g} s, doubling up to the polling interval",
        f"gives the new code {_word(TRIES)} tries to prove itself",
        f"asks for a reboot (exit code {supervise.EXIT_REBOOT})",
    ],
    "how-to/break-glass.md": [
        f"It lapses after {_min(breakglass.LAPSES_AFTER)} minutes without an answer",
        f"the emergency rights in all groups, for {_min(breakglass.LASTS)} minutes",
    ],
    "how-to/cluster.md": [
        f"process takes {tls.MAX_HANDSHAKES_PER_ADDRESS} handshakes at a time from one",
        f"before the {_d(cluster._LIFETIME)} days are over",
    ],
    "how-to/enroll-any-device.md": [
        f"once, good for {_word(enrollment.DEFAULT_CLAIM_LIFETIME.seconds / 3600).replace('one', 'an')} hour",
    ],
    "how-to/first-run.md": [
        f"within {_min(signing_up.SETUP_LIFETIME)} minutes",
        f"Put the {_word(factors.RECOVERY_CODES)} **recovery codes** on paper",
        f"acts as you for {_word(tokens.CLI_LIFETIME.seconds / 3600)} hours",
        f"for at most {_d(tokens.MAX_LIFETIME)} days",
        f"Fifteen characters, or fewer that are hard to guess (zxcvbn score {passwords.MIN_SCORE})",
        f"after {_min(sign_in_limits.ACCOUNT.longest)} minutes at most",
    ],
    "how-to/install.md": [f"choose one of {initialise.MIN_PASSPHRASE_CHARS} characters and more"],
    "how-to/reviews.md": [f"not used for {_d(reviews.UNUSED_AFTER)} days"],
    "how-to/roles.md": [
        f"ask for two factors given within {_word(identity.STEP_UP_LIFETIME.seconds / 60)} minutes",
        f"until {_word(updates.APPROVALS_NEEDED)} others than its author have approved it",
    ],
    "how-to/simulate-a-fleet.md": [
        f"keeps up to {MAX_HELD} messages",
        *(f"| `{fault}` |" for fault in Fault),
        *(f"| `{name}` |" for name in PROFILES),
        *(
            f"| {one.telemetry_s:g} s; {one.metrics_s / 60:g} min |" for one in PROFILES.values()
        ),
    ],
    "how-to/sso.md": [f"took over {_word(oidc.VISIT_LIFETIME.seconds / 60)} minutes"],
    "threat-model/README.md": [
        f"plays {_word(len(ATTACKS))} of these attacks",
        f"single-use ticket of {_s(TICKET_LIFETIME)} s",
        f"{enrollment.CLAIM_BITS} random bits; {_word(_failures._failures)} failures a minute for a device",
    ],
    "threat-model/access.md": [
        f"once, {_min(signing_up.SETUP_LIFETIME)} minutes, void once an operator exists",
        f"a challenge lives {_word(passkeys.CHALLENGE_LIFETIME.seconds / 60)} minutes and answers once",
        (f"from an account's fifth failure, and an address's {sign_in_limits.ADDRESS.free + 1}st, the "
        f"wait doubles up to {_min(sign_in_limits.ACCOUNT.longest)} minutes"),
        f"{_d(tokens.MAX_LIFETIME)} days at most",
        f"asks again every {_word(sse.READMIT_EVERY_S)} seconds",
        f"ends after {_min(breakglass.LASTS)} minutes",
    ],
    "tutorials/camera.md": ["back within half a minute of its release"],
}  # fmt: skip


@pytest.mark.parametrize("page", CLAIMS)
def test_what_a_page_says_of_limits_is_so(page: str) -> None:
    said = " ".join((DOCS / page).read_text().split())
    assert [claim for claim in CLAIMS[page] if " ".join(claim.split()) not in said] == []


def test_numbers_that_the_pages_write_as_words() -> None:
    """Whoever changes one of these finds the sentence that says it by the test above, or here."""
    assert passwords.MIN_LENGTH == 15, "how-to/first-run.md: fifteen characters"
    assert sign_in_limits.ACCOUNT.free == 4, "threat-model/access.md: from the fifth failure"
    assert session._LONGEST_PAUSE_S == 30, "tutorials/camera.md: back within half a minute"
    assert worker._REBUILD_EVERY_S == 3600, "explanation/session.md: hourly"
    assert RENEWAL_SHARE == 0.5, "reference/http-devices.md: at half of the lifetime"


def test_the_defaults_of_settings_are_those_of_the_code() -> None:
    kinds = {one.name: one.kind for one in SETTINGS}
    assert {Access, Oidc, Events, Media} <= set(kinds.values())
    _compare_defaults("reference/config.md", kinds)


def test_the_defaults_of_a_devices_settings_are_those_of_the_code() -> None:
    _compare_defaults("reference/agent-config.md", {"firmware": Firmware})


def _compare_defaults(page: str, sections: dict[str, type[msgspec.Struct]]) -> None:
    """Compare the table's second column with each setting whose default is a text, number or list."""
    text = (DOCS / page).read_text()
    for section, kind in sections.items():
        for field in msgspec.structs.fields(kind):
            default = field.default
            if default is msgspec.NODEFAULT or default in ("", ()):
                continue
            value = json.dumps(default) if isinstance(default, tuple) else default
            shown = value if isinstance(value, int) else f"`{value}`"
            assert f"| `{section}.{field.name}` | {shown} |" in text, f"{page}: {section}.{field.name}"
