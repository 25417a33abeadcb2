"""Handles batches so that one bad message stops no other.

A batch that fails is halved until the bad message is alone. It is tried a few times more, for a race with
somebody else's change ends well the second time; then it is set aside, and what came with it goes on. A
failure that is nobody's fault (NATS or the database is away) sets nothing aside: it is raised, and all of it
comes again. When message after message fails and none succeeds, the fault may be ours: then each return sets
but one aside, so that little is lost to a fault of ours, and no number of bad messages stands still for ever.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

import nats

from fleetward.base.errors import CorruptDataError, UnavailableError

T = TypeVar("T")

MAX_TRIES = 3
# Set aside in a row, with nothing handled in between: more may be a fault of ours, and go one at a time.
MAX_IN_A_ROW = 20
_NOBODYS_FAULT = (nats.errors.Error, TimeoutError, OSError, UnavailableError, CorruptDataError)


class StandstillError(UnavailableError):
    """Message after message fails: they are kept and come again, and each return sets one aside."""


def is_outage(error: Exception) -> bool:
    """Whether a failure says nothing about the messages."""
    return isinstance(error, _NOBODYS_FAULT)


class IsolatingHandler(Generic[T]):
    """Handles batches by `handle`, which may see a message again and changes nothing the second time.

    Attributes:
        left: of the last batch, what was neither handled nor set aside; for whoever nobody sends it again.
    """

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
        self.left: list[T] = []

    async def run(self, batch: list[T]) -> None:
        """Return when every message was handled or set aside.

        Raises:
            what `is_outage` is true of: whatever was not handled is to come again.
        """
        self.left = list(batch)
        await self._run(batch)

    async def _run(self, batch: list[T]) -> None:
        try:
            await self._handle(batch)
        except Exception as error:
            if is_outage(error):
                raise
            if len(batch) > 1:
                middle = len(batch) // 2
                await self._run(batch[:middle])
                await self._run(batch[middle:])
                return
            await self._try_alone(batch, error)
        else:
            await self._done(batch)

    async def _done(self, batch: list[T]) -> None:
        self._in_a_row = 0
        del self.left[: len(batch)]
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
                await self._done(batch)
                return
        if self._in_a_row >= MAX_IN_A_ROW:
            self._in_a_row -= 1  # the next return may set one aside
            raise StandstillError(
                f"messages: expected some to be handled, found {MAX_IN_A_ROW} in a row that were not",
                hint="See the log and the dead letters.",
            ) from error
        await self._on_bad(batch[0], error, MAX_TRIES)
        self._in_a_row += 1
        del self.left[:1]
