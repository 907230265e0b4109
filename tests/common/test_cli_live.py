"""The live view: what is drawn for a view, to the letter, and how it is drawn again."""

import io
from dataclasses import replace

import pytest

from gridtune_common.cli import live, screen
from gridtune_common.cli.output import Style
from gridtune_common.protocol import PointCounts, TaskState

VIEW = live.View(
    name="digits-mlp",
    id="t2t2t2t2",
    state=TaskState.RUNNING,
    counts=PointCounts(ready=2, running=3, done=11, failed=1),
    objective="val_loss",
    goal="minimize",
    budget=24,
    elapsed_seconds=130.0,
    eta_seconds=125.0,
    best=0.02134217,
    best_point=7,
    best_parameters={"learning_rate": 0.01, "layers": 3},
    curve=(0.5, 0.4, 0.4, 0.1, 0.02134217),
    running=(
        live.RunningPoint(12, "node-1/0", 12.3, "val_loss=0.31 at step 4"),
        live.RunningPoint(13, "node-10/0", 75.0),
    ),
    failures=(live.FailedPoint(5, "exit code 1: ValueError: no data"),),
)


def test_a_running_task_is_drawn_whole() -> None:
    """Everything there is to see, aligned."""
    assert live.render(VIEW, 80) == [
        "digits-mlp  t2t2t2t2  running",
        "█████████████░░░░░░░░░░░░░  11/24 done, 3 running, 2 ready, 1 failed",
        "2m10s elapsed, about 2m5s left",
        "best val_loss 0.0213422 at point 7  learning_rate=0.01 layers=3",
        "███▄▁  0.5 → 0.0213422",
        "  running   worker     time   latest",
        "  point 12  node-1/0   12s    val_loss=0.31 at step 4",
        "  point 13  node-10/0  1m15s",
        "  and 1 more",
        "  point 5 failed: exit code 1: ValueError: no data",
    ]


def test_a_terminal_without_unicode_gets_ascii() -> None:
    """No character beyond ASCII is drawn where it could not be shown."""
    lines = live.render(VIEW, 80, Style(unicode=False))

    assert all(line.isascii() for line in lines)
    assert lines[1].startswith("#############.............  11/24 done")
    assert lines[4] == "###=_  0.5 -> 0.0213422"


@pytest.mark.parametrize("width", [10, 20, 40, 60])
@pytest.mark.parametrize("style", [Style(), Style(unicode=False)], ids=["unicode", "ascii"])
def test_no_line_is_wider_than_the_terminal(width: int, style: Style) -> None:
    """Whatever the width, lines are cut rather than wrapped."""
    assert max(map(len, live.render(VIEW, width, style))) <= width


def test_a_task_that_has_just_begun_has_little_to_show() -> None:
    """No result, no budget and no pace: no bar, no curve, no time left."""
    view = live.View(
        "digits", "t2t2t2t2", TaskState.RUNNING, PointCounts(ready=1), "loss", "minimize", elapsed_seconds=0.2
    )

    assert live.render(view, 80) == [
        "digits  t2t2t2t2  running",
        "0 done, 1 ready",
        "0.2s elapsed",
        "no value of loss yet",
    ]


def test_an_ended_task_says_why() -> None:
    """The reason stands beside the state, and nothing is left to wait for."""
    view = replace(VIEW, state=TaskState.FINISHED, reason="all 24 points have ended", running=(), failures=())

    lines = live.render(view, 80)

    assert lines[0] == "digits-mlp  t2t2t2t2  finished  all 24 points have ended"
    assert lines[2] == "2m10s elapsed"


def test_a_notice_comes_last() -> None:
    """What is wrong with the view itself stands below it."""
    assert live.render(replace(VIEW, notice="service away, retrying ..."), 80)[-1] == "service away, retrying ..."


