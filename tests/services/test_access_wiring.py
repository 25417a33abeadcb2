"""Access as settings wire it, and what it forgets."""

from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from fleetward.base.clock import SystemClock
from fleetward.base.config import ServerConfig, parse_config
from fleetward.base.db import Database, metadata
from fleetward.base.errors import ConfigError, KeyUnavailableError
from fleetward.base.files import write_secret
from fleetward.base.layout import DataFolder
from fleetward.features.access.context import AccessContext
from fleetward.features.access.model.roles import Role
from fleetward.features.access.service import cleaning
from fleetward.features.access.service.keys import ensure_sealer
from fleetward.programs.server.access import build_access
from fleetward.programs.server.doors import CATALOGUE, SETTINGS
from support.access import make_house
from support.clock import ManualClock

OIDC = """
trust_domain = "fleet.test"
host_names = ["fleet.test", "10.0.0.1"]
[access]
session_idle = "10m"
[oidc]
issuer = "https://login.test"
client_id = "fleetward"
client_secret_file = "{secret}"
[[oidc.roles]]
provider_group = "admins"
role = "administrator"
[[oidc.roles]]
provider_group = "admins"
role = "{role}"
group = "lab"
"""


def build(
    folder: Path, *, role: str = "viewer", secret: bytes = b"s3cret\n", mode: int = 0o600
) -> AccessContext:
    data = DataFolder(folder / "data")
    data.create()
    path = folder / "oidc.secret"
    write_secret(path, secret)
    path.chmod(mode)
    config = parse_config(OIDC.format(secret=path, role=role).encode(), SETTINGS, source="test")
    return build_access(data, config, "https://fleet.test:443", SystemClock(), CATALOGUE)


def test_settings_become_limits_names_and_roles(tmp_path: Path) -> None:
    ctx = build(tmp_path)
    assert (ctx.idle, ctx.absolute) == (timedelta(minutes=10), timedelta(hours=8))
    assert (ctx.console, ctx.rp_id) == ("https://fleet.test", "fleet.test")
    assert ctx.origins == {"https://fleet.test", "https://10.0.0.1"}
    assert ctx.sso is not None
    assert ctx.sso.roles == {"admins": ((Role.ADMINISTRATOR, "*"), (Role.VIEWER, "lab"))}
    assert "s3cret" not in repr(ctx)


def test_passkeys_need_a_name(tmp_path: Path) -> None:
    data = DataFolder(tmp_path)
    data.create()
    config = ServerConfig("fleet.test", host_names=("10.0.0.1",))
    assert not build_access(data, config, "https://10.0.0.1:8443", SystemClock(), CATALOGUE).can_use_passkeys
    named = ServerConfig("fleet.test")
    assert build_access(data, named, "https://localhost:8443", SystemClock(), CATALOGUE).can_use_passkeys


def test_a_role_that_does_not_exist_stops_the_program(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="emperor"):
        build(tmp_path, role="emperor")


def test_a_secret_open_to_others_stops_the_program(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="chmod 600"):
        build(tmp_path, mode=0o644)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('[oidc]\nissuer = "http://login.test"\nclient_id = "x"\nclient_secret_file = "y"', "https"),
        ('[oidc]\nissuer = "https://login.test"', "client_id"),
        ('[access]\nsession_idle = "soon"', "session_idle"),
        ('[access]\nsession_forever = "1d"', "session_forever"),
    ],
)
def test_a_wrong_setting_is_named(line: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        parse_config(f'trust_domain = "fleet.test"\n{line}'.encode(), SETTINGS, source="test")


def test_the_sealing_key_is_made_once_and_for_its_owner_alone(tmp_path: Path) -> None:
    sealed = ensure_sealer(tmp_path).seal(b"x", "one")
    assert (tmp_path / "access.key").stat().st_mode & 0o777 == 0o600
    assert ensure_sealer(tmp_path).open(sealed, "one") == b"x"
    (tmp_path / "access.key").write_bytes(b"short")
    with pytest.raises(KeyUnavailableError, match="32 bytes"):
        ensure_sealer(tmp_path)


def test_what_is_over_for_a_day_is_forgotten(db: Database, tmp_path: Path, clock: ManualClock) -> None:
    house = make_house(db, tmp_path)
    ada, _ = house.first_operator()
    house.invite(ada, "bob")
    house.begin_device_code()
    house.browser().post("/signin/password", {"name": "x", "password": "y", "totp": "0"})
    house.sign_in(ada)
    forgotten = ("links", "spent_challenges", "device_codes", "throttle", "sessions")

    def count() -> list[int]:
        tables = [metadata.tables[f"access_{name}"] for name in forgotten]
        with db.write("system:cleaning") as tx:
            cleaning.forget_expired(tx)
            return [
                tx.conn.execute(sa.select(sa.func.count()).select_from(one)).scalar_one() for one in tables
            ]

    assert all(count())
    clock.advance(timedelta(days=2, hours=8))
    assert count() == [0, 0, 0, 0, 0]
    house.sign_in(ada)
