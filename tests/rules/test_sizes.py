"""A file fits a head, a function a screen: past that it is split by subject."""

import ast
from pathlib import Path

_SOURCE = Path(__file__).parents[2] / "src" / "fleetward"
_MAX_FILE_LINES, _MAX_FUNCTION_LINES = 400, 60
# A step of the schema is one long list, and is never changed again.
_STEPS = _SOURCE / "migrations" / "versions"


def test_no_file_is_longer_than_four_hundred_lines() -> None:
    found = {path: len(path.read_text().splitlines()) for path in _SOURCE.rglob("*.py")}
    assert len(found) > 300
    assert {str(path): lines for path, lines in found.items() if lines > _MAX_FILE_LINES} == {}


def test_no_function_is_longer_than_sixty_lines() -> None:
    long = {
        f"{path.relative_to(_SOURCE)}:{one.name}": lines
        for path in _SOURCE.rglob("*.py")
        if _STEPS not in path.parents
        for one in ast.walk(ast.parse(path.read_text()))
        if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef)
        and (lines := (one.end_lineno or one.lineno) - one.lineno + 1) > _MAX_FUNCTION_LINES
    }
    assert long == {}
