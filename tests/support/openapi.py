"""The API's document as a platform serves it, and the console's types made from it.

Run by `./dev types`: PYTHONPATH=tests python -m support.openapi write|stamp DOCUMENT
"""

import hashlib
import json
import ssl
import sys
import tempfile
import urllib.request
from pathlib import Path
from typing import Any

from support.platform import Platform, running_platform

TYPES = Path(__file__).parents[2] / "console" / "src" / "api" / "schema.d.ts"
_MARK = "// Made by ./dev types from the API's document "


def fetch_document(platform: Platform) -> dict[str, Any]:
    """Return what a running platform says of its API."""
    context = ssl.create_default_context(cafile=str(platform.ca_file))
    url = f"{platform.ready['console']}/api/v1/openapi.json"
    with urllib.request.urlopen(url, context=context) as answer:  # noqa: S310 - our own address
        found: dict[str, Any] = json.load(answer)
    return found


def reduce(document: dict[str, Any]) -> dict[str, Any]:
    """Return what the console's types are made from: errors all have one form, a problem document."""
    for operations in document["paths"].values():
        for operation in operations.values():
            responses = operation["responses"]
            operation["responses"] = {code: said for code, said in responses.items() if code.startswith("2")}
    return document


def digest(document: dict[str, Any]) -> str:
    """Return a digest of all that types are made from; the release's number is not among it."""
    named = {name: document[name] for name in ("paths", "components")}
    return hashlib.sha256(json.dumps(named, sort_keys=True).encode()).hexdigest()[:16]


def read_stamp() -> str:
    """Return the digest of the document that the committed types were made from."""
    first = TYPES.read_text().partition("\n")[0]
    return first.removeprefix(_MARK)


def main() -> None:
    """Write the document of a fresh platform, or stamp the types made from it."""
    verb, path = sys.argv[1], Path(sys.argv[2])
    if verb == "write":
        with tempfile.TemporaryDirectory() as folder, running_platform(Path(folder)) as platform:
            path.write_text(json.dumps(reduce(fetch_document(platform))))
        return
    document = json.loads(path.read_text())
    TYPES.write_text(f"{_MARK}{digest(document)}\n{TYPES.read_text()}")


if __name__ == "__main__":
    main()
