import base64
import json
import os
import unicodedata
from datetime import UTC, datetime

import msgspec
import nkeys
import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st

from fleetward.base.errors import InvalidInputError, KeyUnavailableError, TooLargeError
from fleetward.outside.nats.server_log import (
    LogKeeper,
    PublishCut,
    TlsRefused,
    TopicRefused,
    may_tell_refusal,
    parse_log_line,
)
from fleetward.outside.nats.sessions import Ended, LiveSession, parse_advisory
from fleetward.wire import command, nats_jwt, shadow, telemetry
from fleetward.wire.mqtt_topics import Topic, TopicKind, mqtt_topic, parse_mqtt_topic, parse_subject

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)


def _json(text: st.SearchStrategy[str]) -> st.SearchStrategy[object]:
    return st.recursive(
        st.none() | st.booleans() | st.integers(-(2**53), 2**53) | text,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4),
        max_leaves=20,
    )


JSON = _json(st.text(max_size=20))
KEEPABLE = _json(st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20))
JUNK = st.binary(max_size=200) | JSON.map(lambda value: json.dumps(value).encode())


@pytest.mark.parametrize(
    ("text", "topic"),
    [
        ("d/cam-1/t/temp", Topic("cam-1", TopicKind.TELEMETRY, "temp")),
        ("d/cam-1/log", Topic("cam-1", TopicKind.LOG)),
        ("d/cam-1/metrics", Topic("cam-1", TopicKind.METRICS)),
        ("d/cam-1/shadow/reported", Topic("cam-1", TopicKind.SHADOW_REPORTED)),
        ("d/cam-1/shadow/desired", Topic("cam-1", TopicKind.SHADOW_DESIRED)),
        ("d/cam-1/cmd/12", Topic("cam-1", TopicKind.COMMAND, "12")),
        ("d/cam-1/cmd/12/result", Topic("cam-1", TopicKind.COMMAND_RESULT, "12")),
    ],
)
def test_every_topic_reads_back_in_both_writings(text: str, topic: Topic) -> None:
    assert parse_mqtt_topic(text) == topic
    assert topic.mqtt == text
    assert parse_subject(topic.subject) == topic


@pytest.mark.parametrize(
    "text",
    ["", "d", "d/cam-1", "d/cam-1/t", "d/cam-1/t/a/b", "d/cam 1/log", "x/cam-1/log", "d/cam-1/cmd/one",
     "d/cam-1/cmd/1/2", "d//log", "d/cam-1/t/" + "a" * 300],
)  # fmt: skip
def test_what_is_no_topic_of_a_device_is_refused(text: str) -> None:
    with pytest.raises(InvalidInputError):
        parse_mqtt_topic(text)


@given(st.text(max_size=80))
def test_junk_topics_raise_nothing_else(text: str) -> None:
    for parse in (parse_subject, parse_mqtt_topic):
        try:
            parse(text)
        except InvalidInputError:
            continue


@given(JUNK)
def test_junk_payloads_raise_nothing_else(payload: bytes) -> None:
    for parse in (
        lambda content: telemetry.parse_reading(content, what="t"),
        telemetry.parse_record,
        command.parse_command,
        command.parse_result,
        shadow.parse_desired,
        shadow.parse_reported,
        nats_jwt.parse_authorization_request,
        lambda content: nats_jwt.parse_authorization_request(
            b"h." + base64.urlsafe_b64encode(content).rstrip(b"=") + b".s"
        ),
        parse_advisory,
    ):
        try:
            parse(payload)
        except InvalidInputError:
            continue


@given(KEEPABLE)
def test_a_reading_keeps_its_value_through_the_envelope(value: object) -> None:
    payload = telemetry.render_reading(value, message_id="m1", at=NOW)
    reading = telemetry.parse_reading(payload, what="t")
    assert (reading.value, reading.id, reading.at) == (value, "m1", NOW)


def test_plain_text_is_a_reading_and_broken_json_is_not() -> None:
    assert telemetry.parse_reading(b"hello", what="t").value == "hello"
    for broken in (b'{"a":', b"[1,", b"\xff\xfe", b"a\x00b"):
        with pytest.raises(InvalidInputError):
            telemetry.parse_reading(broken, what="t")


