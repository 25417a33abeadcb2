"""Why a platform stops: it was asked to, or a part died without which it would only seem to run."""

import asyncio

from fleetward.base.logging import get_logger

log = get_logger("platform")


class Ending:
    """Waited for by the program; `failure` says what died, None when nothing did."""

    def __init__(self) -> None:
        self._is_due = asyncio.Event()
        self.failure: str | None = None

    def ask(self) -> None:
        """End the platform, as a signal asks."""
        self._is_due.set()

    def watch(self, name: str, part: "asyncio.Future[None]") -> None:
        """End the platform when `part` fails; one that ends well was stopped by us."""
        part.add_done_callback(lambda done: self._note(name, done))

    async def wait(self) -> int:
        """Return the program's exit code once it must end: 0 when asked, 1 after a failure."""
        await self._is_due.wait()
        return 0 if self.failure is None else 1

    def _note(self, name: str, done: "asyncio.Future[None]") -> None:
        error = None if done.cancelled() else done.exception()
        if error is None:
            return
        log.critical("listener_died", listener=name, reason=str(error), exc_info=error)
        if self.failure is None:
            self.failure = f"{name}: {error}"
        self._is_due.set()
