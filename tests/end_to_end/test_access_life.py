"""From the setup link that `fleetward up` prints to a command line that is signed in, over real HTTPS."""

import json
import os
import re
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from support.platform import Platform, running_platform
from support.updates import SBOM
from support.visitors import Person, person


@dataclass
class CommandLine:
    """`fleetward` of one user, elsewhere: it has no data folder."""

    platform: Platform
    home: Path
    more: dict[str, str] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        clean = {name: value for name, value in os.environ.items() if not name.startswith("FLEETWARD_")}
        return {**clean, "XDG_CONFIG_HOME": str(self.home), **self.more}

    def run(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "fleetward", *arguments]
        done = subprocess.run(
            command, capture_output=True, text=True, env=self.environment, timeout=60, check=False
        )
        assert not check or done.returncode == 0, done.stderr
        return done

    def run_json(self, *arguments: str) -> Any:
        return json.loads(self.run(*arguments, "--json").stdout)

    def log_in(self, approver: Person) -> Any:
        """Run `fleetward login` while somebody approves it in their browser."""
        where = ("--server", self.platform.ready["console"], "--ca-file", str(self.platform.ca_file))
        return self.run_approved(approver, *where, "login")

    def run_approved(self, approver: Person, *arguments: str) -> Any:
        """Run a command that asks to be approved, while somebody does."""
        command = [sys.executable, "-m", "fleetward", *arguments, "--json"]
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=self.environment
        ) as process:
            assert process.stderr is not None
            shown = json.loads(process.stderr.readline())
            assert "device_code" not in shown
            approver.post(f"/device-codes/{shown['user_code']}/approve", status=204)
            out, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
        return json.loads(out)


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    with running_platform(tmp_path_factory.mktemp("access")) as running:
        yield running


@pytest.fixture(scope="module")
def ada(platform: Platform) -> Iterator[Person]:
    with person(platform) as found:
        assert len(found.set_up("ada")["recovery_codes"]) == 10
        yield found


@pytest.fixture
def line(platform: Platform, tmp_path: Path) -> CommandLine:
    return CommandLine(platform, tmp_path / "config")


def test_the_printed_link_makes_the_first_operator_and_is_void_after(platform: Platform, ada: Person) -> None:
    assert ada.http.get("/api/v1/setup").json() == {"open": False}
    failed = platform.run("operator", "setup-link", check=False)
    assert failed.returncode == 1
    assert "expected no operator yet" in failed.stderr
    assert [one["name"] for one in platform.run_json("operator", "list")] == ["ada"]


def test_a_command_line_signs_in_acts_and_signs_out(line: CommandLine, ada: Person) -> None:
    assert line.log_in(ada)["operator"] == "ada"
    token_file = next(line.home.glob("fleetward/*/token.json"))
    assert stat.S_IMODE(token_file.stat().st_mode) == 0o600
    assert stat.S_IMODE(token_file.parent.stat().st_mode) == 0o700
    me = line.run_json("whoami")
    assert (me["name"], me["via"]) == ("ada", "token")
    assert line.run_json("device", "list") == []
    made = line.run_approved(ada, "token", "create", "ci", "--scope", "device.read", "--expires-in", "1d")
    assert made["token"].startswith("fwt_")
    assert [one["name"] for one in line.run_json("token", "list")] == ["ci", me_client(line)]
    program = CommandLine(line.platform, line.home.parent / "other", {"FLEETWARD_TOKEN": made["token"]})
    where = ("--server", line.platform.ready["console"], "--ca-file", str(line.platform.ca_file))
    assert program.run_json(*where, "device", "list") == []
    refused = program.run(*where, "model", "list", check=False)
    assert refused.returncode == 1
    assert line.run_json("token", "revoke", made["id"]) == {"id": made["id"], "revoked": True}
    assert program.run(*where, "device", "list", check=False).returncode == 1
    assert line.run_json("logout")["signed_out"] is True
    assert not token_file.exists()
    assert "found neither" in line.run("whoami", check=False).stderr


def test_a_dangerous_command_asks_once_more_and_goes_on(line: CommandLine, ada: Person) -> None:
    line.log_in(ada)
    first = json.loads(next(line.home.glob("fleetward/*/token.json")).read_bytes())["token"]
    forget_proofs(line.platform)
    invite = ("operator", "invite", "zoe", "--role", "viewer")
    refused = line.run(*invite, check=False)
    assert refused.returncode == 1
    assert "two factors" in refused.stderr
    shown, terminal = os.openpty()
    command = [sys.executable, "-m", "fleetward", *invite, "--json"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=terminal, env=line.environment, text=True
    ) as process:
        os.close(terminal)
        said = ""
        while not (code := re.search(r"/activate\?code=([A-Z-]+)", said)):
            said += os.read(shown, 4096).decode()
        ada.post(f"/device-codes/{code[1]}/approve", status=204)
        out, _ = process.communicate(timeout=60)
    os.close(shown)
    assert process.returncode == 0, said
    assert json.loads(out)["name"] == "zoe"
    assert "two factors given within the last five minutes" in said
    kept = json.loads(next(line.home.glob("fleetward/*/token.json")).read_bytes())["token"]
    assert kept != first, "the renewed one is kept"
    where = ("--server", line.platform.ready["console"], "--ca-file", str(line.platform.ca_file))
    old = CommandLine(line.platform, line.home.parent / "old", {"FLEETWARD_TOKEN": first})
    assert old.run(*where, "whoami", check=False).returncode == 1, "the one before is revoked"


