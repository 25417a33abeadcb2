"""Time from a revocation's request to the broken connection, with 1,000 devices connected."""

import asyncio
import time
from pathlib import Path

from bench.rig import Device, Result, Rig, client_context, open_mqtt, platform, raise_file_limit

_CONNECTED = 1_000
_REVOKED = 100
_GOAL_MS = 100.0


def run(folder: Path) -> list[Result]:
    """Return the 99th percentile in milliseconds beside the goal; below 1 is better."""
    raise_file_limit()
    with platform(folder) as rig:
        devices = rig.enroll(_CONNECTED)
        delays = sorted(asyncio.run(_measure(rig, devices)))
    p99 = delays[int(len(delays) * 0.99) - 1]
    return [Result("revoke to disconnect, p99 of 100", "ms", p99, "goal", _GOAL_MS, "≤ 1.0")]


async def _measure(rig: Rig, devices: list[Device]) -> list[float]:
    streams = {}
    for device in devices:
        context = client_context(rig.ca_file, device)
        streams[device.id] = await open_mqtt(rig.mqtt_port, context, device.id)
    api, delays = rig.api, []
    for device in devices[:_REVOKED]:
        reader, _ = streams[device.id]
        gone = asyncio.create_task(_wait_for_end(reader))
        start = time.monotonic()
        await asyncio.to_thread(api.post, f"/devices/{device.id}/revoke", {"reason": "benchmark"})
        await asyncio.wait_for(gone, 10)
        delays.append((gone.result() - start) * 1000)
    for _, writer in streams.values():
        writer.close()
    return delays


async def _wait_for_end(reader: asyncio.StreamReader) -> float:
    try:
        while await reader.read(4096):
            pass
    except ConnectionError:
        pass
    return time.monotonic()