def test_a_task_that_fits_nobody_says_why() -> None:
    """On a line of its own, and in the log's line as soon as it is so."""
    why = "none of the 2 workers seen in the last hour fits: gpus is 0, the task requires >= 1"
    view = replace(VIEW, unfit=why)
    stream = io.StringIO()

    with screen.Log(stream) as display:
        display.show(VIEW)
        display.show(view)

    assert live.render(view, 100)[-1] == why
    assert stream.getvalue().splitlines()[1].endswith(f", about 2m5s left, {why}")


def test_colours_are_for_terminals() -> None:
    """With colours, the state is painted and the widths stay."""
    first = live.render(VIEW, 80, Style(colour=True))[0]

    assert first == "\x1b[1mdigits-mlp\x1b[0m\x1b[2m  t2t2t2t2  \x1b[0m\x1b[36mrunning\x1b[0m"


def test_a_name_cannot_steer_the_terminal() -> None:
    """Control characters in what others wrote are taken out."""
    view = replace(VIEW, failures=(live.FailedPoint(5, "\x1b[2Jgone"),), best_parameters={"a": "\x1b[2J"})

    assert not any("\x1b" in line for line in live.render(view, 80))


def test_a_view_is_one_line_in_a_log() -> None:
    """The line has what matters, in ASCII."""
    assert live.one_line(VIEW) == (
        "digits-mlp running: 11/24 done, 3 running, 2 ready, 1 failed, "
        "best val_loss 0.0213422 at point 7, about 2m5s left"
    )


@pytest.mark.parametrize(("n_front", "words"), [(1, "front of 1 point, "), (4, "front of 4 points, ")])
def test_a_front_stands_beside_the_best_value(n_front: int, words: str) -> None:
    """With several objectives, both views tell how many points are on the front."""
    view = replace(VIEW, n_front=n_front)

    assert live.render(view, 80)[3].startswith(f"{words}best val_loss 0.0213422 at point 7")
    assert f", {words}best val_loss 0.0213422 at point 7" in live.one_line(view)


@pytest.mark.parametrize(
    ("values", "drawn"),
    [([1.0], "▁"), ([1.0, 1.0], "▁▁"), ([0.0, 7.0], "▁█"), ([1.0, 10.0, 100.0], "▁▅█"), (range(100), "▁▂▃▄▅▆▇█")],
)
def test_a_sparkline_spans_its_values(values: list[float], drawn: str) -> None:
    """The lowest value is lowest, the highest highest, and many values are thinned evenly."""
    assert live.sparkline(values, 8) == drawn


def test_a_frame_replaces_the_one_before() -> None:
    """The cursor goes up over the old rows; every line and the rest below are cleared behind the new text."""
    assert screen.frame(0, ["a"]) == "a\x1b[K\n\x1b[J"
    assert screen.frame(2, ["a", "b"]) == "\x1b[2Fa\x1b[K\nb\x1b[K\n\x1b[J"


def test_a_narrower_terminal_has_wrapped_the_old_lines() -> None:
    """Rows are counted by the width of today, without escape sequences."""
    assert screen.rows_of(["x" * 80, "\x1b[1mshort\x1b[0m", ""], 40) == 4


def test_the_cursor_comes_back_after_an_error() -> None:
    """However the view is left, the cursor is shown again."""
    stream = io.StringIO()

    def interrupted() -> None:
        with screen.Terminal(stream) as display:
            display.show(VIEW)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()

    assert stream.getvalue().startswith("\x1b[?25l")
    assert stream.getvalue().endswith("\x1b[?25h")


def test_a_log_has_a_line_for_each_piece_of_news() -> None:
    """A view that differs in its clock only is no news."""
    stream = io.StringIO()

    with screen.Log(stream) as display:
        display.show(VIEW)
        display.show(replace(VIEW, elapsed_seconds=131.0))
        display.show(replace(VIEW, counts=PointCounts(done=12)))

    assert [line.split(" ", 1)[1][:30] for line in stream.getvalue().splitlines()] == [
        "digits-mlp running: 11/24 done",
        "digits-mlp running: 12/24 done",
    ]