def test_a_json_bomb_is_refused_by_size_or_depth() -> None:
    with pytest.raises(TooLargeError):
        telemetry.parse_reading(b"1" * 70_000, what="t")
    for depth in (20, 5_000, 30_000):
        with pytest.raises(InvalidInputError):
            telemetry.parse_reading(b"[" * depth + b"]" * depth, what="t")


def test_a_command_with_a_name_of_another_form_is_refused() -> None:
    payload = msgspec.json.encode(
        {"id": 1, "name": "rm -rf", "args": {}, "expires_at": "2026-06-01T12:00:00Z"}
    )
    with pytest.raises(InvalidInputError, match="command name"):
        command.parse_command(payload)


def test_an_oversized_result_is_sent_as_an_error() -> None:
    result = command.parse_result(command.render_result(command.CommandResult(ok=True, output="x" * 40_000)))
    assert not result.ok


def test_the_delta_is_what_is_desired_and_not_reported() -> None:
    desired = {"a": 1, "b": {"c": 2, "d": 3}, "e": [1], "f": None}
    reported = {"a": 1, "b": {"c": 2, "d": 4}, "e": [2], "g": 0}
    assert shadow.shadow_delta(desired, reported) == {"b": {"d": 3}, "e": [1], "f": None}
    assert shadow.shadow_delta(desired, desired) == {}


def test_an_answer_is_signed_by_the_account() -> None:
    seed = nkeys.encode_seed(os.urandom(32), nkeys.PREFIX_BYTE_ACCOUNT).decode()
    signer = nats_jwt.AccountSigner(seed)
    assert signer.issuer == nkeys.from_seed(seed.encode()).public_key.decode()
    request = nats_jwt.AuthorizationRequest("NSERVER", "UUSER", 1, "mqtt", "127.0.0.1", "cam-1", ())
    answer = nats_jwt.render_refusal(signer, request, code="device_unknown", issued_at_s=5)
    head, body, signature = answer.split(b".")
    key = Ed25519PublicKey.from_public_bytes(base64.b32decode(signer.issuer)[1:33])
    key.verify(base64.urlsafe_b64decode(signature + b"=="), head + b"." + body)
    with pytest.raises(InvalidSignature):
        key.verify(base64.urlsafe_b64decode(signature + b"=="), head + b"." + body + b"x")


@pytest.mark.parametrize("seed", ["", "SUAAA", "nonsense!", "SA" + "A" * 56])
def test_a_damaged_or_foreign_seed_is_refused(seed: str) -> None:
    with pytest.raises(KeyUnavailableError):
        nats_jwt.AccountSigner(seed)


_PREFIX = "[7] 2026/11/23 17:39:46.224707 "


