"""Text for people: tables that fit, and clipping."""

import pytest

from gridtune_common.cli import space, text
from gridtune_common.cli.output import Style

ROWS = [["1", "done", "lr=0.1"], ["10", "failed", "lr=0.001 optimizer=adam"]]


def test_a_table_is_aligned() -> None:
    """Numbers stand to the right, words to the left."""
    assert text.table(["point", "state", "parameters"], ROWS) == [
        "point  state   parameters",
        "    1  done    lr=0.1",
        "   10  failed  lr=0.001 optimizer=adam",
    ]


def test_a_table_fits_its_width() -> None:
    """The last column is cut."""
    assert text.table(["point", "state", "parameters"], ROWS, width=25)[2] == "   10  failed  lr=0.001 …"


def test_states_are_coloured_in_their_column_alone() -> None:
    """A parameter that happens to be called done stays plain."""
    lines = text.table(["state", "parameters"], [["done", "done"]], style=Style(colour=True))

    assert lines[1] == "\x1b[32mdone\x1b[0m   done"


@pytest.mark.parametrize(("width", "clipped"), [(0, ""), (1, "…"), (2, "…"), (3, "点…"), (4, "点点"), (9, "点点")])
def test_wide_characters_count_twice(width: int, clipped: str) -> None:
    """Text is cut by the columns it takes."""
    assert text.clip("点点", width, Style()) == clipped


def test_a_time_that_cannot_be_read_is_a_dash() -> None:
    """A service may send what this client does not know."""
    assert text.local("yesterday") == "-"


@pytest.mark.parametrize(
    ("parameter", "size"),
    [
        ({"type": "float", "low": 0.0, "high": 0.5, "step": 0.05}, "11 points"),
        ({"type": "int", "low": 1, "high": 6}, "6 points"),
        ({"type": "ordinal", "choices": [16, 32, 64], "when": {"a": [1]}}, "at most 3 points"),
    ],
)
def test_the_size_of_a_space_is_counted(parameter: dict[str, object], size: str) -> None:
    """Steps and choices are counted; conditions make it an upper bound."""
    assert space.size({"a": parameter}) == size
