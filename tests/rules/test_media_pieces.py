"""A segment on the bus goes in pieces, and comes together again."""

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from fleetward.outside.media.bus import _PIECE_BYTES, NatsMediaBus, Pieces
from fleetward.wire.fmp4 import Kind, Segment


class Wire:
    def __init__(self) -> None:
        self.sent: list[bytes] = []

    async def publish(self, _subject: str, content: bytes) -> None:
        self.sent.append(content)


def pieces_of(segment: Segment) -> list[bytes]:
    wire = Wire()
    asyncio.run(NatsMediaBus(wire).publish("cam-1", segment))  # type: ignore[arg-type] # no more of it is used
    return wire.sent


@given(
    st.lists(
        st.tuples(st.sampled_from(Kind), st.integers(0, 3 * _PIECE_BYTES)).map(
            lambda one: Segment(one[0], bytes(one[1]))
        ),
        max_size=4,
    ),
    st.integers(0, 3),
)
def test_who_comes_in_the_middle_gets_every_segment_that_begins_later(
    segments: list[Segment], missed: int
) -> None:
    sent = [piece for segment in segments for piece in pieces_of(segment)]
    assert all(len(piece) <= _PIECE_BYTES + 2 for piece in sent)
    pieces = Pieces()
    found = [one for piece in sent[missed:] if (one := pieces.add(piece)) is not None]
    begun = 0
    whole = []
    for segment in segments:
        if begun >= missed:
            whole.append(segment)
        begun += len(pieces_of(segment))
    assert found == whole
