"""Names of header fields as the RFCs write them.

Names have no case (RFC 9110 section 5.1), and ASGI and uvicorn write them small. Some clients of devices
compare them letter by letter: Cisco's libest finds no `content-type`.
"""

import asyncio
import re

_NAME = re.compile(rb"(?<=\r\n)[a-z0-9-]+(?=: )")
_IRREGULAR = {
    b"www-authenticate": b"WWW-Authenticate",
    b"etag": b"ETag",
    b"x-men-signature": b"X-MEN-Signature",
}
_INTERIM = b"HTTP/1.1 1"


class NamingTransport:
    """A transport of one response: the names in its head are written as people write them."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._is_head_sent = False

    def write(self, data: bytes) -> None:
        """Send the head, which comes in one piece, or a piece of the body as it is."""
        if not self._is_head_sent:
            self._is_head_sent = not data.startswith(_INTERIM)
            data = _NAME.sub(lambda found: _IRREGULAR.get(found[0]) or found[0].title(), data)
        self._transport.write(data)

    def close(self) -> None:
        self._transport.close()

    def is_closing(self) -> bool:
        return self._transport.is_closing()
