"""Handles batches so that one bad message stops no other.

A batch that fails is halved until the bad message is alone. It is tried a few times more, for a race with
somebody else's change ends well the second time; then it is set aside, and what came with it goes on. A
failure that is nobody's fault (NATS or the database is away) sets nothing aside: it is raised, and all of it
comes again. So it is when message after message fails and none succeeds: then the fault is ours.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

import nats

from fleetward.base.errors import CorruptDataError, UnavailableError

T = TypeVar("T")

MAX_TRIES = 3
# Set aside in a row, with nothing handled in between: more are a fault of ours, and wait until it is mended.
MAX_IN_A_ROW = 20
_NOBODYS_FAULT = (nats.errors.Error, TimeoutError, OSError, UnavailableError, CorruptDataError)


class StandstillError(UnavailableError):
    """Every message fails, one by one: they are kept until the cause is mended."""


def is_outage(error: Exception) -> bool:
    """Whether a failure says nothing about the messages."""
    return isinstance(error, _NOBODYS_FAULT)


class IsolatingHandler(Generic[T]):
    """Handles batches by `handle`, which may see a message again and changes nothing the second time."""

    def __init__(
        self,
        handle: Callable[[list[T]], Awaitable[None]],
        *,
        on_handled: Callable[[Sequence[T]], Awaitable[None]],
        on_bad: Callable[[T, Exception, int], Awaitable[None]],
    ) -> None:
        """Prepare.

        Args:
            on_handled: told what was handled, as soon as it was.
            on_bad: sets a message aside: with its last error and how often it failed.
        """
        self._handle = handle
        self._on_handled = on_handled
        self._on_bad = on_bad
        self._in_a_row = 0

    async def run(self, batch: list[T]) -> None:
        """Return when every message was handled or set aside.

        Raises:
            what `is_outage` is true of: whatever was not handled is to come again.
        """
        try:
            await self._handle(batch)
        except Exception as error:
            if is_outage(error):
                raise
            if len(batch) > 1:
                middle = len(batch) // 2
                await self.run(batch[:middle])
                await self.run(batch[middle:])
                return
            await self._try_alone(batch, error)
        else:
            self._in_a_row = 0
            await self._on_handled(batch)

    async def _try_alone(self, batch: list[T], error: Exception) -> None:
        for tries in range(2, MAX_TRIES + 1):
            try:
                await self._handle(batch)
            except Exception as again:
                if is_outage(again):
                    raise
                error = again
                if tries < MAX_TRIES:
                    continue
            else:
                self._in_a_row = 0
                await self._on_handled(batch)
                return
        if self._in_a_row >= MAX_IN_A_ROW:
            raise StandstillError(
                f"messages: expected some to be handled, found {MAX_IN_A_ROW} in a row that were not",
                hint="See the log and the dead letters.",
            ) from error
        self._in_a_row += 1
        await self._on_bad(batch[0], error, MAX_TRIES)
