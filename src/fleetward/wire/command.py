"""A command to a device (`d/<id>/cmd/<n>`) and its result (`d/<id>/cmd/<n>/result`).

The number in the topic names the command. It may arrive more than once; a device runs it once and sends its
result again each time.
"""

import re
from datetime import datetime
from typing import Any

import msgspec

from fleetward.base.errors import InvalidInputError
from fleetward.wire.bounded_json import parse_bounded_json, parse_typed_json

MAX_COMMAND_BYTES = 16 * 1024
MAX_RESULT_BYTES = 32 * 1024
MAX_ERROR_CHARS = 500
MAX_TIMEOUT_S = 24 * 3600
_NAME = re.compile(r"[a-z][a-z0-9-]{0,31}")


class Command(msgspec.Struct, frozen=True):
    """What a device is asked to do, and until when it is worth doing."""

    id: int
    name: str
    args: dict[str, Any]
    expires_at: datetime


class CommandResult(msgspec.Struct, frozen=True):
    """How a command ended: `output` when it went well, `error` when not."""

    ok: bool
    output: Any = None
    error: str = ""


_decode_command = msgspec.json.Decoder(Command).decode
_decode_result = msgspec.json.Decoder(CommandResult).decode


def parse_command_name(text: str) -> str:
    """Return a valid command name.

    Raises:
        InvalidInputError: not 1 to 32 of `a-z 0-9 -`, starting with a letter.
    """
    if not _NAME.fullmatch(text):
        raise InvalidInputError(
            f"command name: expected 1 to 32 of a-z, 0-9 and '-', starting with a letter, found {text[:40]!r}"
        )
    return text


def parse_command(payload: bytes) -> Command:
    """Return the command in a payload. Raises InvalidInputError when it is none, or over 16 KiB."""
    command = parse_typed_json(
        payload,
        _decode_command,
        what="command",
        expected="id, name, args and expires_at",
        max_bytes=MAX_COMMAND_BYTES,
    )
    parse_command_name(command.name)
    if command.expires_at.tzinfo is None:
        raise InvalidInputError("command: expires_at: expected an offset such as Z, found none")
    return command


def render_command(command: Command) -> bytes:
    """Return the payload of a command.

    Raises:
        InvalidInputError: its arguments make it larger than 16 KiB or too deep.
    """
    payload = msgspec.json.encode(command)
    parse_bounded_json(payload, what="command", max_bytes=MAX_COMMAND_BYTES)
    return payload


def parse_result(payload: bytes) -> CommandResult:
    """Return the result in a payload. Raises InvalidInputError when it is none, or over 32 KiB."""
    result = parse_typed_json(
        payload,
        _decode_result,
        what="command result",
        expected="ok and output or error",
        max_bytes=MAX_RESULT_BYTES,
    )
    if len(result.error) > MAX_ERROR_CHARS:
        raise InvalidInputError(f"command result: error: expected at most {MAX_ERROR_CHARS} characters")
    return result


def render_result(result: CommandResult) -> bytes:
    """Return the payload of a result; an output over the limit is replaced by an error that says so."""
    payload = msgspec.json.encode(result)
    if len(payload) > MAX_RESULT_BYTES:
        return msgspec.json.encode(CommandResult(ok=False, error="the output is over the size limit"))
    return payload
