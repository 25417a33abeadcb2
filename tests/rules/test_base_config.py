from pathlib import Path

import pytest

from fleetward.base.config import ServerConfig, parse_config, ports_from, render_config
from fleetward.base.errors import ConfigError, CorruptDataError, NewerDataError
from fleetward.base.layout import DataFolder
from fleetward.programs.server.doors import SETTINGS


def test_settings_read_back() -> None:
    config = ServerConfig(trust_domain="fleet.example", ports=ports_from(20000))
    assert parse_config(render_config(config), SETTINGS, source="x") == config


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\xff", "TOML"),
        (b"trust_domain = ", "TOML"),
        (b"listen = '127.0.0.1'", "trust_domain"),
        (b"trust_domain = 'a'\ncolour = 1", "colour"),
        (b"trust_domain = 'a'\nlisten = 'everywhere'", "listen"),
        (b"trust_domain = 'a'\nhost_names = []", "host_names"),
        (b"trust_domain = 'a'\n[ports]\nmqtt = 70000", "ports.mqtt"),
        (b"trust_domain = 'a'\n[ports]\nmqtt = 'x'", "mqtt"),
        (b"trust_domain = 'A B'", "trust domain"),
        (b"trust_domain = 'a'\nlog_level = 'loud'", "log_level"),
        (b"trust_domain = 'a'\n[media]\nmax_view = 'long'", "media.max_view"),
        (b"trust_domain = 'a'\n[media]\nlongest = '1m'", "media"),
        (b"trust_domain = 'a'\nmedia = 3", "media"),
        (b"trust_domain = 'a'\n[sections]\nmedia = 3", "sections"),
        (b"trust_domain = 'a'\n[audit]\nwitness = 'here'", "audit.witness"),
        (b"trust_domain = 'a'\n[access]\nsession_idle = 'long'", "access.session_idle"),
        (
            b"trust_domain = 'a'\n[oidc]\nissuer = 'http://x'\nclient_id = 'y'\nclient_secret_file = '/z'",
            "oidc",
        ),
        (b"trust_domain = 'a'\n[events]\nkeep = 'long'", "events.keep"),
        (b"trust_domain = 'a'\n[events]\nmost = 0", "events.most"),
        (b"trust_domain = 'a'\n[nats]\nurls = ['nats://n1:4222']", "nats.urls"),
    ],
)
def test_bad_settings_name_file_and_field(content: bytes, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config(content, SETTINGS, source="fleetward.toml")
    assert "fleetward.toml" in str(caught.value)
    assert said in str(caught.value)


def test_ports_stay_in_range() -> None:
    with pytest.raises(ConfigError):
        ports_from(65535)


def test_a_folder_of_a_newer_release_stops_the_program(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path / "data")
    folder.create()
    folder.check()
    folder.version.write_text("99\n")
    with pytest.raises(NewerDataError):
        folder.check()
    folder.version.write_text("one\n")
    with pytest.raises(CorruptDataError):
        folder.check()


def test_a_folder_that_is_none_of_ours_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="VERSION"):
        DataFolder(tmp_path).check()


def test_creating_a_folder_again_changes_nothing(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path / "data")
    folder.create()
    folder.admin_token.write_text("kept")
    folder.create()
    assert folder.admin_token.read_text() == "kept"
    assert folder.path.stat().st_mode & 0o077 == 0
