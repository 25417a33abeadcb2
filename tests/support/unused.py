"""Finds what no code of src calls, tests aside: `./dev check` runs it.

vulture reads src alone. What is reached otherwise (by decorators of routes and commands, by libraries, by
tests for good) is either excluded by its decorator or stands below with a reason.
"""

import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from vulture import Vulture

ROOT = Path(__file__).parents[2]
_DECORATORS = ["@*router.*", "@*.command", "@*.command*", "@*.group*", "@click.*", "@*.result_callback*"]
_KINDS = frozenset({"function", "method", "class", "property"})
# `path: name` → why it stands although no code of src calls it.
ALLOWED: dict[str, str] = {
    "base/db.py: process_bind_param": "SQLAlchemy calls it",
    "base/db.py: process_result_value": "SQLAlchemy calls it",
    "base/body.py: _can_be_read": "pydantic calls it",
    "features/attestation/ports.py: ek_public": "what a chip can show, for whoever verifies it",
    "outside/keys/tpm.py: ek_public": "of that port",
    "features/overview/http/devices.py: _names_devices_once": "pydantic calls it",
    "features/updates/model.py: SbomComponent": "named in quotes by a type that msgspec resolves",
    "features/updates/repository/ceremony.py: sign_next_root": "the ceremony with the offline key, by hand",
    "migrations/runner.py: schema_version": "tells the migrations' tests where a database stands",
    "base/events.py: list_events": "what tests of every feature read back; the feed reads by its own pages",
    "outside/dtls/server.py: datagram_received": "asyncio calls it",
    "outside/keys/signing.py: private_numbers": "cryptography's interface of a private key",
    "programs/agent/log.py: debug": "the level that agent.toml names",
    "programs/cli/main.py: format_commands": "click calls it",
    "programs/server/front.py: on_chunk_complete": "httptools calls it",
    "programs/server/tls.py: capture_signals": "uvicorn calls it",
    "programs/simulator/attacks/firmware.py: log_message": "http.server calls it",
}


def find_unused(source: Path) -> list[str]:
    """Return `path: name` of every function, method, class and property that src does not use."""
    reader = Vulture(ignore_decorators=_DECORATORS)
    reader.scavenge([source])
    return sorted(
        f"{one.filename.relative_to(source)}: {one.name}"
        for one in reader.get_unused_code(min_confidence=60)
        if one.typ in _KINDS and not re.fullmatch(r"visit_\w+", one.name)
    )


def find_complaints(unused: Iterable[str], allowed: Mapping[str, str]) -> list[str]:
    """Return what is unused without a reason, and reasons for what is used or gone."""
    found = frozenset(unused)
    return [
        *(f"{one}: only tests call it, or nobody: remove it" for one in sorted(found - allowed.keys())),
        *(f"{one}: is allowed to be unused, and is used or gone" for one in sorted(allowed.keys() - found)),
    ]


def main() -> int:
    """Print what is wrong; return 1 when anything is."""
    complaints = find_complaints(find_unused(ROOT / "src/fleetward"), ALLOWED)
    sys.stdout.writelines(f"{one}\n" for one in complaints)
    return int(bool(complaints))


if __name__ == "__main__":
    sys.exit(main())
