"""What the reference pages list is what the code has."""

from pathlib import Path

import msgspec
from fleetward.base.config import Media, Nats, Ports, ServerConfig

DOCS = Path(__file__).parents[2] / "docs"


def test_every_setting_is_documented() -> None:
    page = (DOCS / "reference/config.md").read_text()
    sections = {"ports": Ports, "nats": Nats, "media": Media}
    names = [field.name for field in msgspec.structs.fields(ServerConfig) if field.name not in sections]
    names += [
        f"{section}.{field.name}"
        for section, kind in sections.items()
        for field in msgspec.structs.fields(kind)
    ]
    assert [name for name in names if f"| `{name}` |" not in page] == []
