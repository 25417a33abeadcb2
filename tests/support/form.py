"""Forms as browsers send them, made by hand."""

BOUNDARY = "b0undary"
KIND = f"multipart/form-data; boundary={BOUNDARY}"


def part(name: str, content: bytes, *more: str) -> bytes:
    """Return a part with its delimiter; `more` are headers."""
    head = [f'Content-Disposition: form-data; name="{name}"', *more]
    return f"--{BOUNDARY}\r\n".encode() + "\r\n".join(head).encode() + b"\r\n\r\n" + content + b"\r\n"


def body(*parts: bytes, end: bytes = f"--{BOUNDARY}--\r\n".encode()) -> bytes:
    return b"".join(parts) + end
