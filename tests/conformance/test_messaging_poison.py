"""One device sends what nobody should: its neighbours' acknowledged messages are kept all the same."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.broker import Rig, wait_for
from support.postgres import database_url
from support.raw_mqtt import HungUpError, RawDevice

_READINGS = 100
_DEEP = b"[" * 5_000 + b"]" * 5_000
_UNPAIRED = b'"\\ud800"'
_NUL = b'"a\\u0000b"'
_HUGE = b"9" * 300

# What one enrolled device may publish, all of it acknowledged by the broker: (levels under d/<id>/, payload).
POISON = {
    "event-is-a-list": (b"log", b'{"event": []}'),
    "event-is-an-object": (b"log", b'{"event": {}}'),
    "severity-is-a-list": (b"log", b'{"event": "boot.refused", "severity": []}'),
    "severity-is-a-number": (b"log", b'{"event": "boot.refused", "severity": 1}'),
    "nul-in-a-log-message": (b"log", b'{"event": "boot.refused", "message": ' + _NUL + b"}"),
    "nul-in-a-log-detail": (b"log", b'{"event": "boot.refused", "slot": ' + _NUL + b"}"),
    "nul-in-a-log-name": (b"log", b'{"event": "boot.refused", ' + _NUL + b": 1}"),
    "surrogate-in-a-log": (b"log", b'{"event": "boot.refused", "message": ' + _UNPAIRED + b"}"),
    "nul-in-an-id": (b"log", b'{"id": ' + _NUL + b', "value": {"event": "boot.refused"}}'),
    "time-before-the-first-year": (b"t/x", b'{"id": "a", "at": "0001-01-01T00:00:00+23:59", "value": 1}'),
    "time-after-the-last-year": (b"t/x", b'{"id": "b", "at": "9999-12-31T23:59:59-23:59", "value": 1}'),
    "nul-in-an-error": (b"cmd/{command}/result", b'{"ok": false, "error": ' + _NUL + b"}"),
    "surrogate-in-an-error": (b"cmd/{command}/result", b'{"ok": false, "error": ' + _UNPAIRED + b"}"),
    "nan-in-an-output": (b"cmd/{command}/result", b'{"ok": true, "output": NaN}'),
    "huge-output": (b"cmd/{command}/result", b'{"ok": true, "output": ' + _HUGE + b"}"),
    "deep-output": (b"cmd/{command}/result", b'{"ok": true, "output": ' + _DEEP + b"}"),
    "command-beyond-count": (b"cmd/999999999999999999/result", b'{"ok": true}'),
    "nul-in-a-version": (
        b"shadow/reported",
        b'{"version": 1, "state": {"firmware": {"version": ' + _NUL + b"}}}",
    ),
    "surrogate-in-a-version": (
        b"shadow/reported",
        b'{"version": 2, "state": {"firmware": {"version": ' + _UNPAIRED + b"}}}",
    ),
    "nul-in-a-shadow": (b"shadow/reported", b'{"version": 3, "state": {"a": ' + _NUL + b"}}"),
    "huge-version": (b"shadow/reported", b'{"version": ' + _HUGE + b', "state": {}}'),
    "huge-number-in-a-shadow": (b"shadow/reported", b'{"version": 4, "state": {"a": ' + _HUGE + b"}}"),
    "huge-number": (b"t/x", _HUGE),
    "infinite-number": (b"t/x", b'{"a": 1e999}'),
    "nan": (b"t/x", b'{"a": NaN}'),
    "deep": (b"t/x", _DEEP),
    "vertical-tab-in-a-topic": (b"t/a\x0bb", b"1"),
    "long-topic": (b"t/" + b"x" * 60_000, b"1"),
}


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def rig(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    folder: Path = tmp_path_factory.mktemp("rig")
    with database_url(request) as url:
        rig = Rig(folder, url)
        rig.start()
        yield rig
        rig.close()


@pytest.mark.parametrize("qos", [1, 0])
@pytest.mark.parametrize("name", POISON)
def test_poison_of_one_device_stops_no_other(rig: Rig, name: str, qos: int) -> None:
    levels, payload = POISON[name]
    bad, good = rig.enroll(f"bad-{name}-{qos}"), rig.enroll(f"good-{name}-{qos}")
    number = rig.command(bad.device, "ping")
    readings = [str(number).encode() for number in range(_READINGS)]
    with RawDevice(rig, good) as neighbour, RawDevice(rig, bad) as device:
        topic = levels.replace(b"{command}", str(number).encode())
        acknowledged = neighbour.publish("t/n", readings[: _READINGS // 2])
        try:
            device.publish(topic, [payload], qos=qos)
        except HungUpError:
            pytest.fail("the broker takes no such message: it cannot reach the intake")
        acknowledged += neighbour.publish("t/n", readings[_READINGS // 2 :])
    assert acknowledged == _READINGS
    wait_for(lambda: kept(rig, good.device) == list(range(_READINGS)), timeout_s=30)


def kept(rig: Rig, device: str) -> list[object]:
    return [record.value for record in rig.messaging.archive.read_last(device, "telemetry", "n", 1000)]
