"""7.14: the demo's story shows what devices and servers say as the command line does."""

import pytest

from fleetward.programs.simulator.narrator import Narrator


def test_the_story_shows_what_a_terminal_would_obey_as_marks(capsys: pytest.CaptureFixture[str]) -> None:
    narrator = Narrator(as_json=False)
    with narrator.step("boot", "Boot") as step:
        step.result = "version 1\x1b]0;owned\x07\u202e"
    narrator.say("said \x1b[2J")

    told = capsys.readouterr().out

    assert "version 1\\x1b]0;owned\\x07\\u202e" in told
    assert "said \\x1b[2J" in told
    assert "\x1b]" not in told
    assert "\x07" not in told
    assert "\u202e" not in told
