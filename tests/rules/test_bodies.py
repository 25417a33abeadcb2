"""Bodies of requests are read strictly: none forgets it, and what is not JSON reaches no route."""

import asyncio
from collections.abc import Iterator
from typing import Any, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field, ValidationError
from starlette.types import Message, Receive, Scope, Send

from fleetward.base.body import Body, is_hidden
from fleetward.programs.server.doors import DOORS
from fleetward.programs.server.json_bodies import StrictJson

JSON = b"application/json"
T = TypeVar("T", bound=BaseModel)


def all_below(kind: type[T]) -> Iterator[type[T]]:
    for one in kind.__subclasses__():
        yield one
        yield from all_below(one)


def test_every_body_refuses_what_it_does_not_name_and_takes_nothing_for_another() -> None:
    assert DOORS, "importing them imports every route"
    ours = [one for one in all_below(BaseModel) if one.__module__.startswith("fleetward.features.")]
    assert len(ours) > 30
    assert [one for one in ours if not issubclass(one, Body)] == []
    loose = [
        one for one in ours if (one.model_config["extra"], one.model_config["strict"]) != ("forbid", True)
    ]
    assert loose == []


class Note(Body):
    several_lines = frozenset({"findings"})

    reason: str = ""
    findings: str = ""
    details: dict[str, str] = Field(default_factory=dict)


@pytest.mark.parametrize("one", ["\x1b", "\x07", "\x9b", "\u2028", "\u202e", "\u2066", "\x7f", "\n", "\t"])
def test_a_text_that_people_see_later_can_be_read_as_it_is(one: str) -> None:
    with pytest.raises(ValidationError, match=f"found the character U\\+{ord(one):04X}"):
        Note(reason=f"stolen{one}")
    if one not in "\n\t":
        with pytest.raises(ValidationError, match="can be read"):
            Note(findings=f"first{one}second")


@given(st.text())
def test_a_text_of_any_script_is_taken(text: str) -> None:
    plain = "".join(one for one in text if not is_hidden(one))
    assert Note(reason=plain).reason == plain
    assert Note(reason="\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645 \U0001f469\u200d\U0001f527").reason
    assert Note(findings="one\r\n\ttwo").findings
    assert Note(details={"what": "for its own reader\n"}).details


def test_only_a_field_that_is_there_may_have_several_lines() -> None:
    ours = [one for one in all_below(Body) if one.__module__.startswith("fleetward.features.")]
    assert [one for one in ours if not one.several_lines <= set(one.model_fields)] == []
    assert {name for one in ours for name in one.several_lines} == {
        "findings", "pem", "public_key", "idevid_authorities",
    }  # fmt: skip


def ask(
    chunks: list[bytes], kind: bytes = JSON, *, ends: str = "http.request"
) -> tuple[int | None, bytes | None]:
    """Return the status of a refusal, and the body that the application saw."""
    messages: list[Message] = [{"type": "http.request", "body": chunk, "more_body": True} for chunk in chunks]
    messages.append({"type": ends, "body": b"", "more_body": False})
    seen: list[bytes] = []
    refused: list[int] = []

    async def app(_scope: Scope, receive: Receive, _send: Send) -> None:
        more = True
        while more:
            message = await receive()
            seen.append(message.get("body", b""))
            more = message.get("more_body", False)

    async def receive() -> Message:
        return messages.pop(0)

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            refused.append(message["status"])

    scope: dict[str, Any] = {
        "type": "http", "method": "POST", "path": "/", "headers": [(b"content-type", kind)],
    }  # fmt: skip
    asyncio.run(StrictJson(app)(scope, receive, send))
    return (refused[0] if refused else None), (b"".join(seen) if seen else None)


@pytest.mark.parametrize(
    "body",
    [
        b"NaN", b'{"a": Infinity}', b"1e400", b'"\\ud800"', b'"\\u0000"', b"\xff", b"{", b"[1,]", b"'a'",
        b"[" * 18 + b"]" * 18, b"[" + b"0," * 20_000 + b"0]", b"18446744073709551616", b"{} {}",
    ],
)  # fmt: skip
@pytest.mark.parametrize("kind", [JSON, b"Application/JSON; charset=utf-8", b"application/merge-patch+json"])
def test_what_is_no_json_reaches_no_route(body: bytes, kind: bytes) -> None:
    assert ask([body], kind) == (400, None)


@pytest.mark.parametrize(
    "chunks", [[b'{"a": [1, 2.5, "\xc3\xa4", null, true]}'], [b'{"a"', b": 1", b"}"], [b""], []]
)
def test_what_is_json_comes_as_it_was_sent(chunks: list[bytes]) -> None:
    assert ask(chunks) == (None, b"".join(chunks))


def test_another_kind_of_body_is_left_alone() -> None:
    assert ask([b"NaN"], b"text/plain") == (None, b"NaN")


def test_a_client_that_goes_away_reaches_no_route() -> None:
    assert ask([b'{"a": 1'], ends="http.disconnect") == (400, None)
