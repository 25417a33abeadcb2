"""What `./dev check` says of code that nobody calls."""

from pathlib import Path

from support.unused import find_complaints, find_unused


def test_what_nobody_calls_is_found_and_a_reason_lets_it_stand(tmp_path: Path) -> None:
    (tmp_path / "one.py").write_text(
        "def called(): ...\ndef alone(): ...\ncalled()\n@router.get('/x')\ndef a_route(): ...\n"
    )
    unused = find_unused(tmp_path)
    assert unused == ["one.py: alone"]
    assert find_complaints(unused, {"one.py: alone": "because"}) == []
    assert len(find_complaints(unused, {"two.py: gone": "because"})) == 2
