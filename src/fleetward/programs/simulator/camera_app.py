"""The demo camera's application, as it stands in every firmware image. It knows nothing of Fleetward's code.

It reads a sensor that does not exist and hands what it found to the agent: JSON datagrams on the socket that
FLEETWARD_AGENT_SOCKET names. It lies in a zip archive beside `release.json`, which says what it is.
"""

import contextlib
import json
import math
import os
import random
import signal
import socket
import sys
import time
import zipfile
from collections.abc import Mapping

PERIOD_S = float(os.environ.get("CAMERA_PERIOD_S", "2"))
HEALTH_EVERY = 2
PATIENCE_S = 30.0


def connect(path: str) -> socket.socket:
    """Return a socket to the agent. Its name may be too long for the kernel: go by its folder then."""
    agent = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    folder = os.open(os.path.dirname(path) or ".", os.O_RDONLY | os.O_DIRECTORY)  # noqa: PTH120
    try:
        agent.connect(f"/proc/self/fd/{folder}/{os.path.basename(path)}")  # noqa: PTH119
    finally:
        os.close(folder)
    return agent


def say(path: str, *notes: Mapping[str, object]) -> bool:
    """Hand notes to the agent; return whether it was there. Else they are lost, as a missed reading is."""
    try:
        with contextlib.closing(connect(path)) as agent:
            for note in notes:
                agent.send(json.dumps(note).encode())
    except OSError:
        return False
    return True


def read_sensor(at: float) -> float:
    """Return degrees Celsius of a room that warms and cools once an hour."""
    return round(21 + 4 * math.sin(at / 3600 * 2 * math.pi) + random.uniform(-0.2, 0.2), 2)  # noqa: S311


def main() -> None:
    with zipfile.ZipFile(sys.argv[0]) as image:
        release = json.loads(image.read("release.json"))
    path = os.environ["FLEETWARD_AGENT_SOCKET"]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    started = time.monotonic()
    health: dict[str, object] = {"health": "ok"}
    if not release["is_healthy"]:
        health = {"health": "failing", "reason": "the lens driver does not answer"}
    hello = {"log": {"event": "camera_started", "version": release["version"]}}
    about = {"report": {"camera": {"version": release["version"], "resolution": "640x480"}}}
    while not say(path, hello, about, health) and time.monotonic() - started < PATIENCE_S:
        time.sleep(0.2)  # the agent starts beside us
    count = 1
    while True:
        temperature = {"stream": "temperature", "value": {"celsius": read_sensor(time.monotonic() - started)}}
        say(path, temperature, *([health] if count % HEALTH_EVERY == 0 else []))
        count += 1
        time.sleep(PERIOD_S)


if __name__ == "__main__":
    main()
