"""Makes a device's folder with the release before this one; README.md says how to run it."""

import shutil
import socket
import sqlite3
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path

from fleetward.base.clock import SystemClock
from fleetward.programs.simulator import demo
from fleetward.programs.simulator.machine import Machine
from support.platform import Platform, running_platform

# By SQL, for no model may have it: the test connects with the certificate, years from now.
_LIFETIME_S = 4 * 365 * 86_400
_SAVED = ("state", "slots", "keys", "agent.toml", "firmware-keys.json", "tuf-root.json")
_LEFT_OUT = ("agent.sock", "agent.lock", "spool.sqlite3.reserve", "desired.lock")


def main(target: Path) -> None:
    """Enroll a camera without a chip, update it, cut it off, let its queue fill, and keep what it has."""
    with tempfile.TemporaryDirectory() as folder, running_platform(Path(folder)) as platform:
        place = demo.make_place(platform.data, demo.DEVICE, "camera-software")
        demo.provision(place, None, None)
        with closing(sqlite3.connect(platform.data / "db" / "fleetward.sqlite3")) as db, db:
            db.execute("UPDATE models SET cert_lifetime_s = ?", (_LIFETIME_S,))
        machine = Machine(place.config_file, log=place.folder / "device.log")
        machine.start()
        started = SystemClock().now()
        demo.wait_for_event(place, started, "session.opened")
        desired = {"state": {"telemetry": {"interval": "7s"}, "lamp": "on"}}
        place.api.put(f"/devices/{demo.DEVICE}/shadow/desired", desired)
        demo.publish(place, demo.SECOND)
        demo.wait_until(lambda: demo._firmware(place) == demo.SECOND, "the second release")
        time.sleep(8)
        cut_off(platform, place)
        machine.stop()
        save(platform, place, target)


def cut_off(platform: Platform, place: demo.Place) -> None:
    """Let the platform die and the application go on for a while."""
    platform.kill()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as application:
        application.connect(str(place.folder / "state" / "agent.sock"))
        for number in range(20):
            application.send(b'{"stream": "count", "value": %d}' % number)
        application.send(b'{"log": {"event": "door_opened"}}')
    time.sleep(3)


def save(platform: Platform, place: demo.Place, target: Path) -> None:
    for name in _SAVED:
        source = place.folder / name
        if source.is_dir():
            shutil.copytree(source, target / name, symlinks=True, ignore=shutil.ignore_patterns(*_LEFT_OUT))
        else:
            shutil.copy(source, target / name)
    (target / "platform").mkdir()
    for name in ("ca/ca-bundle.pem", "ca/device-chain.pem", "ca/server-ca.crt", "keys/server-ca.pem"):
        shutil.copy(platform.data / name, target / "platform" / Path(name).name)
    text = (target / "agent.toml").read_text()
    text = text.replace(str(place.folder), ".").replace(str(platform.data / "ca"), "platform")
    (target / "agent.toml").write_text(text)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