def forget_proofs(platform: Platform) -> None:
    """Make it long ago that anybody gave two factors for a command line."""
    with closing(sqlite3.connect(platform.data / "db/fleetward.sqlite3", timeout=30)) as conn, conn:
        conn.execute("UPDATE access_tokens SET mfa_at = 1")


def me_client(line: CommandLine) -> str:
    """Return what the signed-in command line is called: it names user and machine."""
    return next(str(one["name"]) for one in line.run_json("token", "list") if one["kind"] == "cli")


def test_people_are_invited_and_disabled_by_command_line(line: CommandLine, ada: Person) -> None:
    line.log_in(ada)
    invited = line.run_json("operator", "invite", "bob", "--role", "viewer@lab", "--display-name", "Bob")
    with person(line.platform) as bob:
        bob.accept(invited["link"])
        assert bob.http.get("/api/v1/me").json()["display_name"] == "Bob"
        assert line.run_json("operator", "disable", "bob", "--reason", "left")["state"] == "disabled"
        assert bob.http.get("/api/v1/me").status_code == 401
    assert line.run_json("operator", "enable", "bob")["state"] == "active"
    assert "viewer@lab" in line.run("operator", "list").stdout
    link = line.run_json("operator", "recover", "bob")["link"]
    assert "/invitation#" in link


def test_a_token_file_open_to_others_is_refused(line: CommandLine, ada: Person) -> None:
    line.log_in(ada)
    token_file = next(line.home.glob("fleetward/*/token.json"))
    token_file.chmod(0o644)
    failed = line.run("whoami", check=False)
    assert failed.returncode == 1
    assert "chmod 600" in failed.stderr


def test_a_password_on_the_command_line_does_not_exist(line: CommandLine) -> None:
    for command in ("login", "operator", "token"):
        assert "password" not in line.run(command, "--help").stdout.lower().replace(
            "no password is typed", ""
        )


def test_no_secret_is_in_the_platforms_log(platform: Platform, ada: Person, line: CommandLine) -> None:
    line.log_in(ada)
    token = json.loads(next(line.home.glob("fleetward/*/token.json")).read_text())["token"]
    log = platform.log.read_text()
    for secret in (token, ada.csrf, *ada.http.cookies.values()):
        assert secret not in log


def test_firmware_reviews_and_emergencies_take_several_people(
    platform: Platform, line: CommandLine, ada: Person, tmp_path: Path
) -> None:
    def newcomer(name: str, role: str) -> CommandLine:
        link = line.run_json("operator", "invite", name, "--role", role)["link"]
        theirs = CommandLine(platform, tmp_path / name)
        with person(platform) as browser:
            browser.accept(link)
            theirs.log_in(browser)
        return theirs

    line.log_in(ada)
    rita, olga = newcomer("rita", "release-manager"), newcomer("olga", "security-officer")
    line.run_json("model", "add", "lamp", "--attestation", "none")
    image, sbom = tmp_path / "lamp.bin", tmp_path / "sbom.json"
    image.write_bytes(b"firmware")
    sbom.write_bytes(SBOM)
    handed_in = platform.run_json(
        "release", "publish", str(image), "--model", "lamp", "--version", "1.0.0", "--sbom", str(sbom)
    )
    assert (handed_in["state"], handed_in["approvals_needed"]) == ("pending", 2)
    assert platform.run("release", "approve", "lamp", "1.0.0", check=False).returncode == 1
    assert rita.run_json("release", "approve", "lamp", "1.0.0")["state"] == "pending"
    published = olga.run_json("release", "approve", "lamp", "1.0.0")
    assert (published["state"], len(published["approvals"])) == ("published", 2)

    review = olga.run_json("review", "start", "Spring")
    for item in review["items"]:
        decider = line if item["operator"] == "olga" else olga
        verdict = "remove" if item["operator"] == "rita" else "keep"
        decider.run_json("review", "decide", review["id"], item["grant_id"], verdict)
    assert olga.run_json("review", "close", review["id"])["state"] == "closed"
    evidence = tmp_path / "review.json"
    olga.run("review", "show", review["id"], "--evidence", str(evidence))
    outcomes = {
        one["operator"]: one["outcome"] for one in json.loads(evidence.read_text())["review"]["items"]
    }
    assert (outcomes["rita"], outcomes["ada"]) == ("removed", "kept")
    assert rita.run("release", "list", check=False).returncode == 1

    glass = olga.run_json("break-glass", "request", "--reason", "lamps answer to a stranger")
    assert olga.run("break-glass", "approve", glass["id"], check=False).returncode == 1
    assert line.run_json("break-glass", "approve", glass["id"])["state"] == "active"
    olga.run_json("break-glass", "end", glass["id"])
    assert "not yet" in olga.run("review", "start", "Again", check=False).stderr
    findings = ("--findings", "nothing was changed with it")
    assert line.run_json("break-glass", "review", glass["id"], *findings)["state"] == "reviewed"
    assert platform.wait_for_event("break_glass.approved")["severity"] == "critical"
