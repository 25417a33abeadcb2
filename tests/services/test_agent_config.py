"""The agent's settings file: what it may say, and how precisely it is refused."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetward.base.agent_config import (
    AgentConfig,
    Keys,
    Pkcs11Keys,
    SoftwareKeys,
    TpmKeys,
    parse_agent_config,
    render_agent_config,
)
from fleetward.base.errors import ConfigError
from fleetward.features.media.device import Video
from fleetward.features.updates.device.settings import Firmware
from fleetward.programs.agent.abilities.all import SECTIONS
from fleetward.programs.agent.config import load_agent_config, read_secret

MINIMAL = """
device_id = "cam-1"
server = "https://localhost:9443"
mqtt = "localhost:8883"
ca_file = "root.pem"
state_dir = "state"
[keys]
kind = "software"
folder = "keys"
"""


def parse(text: str, source: str = "/etc/fleetward/agent.toml") -> AgentConfig:
    return parse_agent_config(text.encode(), source=Path(source), sections=SECTIONS)


def test_a_short_file_is_enough_and_paths_start_at_its_folder() -> None:
    config = parse(MINIMAL)
    assert config.ca_file == Path("/etc/fleetward/root.pem")
    assert config.keys == SoftwareKeys(Path("/etc/fleetward/keys"))
    assert config.mqtt_address == ("localhost", 8883)
    assert config.sections == ()


@pytest.mark.parametrize("kind", ["software", "pkcs11", "tpm"])
def test_what_is_rendered_is_read_back(kind: str, tmp_path: Path) -> None:
    choices: dict[str, Keys] = {
        "software": SoftwareKeys(tmp_path / "keys", factory_key="born"),
        "pkcs11": Pkcs11Keys(Path("/usr/lib/softhsm.so"), 'a "token"', tmp_path / "pin", idevid="idevid"),
        "tpm": TpmKeys(tmp_path / "keys", tcti="swtpm:host=127.0.0.1,port=2321"),
    }
    slots, pins, root = tmp_path / "slots", tmp_path / "pins.pem", tmp_path / "root.json"
    config = AgentConfig(
        device_id="cam-1",
        server="https://[::1]:9443",
        mqtt="[::1]:8883",
        ca_file=tmp_path / "root.pem",
        state_dir=tmp_path / "a folder\\with\u007f odd\tname",
        claim_file=tmp_path / "claim",
        keys=choices[kind],
        sections=(
            Firmware(slots, "camera", pins, root, command=("{python}", "-I", "{image}")),
            Video("test"),
        ),
    )
    found = parse_agent_config(render_agent_config(config), source=tmp_path / "agent.toml", sections=SECTIONS)
    assert found == config
    assert found.mqtt_address == ("::1", 8883)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('device_id = "cam-1"', 'device_id = "cam.1"', "device id"),
        ('device_id = "cam-1"', "", "device_id"),
        ('"https://localhost:9443"', '"http://localhost:9443"', "server: expected https://host:port"),
        ('"https://localhost:9443"', '"https://localhost:9443/api"', "server"),
        ('"localhost:8883"', '"localhost"', "mqtt: expected host:port"),
        ('"localhost:8883"', '"localhost:99999"', "mqtt"),
        ('ca_file = "root.pem"', "ca_file = 7", "ca_file"),
        ('ca_file = "root.pem"', 'ca_file = ""', "ca_file"),
        ('kind = "software"', 'kind = "paper"', "keys"),
        ('kind = "software"', 'kind = "tpm"\nmodule = "x"', "module"),
        ("[keys]", "surprise = 1\n[keys]", "surprise: expected a setting this agent knows"),
        ("[keys]", "sections = []\n[keys]", "sections: expected a setting this agent knows"),
        (
            "[keys]",
            "[privacy]\n[keys]",
            "privacy: expected a section this agent knows (firmware, keys",
        ),
        ("[keys]", '[video]\nsauce = "test"\n[keys]', "video: Object contains unknown field `sauce`"),
        ("[keys]", "[video]\n[keys]", "video: Object missing required field `source`"),
        ("[keys]", "[video]\nsource = 7\n[keys]", "video.source: Expected `str`"),
        ("[keys]", "video = 7\n[keys]", "video: Expected `object`"),
        ("[keys]", '[telemetry]\ninterval = "soon"\n[keys]', "telemetry.interval: expected a duration"),
        ("[keys]", "[spool]\nmax_bytes = 1\n[keys]", "spool.max_bytes: expected at least 65536"),
        ("[keys]", 'log_level = "loud"\n[keys]', "log_level"),
        ("[keys]", "[keys", "expected TOML"),
    ],
)
def test_a_wrong_setting_is_named_with_its_file(old: str, new: str, said: str) -> None:
    with pytest.raises(ConfigError) as refused:
        parse(MINIMAL.replace(old, new))
    assert str(refused.value).startswith("/etc/fleetward/agent.toml: ")
    assert said in refused.value.message
    assert "\n" not in str(refused.value) or "TOML" in said


def write(folder: Path, text: str = MINIMAL) -> Path:
    (folder / "root.pem").write_text("root")
    path = folder / "agent.toml"
    path.write_text(text)
    return path


def test_a_missing_file_and_a_missing_root_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"agent\.toml: expected the agent's settings"):
        load_agent_config(tmp_path / "agent.toml")
    path = write(tmp_path)
    assert load_agent_config(path).device_id == "cam-1"
    (tmp_path / "root.pem").unlink()
    with pytest.raises(ConfigError, match="ca_file"):
        load_agent_config(path)


def test_a_claim_that_others_may_read_is_refused_with_the_way_out(tmp_path: Path) -> None:
    path = write(tmp_path, MINIMAL.replace("[keys]", 'claim_file = "claim"\n[keys]'))
    claim = tmp_path / "claim"
    claim.write_text("token\n")
    claim.chmod(0o644)
    with pytest.raises(ConfigError) as refused:
        load_agent_config(path)
    assert "claim_file" in refused.value.message
    assert refused.value.hint == f"chmod 600 {claim}"
    assert "token" not in str(refused.value)
    claim.chmod(0o600)
    assert load_agent_config(path).claim_file == claim
    assert read_secret(claim) == "token"
    assert read_secret(tmp_path / "no such file") is None


@given(st.binary(max_size=400))
def test_junk_is_refused_by_one_family_of_errors(content: bytes) -> None:
    try:
        parse_agent_config(content, source=Path("agent.toml"), sections=SECTIONS)
    except ConfigError:
        return


@given(st.text(min_size=1).filter(lambda text: "\0" not in text and "/" not in text))
def test_any_path_survives_rendering(name: str) -> None:
    config = parse(MINIMAL)
    odd = AgentConfig(
        device_id=config.device_id,
        server=config.server,
        mqtt=config.mqtt,
        ca_file=Path("/x") / name,
        state_dir=config.state_dir,
        keys=config.keys,
    )
    found = parse_agent_config(render_agent_config(odd), source=Path("/a/b.toml"), sections=SECTIONS)
    assert found.ca_file == odd.ca_file
