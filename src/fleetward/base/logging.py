"""Logs for us: a constant event name plus fields, one JSON object a line, to standard error.

Never a key, a token or a payload: `_SECRET_FIELDS` is the last net, not the rule.
"""

import logging
import sys
from collections.abc import MutableMapping
from typing import TYPE_CHECKING, Any, TypeAlias, cast

if TYPE_CHECKING:
    import structlog

Logger: TypeAlias = "structlog.typing.FilteringBoundLogger"

_SECRET_FIELDS = frozenset(
    {"token", "claim", "password", "passphrase", "secret", "seed", "private_key", "ticket", "authorization"}
)


def _redact(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for name in event:
        if name in _SECRET_FIELDS:
            event[name] = "[redacted]"
    return event


def configure_logging(*, level: str = "info", human: bool | None = None) -> None:
    """Set up logging once per process. `human` None: coloured text on a terminal, JSON elsewhere."""
    import structlog  # noqa: PLC0415 - 8 MB that a device's agent does not have

    is_human = sys.stderr.isatty() if human is None else human
    renderer = structlog.dev.ConsoleRenderer() if is_human else structlog.processors.JSONRenderer()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _redact,
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=False,
    )


def get_logger(name: str) -> Logger:
    """Return a logger that names its room; the library behind it is loaded with the first line logged."""
    return cast("Logger", _LazyLogger(name))


class _LazyLogger:
    def __init__(self, room: str) -> None:
        self._room = room

    def __getattr__(self, method: str) -> Any:
        import structlog  # noqa: PLC0415 - as above

        return getattr(structlog.get_logger(room=self._room), method)
