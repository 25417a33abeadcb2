"""`docs/reference/http-devices.md` says what the code does."""

import re
from pathlib import Path

import msgspec

from fleetward.features.enrollment import device_http, model
from fleetward.wire import enroll
from fleetward.wire.shipment import Header, ShipmentRow

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/reference/http-devices.md").read_text()
ROOMS = [ROOT / "src/fleetward/features" / name for name in ("enrollment", "attestation")]
CODE = [path for room in ROOMS for path in room.rglob("*.py") if path.name not in ("device.py", "http.py")]


def test_every_route_is_told() -> None:
    for route in device_http.device_router.routes:
        [method] = route.methods  # type: ignore[attr-defined]
        assert f"`{method} {route.path}`" in PAGE  # type: ignore[attr-defined]


def test_every_field_is_told() -> None:
    messages = (enroll.TpmBegin, enroll.TpmChallenge, enroll.TpmFinish, enroll.TpmIssued, Header, ShipmentRow)
    for message in messages:
        for field in msgspec.structs.fields(message):
            assert re.search(rf'[`"]{field.encode_name}[`"]|[,`]{field.encode_name}[,`]', PAGE), field.name


def test_every_reason_is_told() -> None:
    reasons = set(model._SAID)
    for path in CODE:
        reasons |= set(re.findall(r'reason="([a-z_]+)"', path.read_text()))
        reasons |= set(re.findall(r'_refused\(\s*(?:device_id, )?"([a-z_]+)"', path.read_text()))
    assert {reason for reason in reasons if f"`{reason}`" not in PAGE} == set()
