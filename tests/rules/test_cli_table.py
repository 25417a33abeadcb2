"""A table fits the terminal it is shown on, and is whole for everybody else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetward.programs.cli.table import fit, lay_out, render_plain, width_of

CELL = st.text(st.characters(exclude_categories=["C"]), max_size=40)
TABLES = st.integers(1, 5).flatmap(
    lambda columns: st.tuples(
        st.lists(st.text("ABC", min_size=1, max_size=12), min_size=columns, max_size=columns),
        st.lists(st.lists(CELL, min_size=columns, max_size=columns), max_size=6),
    )
)


@given(TABLES, st.integers(10, 120))
def test_no_line_is_wider_than_the_terminal(table: tuple[list[str], list[list[str]]], width: int) -> None:
    headings, rows = table
    laid = lay_out(headings, rows, width)
    assert len(laid.lines) == len(rows) + 1
    widths = {tuple(width_of(cell) for cell in line) for line in laid.lines}
    assert len(widths) == 1, "columns are straight"
    (columns,) = widths
    assert sum(columns) + 2 * (len(columns) - 1) <= width
    assert [*headings[: len(columns)], *laid.left_out] == headings


@given(TABLES)
def test_what_has_room_is_shown_whole(table: tuple[list[str], list[list[str]]]) -> None:
    headings, rows = table
    laid = lay_out(headings, rows, 1_000)
    assert laid.left_out == []
    assert [[cell.rstrip() for cell in line] for line in laid.lines] == [
        [cell.rstrip() for cell in row] for row in (headings, *rows)
    ]


def test_the_widest_is_shortened_in_the_middle_and_the_name_last() -> None:
    laid = lay_out(["Device", "Model", "Why"], [["cam-0000000001", "camera", "w" * 60 + "end"]], 50)
    name, model, why = laid.lines[1]
    assert (name, model.rstrip()) == ("cam-0000000001", "camera")
    assert why.startswith("ww")
    assert why.rstrip().endswith("end")
    assert "…" in why


def test_one_long_name_does_not_fold_every_row() -> None:
    rows = [["d" * 64, "camera"], *([f"cam-{number}", "camera"] for number in range(217))]
    laid = lay_out(["Device", "Model"], rows, 80)
    assert len(laid.lines) == 219
    assert laid.lines[1][0] == "d" * 64, "it fits beside the model"
    narrow = lay_out(["Device", "Model"], rows, 40)
    assert narrow.lines[1][0].startswith("ddd")
    assert "…" in narrow.lines[1][0]
    assert narrow.lines[2][0].rstrip() == "cam-0"


def test_columns_are_left_out_from_the_right_when_nothing_else_helps() -> None:
    laid = lay_out([f"Heading-{one}" for one in "abcd"], [["x" * 20] * 4], 30)
    assert laid.left_out == ["Heading-d"]
    assert len(laid.lines[0]) == 3


@pytest.mark.parametrize(
    ("text", "width", "shown"),
    [
        ("abcdef", 6, "abcdef"),
        ("abcdef", 8, "abcdef  "),
        ("abcdef", 5, "ab…ef"),
        ("abcdef", 4, "ab…f"),
        ("abcdef", 1, "…"),
        ("漢字漢字", 5, "漢…字"),
        ("漢字漢字", 4, "漢… "),
        ("e\u0301e\u0301", 2, "e\u0301e\u0301"),
    ],
)
def test_a_cell_takes_exactly_its_width(text: str, width: int, shown: str) -> None:
    assert fit(text, width) == shown
    assert width_of(shown) == width


def test_another_program_gets_whole_cells_between_tabs() -> None:
    long = "d" * 300
    assert list(render_plain(["Device", "Why"], [[long, "a b"]])) == ["Device\tWhy", f"{long}\ta b"]
