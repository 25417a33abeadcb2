"""Dead letters for routes that run in other threads: read, dropped, and played again by who consumes them."""

import asyncio
from collections import deque
from collections.abc import Coroutine
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import Any, TypeVar

import msgspec
import nats
from nats.js import JetStreamContext
from nats.js.errors import NotFoundError as NoSuchMessageError

from fleetward.base.errors import NotFoundError, UnavailableError
from fleetward.features.messaging.ports import DeadLetter, ReplayOutcome
from fleetward.outside.nats.connection import NatsConnection
from fleetward.outside.nats.dead_letters import SUBJECT_PREFIX, parse_letter, replay_subject
from fleetward.outside.nats.streams import DEAD_LETTERS, read_stream

T = TypeVar("T")
_ANSWER_TIMEOUT_S = 15.0
_REPLAY_TIMEOUT_S = 10.0
_decode_outcome = msgspec.json.Decoder(ReplayOutcome).decode


class DeadLetterBook:
    """Implements the port `DeadLetters`. Never call it on the event loop."""

    def __init__(self, platform: NatsConnection, js: JetStreamContext) -> None:
        self._platform = platform
        self._js = js
        self._loop = asyncio.get_running_loop()

    def list_dead_letters(self, limit: int) -> list[DeadLetter]:
        """Return the last ones, newest first."""
        return self._wait(self._list(limit))

    def get_dead_letter(self, number: int) -> DeadLetter:
        """Return one. Raises NotFoundError."""
        return self._wait(self._get(number))

    def drop_dead_letter(self, number: int) -> None:
        """Delete one; nothing where it is gone."""
        self._wait(self._drop(number))

    def replay_dead_letter(self, letter: DeadLetter) -> ReplayOutcome:
        """Have its consumer handle it once more. Raises UnavailableError where no worker runs."""
        return self._wait(self._replay(letter))

    async def _list(self, limit: int) -> list[DeadLetter]:
        last: deque[DeadLetter] = deque(maxlen=limit)
        async for message in read_stream(self._js, DEAD_LETTERS, f"{SUBJECT_PREFIX}>"):
            last.appendleft(parse_letter(message.metadata.sequence.stream, message.data))
        return list(last)

    async def _get(self, number: int) -> DeadLetter:
        try:
            found = await self._js.get_msg(DEAD_LETTERS, number)
        except NoSuchMessageError as error:
            raise NotFoundError(f"dead letter {number}: expected one, found none") from error
        return parse_letter(number, found.data or b"")

    async def _drop(self, number: int) -> None:
        await self._js.delete_msg(DEAD_LETTERS, number)

    async def _replay(self, letter: DeadLetter) -> ReplayOutcome:
        subject, number = replay_subject(letter.consumer), str(letter.number).encode()
        answer = await self._platform.client.request(subject, number, timeout=_REPLAY_TIMEOUT_S)
        return _decode_outcome(answer.data)

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result(_ANSWER_TIMEOUT_S)
        except (nats.errors.Error, FutureTimeoutError, OSError) as error:
            future.cancel()
            raise UnavailableError("dead letters: expected NATS to answer, found it silent") from error
