"""A release as it comes in: a form whose image goes to disk while it is read."""

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import BinaryIO

from fastapi import Request
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from fleetward.base.errors import InvalidInputError, TooLargeError, UnavailableError
from fleetward.features.updates.context import UpdatesContext
from fleetward.features.updates.http.form import FormReader
from fleetward.features.updates.model import MAX_SBOM_BYTES
from fleetward.features.updates.service import NewRelease

_MAX_FIELD_BYTES = 256
_TEXTS = ("model", "version", "security_counter")
_FIELDS = (*_TEXTS, "sbom", "image")
_FLUSH_BYTES = 1024 * 1024


@asynccontextmanager
async def receive_release(request: Request, context: UpdatesContext) -> AsyncIterator[NewRelease]:
    """Read the form of a release; its image lies in `context.uploads` until the block ends.

    Raises:
        InvalidInputError: not the form we want, a field missing, twice or unknown.
        TooLargeError: a field over its limit.
        UnavailableError: no room for the image.
    """
    path = context.uploads / f"{secrets.token_hex(12)}.part"
    try:
        try:
            with path.open("xb") as file:
                form = _Form(file, context.max_image_bytes)
                reader = FormReader(request.headers.get("content-type", ""), form)
                async for chunk in request.stream():
                    reader.feed(chunk)
                    if form.is_full:
                        await run_in_threadpool(form.flush)
                reader.finish()
                await run_in_threadpool(form.flush)
        except OSError as error:
            raise UnavailableError(
                f"image: expected room for it in {context.uploads}, found none ({error.strerror})",
                hint="Free disk space on the platform, then publish again.",
            ) from error
        except ClientDisconnect as error:
            raise InvalidInputError(
                "request body: expected all of it, found the connection closed"
            ) from error
        yield form.release(path)
    finally:
        path.unlink(missing_ok=True)


class _Form:
    """The fields so far. The image's bytes are held until `flush`, which the caller runs in a thread."""

    def __init__(self, image: BinaryIO, max_image_bytes: int) -> None:
        self._image = image
        self._limits = {"sbom": MAX_SBOM_BYTES, "image": max_image_bytes}
        self._sizes: dict[str, int] = {}
        self._contents: dict[str, bytearray] = {}
        self._field = ""

    @property
    def is_full(self) -> bool:
        return len(self._contents.get("image", b"")) >= _FLUSH_BYTES

    def flush(self) -> None:
        self._image.write(self._contents.get("image", b""))
        self._contents["image"] = bytearray()
        self._image.flush()

    def release(self, path: Path) -> NewRelease:
        missing = [name for name in ("model", "version", "sbom", "image") if name not in self._sizes]
        if missing:
            raise InvalidInputError(f"form: expected the field {missing[0]}, found none")
        counter = self._text("security_counter")
        if counter and not (counter.isascii() and counter.isdigit() and len(counter) < 12):  # noqa: PLR2004
            raise InvalidInputError(f"security_counter: expected a number, found {counter[:20]!r}")
        return NewRelease(
            model=self._text("model"),
            version=self._text("version"),
            image=path,
            sbom=bytes(self._contents["sbom"]),
            security_counter=int(counter) if counter else None,
        )

    def begin(self, name: str) -> None:
        """Take the name of the field whose content follows."""
        if name not in _FIELDS:
            raise InvalidInputError(f"form: expected one of {', '.join(_FIELDS)}, found {name[:40]!r}")
        if name in self._sizes:
            raise InvalidInputError(f"form: expected {name} once, found it twice")
        self._field = name
        self._sizes[name] = 0
        self._contents[name] = bytearray()

    def extend(self, content: bytes) -> None:
        """Take more of that field."""
        limit = self._limits.get(self._field, _MAX_FIELD_BYTES)
        self._sizes[self._field] += len(content)
        if self._sizes[self._field] > limit:
            raise TooLargeError(f"{self._field}: expected at most {limit} bytes, found more")
        self._contents[self._field] += content

    def _text(self, name: str) -> str:
        try:
            return bytes(self._contents.get(name, b"")).decode().strip()
        except UnicodeDecodeError as error:
            raise InvalidInputError(f"{name}: expected UTF-8 text, found other bytes") from error
