"""Sends devices what waits for them: commands and desired state.

NATS delivers to MQTT without acknowledgement, so a command is sent again until its result arrives or its time
is over; a device runs it once all the same.
"""

import asyncio
from collections.abc import Container
from concurrent.futures import Executor
from contextlib import suppress

import nats

from fleetward.base.db import Database
from fleetward.base.errors import FleetwardError
from fleetward.base.logging import get_logger
from fleetward.features.messaging import handlers
from fleetward.features.messaging.model import CommandRecord, Shadow
from fleetward.outside.nats.connection import NatsConnection
from fleetward.wire.command import Command, render_command
from fleetward.wire.mqtt_topics import Topic, TopicKind
from fleetward.wire.shadow import Desired, render_shadow

log = get_logger("downlink")

_TICK_S = 1.0


class Downlink:
    """Publishes commands and desired state to devices that are connected."""

    def __init__(
        self,
        db: Database,
        threads: Executor,
        platform: NatsConnection,
        connected: Container[str],
    ) -> None:
        self._db = db
        self._threads = threads
        self._platform = platform
        self._connected = connected
        self._waiting: set[str] = set()
        self._wake = asyncio.Event()

    def serve(self, device: str) -> None:
        """Send a device everything that waits for it, soon."""
        self._waiting.add(device)
        self._wake.set()

    async def run(self) -> None:
        """Send until cancelled; look for what is to be sent again once a second."""
        loop = asyncio.get_running_loop()
        next_tick_s = loop.time()
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout_at(next_tick_s):
                    await self._wake.wait()
            self._wake.clear()
            try:
                await self._serve_waiting()
                if loop.time() >= next_tick_s:
                    next_tick_s = loop.time() + _TICK_S
                    await self._send_due()
            except (nats.errors.Error, TimeoutError, FleetwardError) as error:
                log.warning("downlink_retry", error=type(error).__name__)

    async def send_desired(self, shadow: Shadow) -> None:
        """Send a device what is desired of it."""
        topic = Topic(shadow.device, TopicKind.SHADOW_DESIRED)
        payload = render_shadow(Desired(shadow.desired_version, shadow.desired))
        await self._platform.client.publish(topic.subject, payload)

    async def _serve_waiting(self) -> None:
        devices, self._waiting = self._waiting, set()
        if not devices:
            return
        loop = asyncio.get_running_loop()
        present = [device for device in devices if device in self._connected]
        commands = await loop.run_in_executor(self._threads, handlers.commands_for, self._db, present)
        await self._send(commands)
        for shadow in await loop.run_in_executor(self._threads, handlers.desired_of, self._db, present):
            await self.send_desired(shadow)

    async def _send_due(self) -> None:
        loop = asyncio.get_running_loop()
        due = await loop.run_in_executor(self._threads, handlers.due_commands, self._db, self._connected)
        await self._send(due)

    async def _send(self, commands: list[CommandRecord]) -> None:
        if not commands:
            return
        for command in commands:
            topic = Topic(command.device, TopicKind.COMMAND, str(command.id))
            message = Command(command.id, command.name, command.args, command.expires_at)
            await self._platform.client.publish(topic.subject, render_command(message))
        await asyncio.get_running_loop().run_in_executor(
            self._threads, handlers.mark_sent, self._db, commands
        )
