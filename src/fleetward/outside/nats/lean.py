"""nats-py's parser, replaced where messages of devices pass.

Device-chosen topics become subjects, and nats-py reads a vertical tab in one as the end of it, takes the
rest for a broken protocol and drops the connection: one device could cut the platform off again and again.
This one splits a message's line at the spaces that the protocol has. It hands messages of a lean subscription
on as bytes, without the half dozen objects and the task that nats-py makes of each.
"""

from collections.abc import Callable, Sequence
from typing import TypeAlias

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import ProtocolError
from nats.protocol.parser import Parser

# Subject, reply subject, headers as they came ("" for none), payload. Quick, and raises nothing.
OnMessage: TypeAlias = Callable[[bytes, bytes, bytes, bytes], None]

_CRLF = b"\r\n"
_MAX_LINE_BYTES = 256 * 1024
_UNLIMITED = 0


class LeanParser(Parser):
    """Takes the place of a client's own parser; control lines are still nats-py's to understand."""

    def __init__(self, client: Client) -> None:
        self._control = Parser(client)
        self._lean: dict[int, OnMessage] = {}
        super().__init__(client)

    def reset(self) -> None:
        super().reset()
        self._control.reset()

    def hear(self, number: int, act: OnMessage) -> None:
        """Call `act` with the messages of subscription `number` from now on."""
        self._lean[number] = act

    async def parse(self, data: bytes = b"") -> None:
        """Take bytes of the connection and hand on every message that is complete.

        Raises:
            ProtocolError: bytes that no server sends.
        """
        buffer = self.buf
        buffer.extend(data)
        at = 0
        try:
            while (end := buffer.find(_CRLF, at)) >= 0:
                line = bytes(buffer[at:end])
                if line[:4] == b"MSG ":
                    words = line.split(b" ")
                    header_bytes = 0
                elif line[:5] == b"HMSG ":
                    words = line.split(b" ")
                    header_bytes = int(words.pop(-2))
                else:
                    at = end + len(_CRLF)
                    await self._control.parse(line + _CRLF)
                    continue
                start, size = end + len(_CRLF), int(words[-1])
                if len(buffer) < start + size + len(_CRLF):
                    return
                at = start + size + len(_CRLF)
                await self._hand_on(words, bytes(buffer[start : start + size]), header_bytes)
            if len(buffer) - at > _MAX_LINE_BYTES:
                raise ProtocolError("nats: line without end")
        except (ValueError, IndexError) as error:
            raise ProtocolError("nats: malformed MSG") from error
        finally:
            del buffer[:at]

    async def _hand_on(self, words: list[bytes], content: bytes, header_bytes: int) -> None:
        number = int(words[2])
        reply = words[3] if len(words) > 4 else b""  # noqa: PLR2004 - MSG, subject, number, reply, size
        headers, payload = content[:header_bytes], content[header_bytes:]
        act = self._lean.get(number)
        if act is None:
            await self.nc._process_msg(number, words[1], reply, payload, headers or None)  # noqa: SLF001
        else:
            act(words[1], reply, headers, payload)


def install_lean_parser(client: Client) -> None:
    """Have a client that has not connected yet read by a `LeanParser`."""
    client._ps = LeanParser(client)  # noqa: SLF001 - tests/contracts guard it


async def follow_lean(client: Client, subject: str, act: OnMessage, *, queue: str = "") -> Subscription:
    """Call `act` with every message on `subject`; none is dropped for being slow."""

    async def first(message: Msg) -> None:  # until the parser knows the subscription's number
        headers = "NATS/1.0\r\n" + "".join(
            f"{name}: {value}\r\n" for name, value in (message.headers or {}).items()
        )
        act(message.subject.encode(), message.reply.encode(), headers.encode(), message.data)

    subscription = await client.subscribe(
        subject, queue=queue, cb=first, pending_msgs_limit=_UNLIMITED, pending_bytes_limit=_UNLIMITED
    )
    parser = client._ps  # noqa: SLF001
    if isinstance(parser, LeanParser):
        parser.hear(subscription._id, act)  # noqa: SLF001
    await client.flush()
    return subscription


async def publish_empty(client: Client, subjects: Sequence[str]) -> None:
    """Publish nothing to each of these subjects, in one write: what an acknowledgement is.

    Raises:
        nats.errors.Error: the connection is closed, or holds back too much already.
    """
    if not subjects:
        return
    await client.publish(subjects[0], b"")  # checks the connection, and wakes who writes
    await client._send_command(b"".join(b"PUB %b 0\r\n\r\n" % one.encode() for one in subjects[1:]))  # noqa: SLF001