@pytest.mark.parametrize(
    ("line", "found"),
    [
        (
            '[ERR] 127.0.0.1:33668 - mid:28 - "cam-1" - Publish Violation - Subject "d.cam-2.t.x"',
            TopicRefused("cam-1", "127.0.0.1", is_publish=True, subject="d.cam-2.t.x"),
        ),
        (
            '[ERR] [::1]:1 - mid:50 - "cam-1" - character not supported for MQTT topics',
            PublishCut("cam-1", "[::1]", "a topic with a space or another character that no topic has"),
        ),
        (
            '[ERR] 127.0.0.1:1 - mid:67 - "cam-1" - wildcards not allowed in publish\'s topic: "d/cam-1/t/#"',
            PublishCut("cam-1", "127.0.0.1", "a topic with a wildcard"),
        ),
        (
            '[ERR] 127.0.0.1:1 - mid:50 - "cam-1" - maximum payload exceeded: 131098 vs 131072',
            PublishCut("cam-1", "127.0.0.1", "a message of more than 131072 bytes"),
        ),
        (
            '[ERR] 127.0.0.1:1 - mid:37 - "cam-1" - Subscription Violation - Subject "d.cam-2.cmd.*", SID d',
            TopicRefused("cam-1", "127.0.0.1", is_publish=False, subject="d.cam-2.cmd.*"),
        ),
        (
            (
                "[ERR] 127.0.0.1:33680 - mid:30 - TLS handshake error: tls: failed to verify certificate: "
                "x509: certificate has expired or is not yet valid: current time 2026-11-23T17:39:46Z is "
                f"after 2026-11-23T17:38:45Z (CN=old SHA-256: {'e9' * 32}; CN=A CA,O=x SHA-256: {'22' * 32})"
            ),
            TlsRefused("127.0.0.1", 33680, "certificate_expired", "old"),
        ),
        (
            (
                "[ERR] [::1]:33696 - mid:31 - TLS handshake error: tls: failed to verify certificate: "
                f"x509: certificate signed by unknown authority (CN=cam-1 SHA-256: {'34' * 32})"
            ),
            TlsRefused("[::1]", 33696, "unknown_authority", "cam-1"),
        ),
        (
            (
                "[ERR] 127.0.0.1:3 - mid:32 - TLS handshake error: tls: client offered only unsupported "
                "versions: [302 301]"
            ),
            TlsRefused("127.0.0.1", 3, "legacy_tls", None),
        ),
        (
            (
                "[DBG] 127.0.0.1:4 - mid:25 - TLS handshake error: tls: first record does not look like a "
                "TLS handshake"
            ),
            TlsRefused("127.0.0.1", 4, "plaintext", None),
        ),
        ("[DBG] 127.0.0.1:4 - mid:25 - TLS handshake error: EOF", None),
        ("[INF] Server is ready", None),
    ],
)
def test_refusals_are_found_in_the_brokers_log(line: str, found: object) -> None:
    assert parse_log_line(_PREFIX + line) == found
    assert found is None or may_tell_refusal(_PREFIX + line)


@pytest.mark.parametrize(
    ("subject", "topic"),
    [
        ("d.cam-1.t.x", "d/cam-1/t/x"),
        ("d.cam-1.t.a//b", "d/cam-1/t/a.b"),
        ("d.cam-1.t./.x", "d/cam-1/t//x"),
        ("/.d", "/d"),
        ("d./", "d/"),
    ],
)
def test_a_refused_subject_is_told_as_the_client_wrote_it(subject: str, topic: str) -> None:
    assert mqtt_topic(subject) == topic


@given(st.binary(max_size=300))
def test_the_brokers_log_gives_no_orders_to_a_terminal(
    tmp_path_factory: pytest.TempPathFactory, line: bytes
) -> None:
    told: list[str] = []
    path = tmp_path_factory.mktemp("log") / "nats.log"
    keeper = LogKeeper(path, told.append)
    for one in (line, b'[ERR] "a\x1b[31m\xc2\x9b" \t'):
        keeper.keep(one)
    keeper.close()
    text = path.read_bytes().decode(errors="replace")
    assert not [one for one in text if unicodedata.category(one) == "Cc" and one not in "\t\n"]
    assert told[-1] == '[ERR] "a\\x1b[31m\\xc2\\x9b" \t'


@given(st.text(max_size=300))
def test_any_log_line_is_read_without_an_error(line: str) -> None:
    parse_log_line(line)
    parse_log_line(_PREFIX + "[ERR] 1.2.3.4:5 - mid:6 - TLS handshake error: " + line)


def test_an_advisory_of_a_device_names_it_with_its_certificate() -> None:
    client = {"start": "2026-11-23T17:39:46.150633877Z", "host": "10.0.0.9", "id": 8, "client_id": "cam-1",
              "client_type": "mqtt"}  # fmt: skip
    begun = parse_advisory(json.dumps({"server": {"id": "N1"}, "client": client}).encode())
    assert isinstance(begun, LiveSession)
    assert (begun.device, begun.key) == ("cam-1", "N1:8")
    client["stop"] = "2026-11-23T17:39:47Z"
    ended = parse_advisory(
        json.dumps({"server": {"id": "N1"}, "client": client, "reason": "Kicked"}).encode()
    )
    assert isinstance(ended, Ended)
    assert (ended.session, ended.reason) == (begun, "Kicked")
    client["client_type"] = "nats"
    assert parse_advisory(json.dumps({"server": {"id": "N1"}, "client": client}).encode()) is None
