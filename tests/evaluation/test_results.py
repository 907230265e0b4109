"""Which metrics count, and what failures are called."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from gridtune_common.protocol import FailureCause
from gridtune_evaluation.testing import FakeSteering, make_lease, make_payload
from payload_scripts import fail_of, report, result, run_agent, steps, tell_of, write


def test_result_file_counts_first(tmp_path: Path) -> None:
    """With a result file, reports and output do not matter."""
    command = steps(report(step=1, loss=5), "echo loss=6", result(loss=4, auc=0.9))

    word = tell_of(tmp_path, command, result={"stdout": {"loss": r"loss=(\S+)"}})

    assert word.metrics == {"loss": 4.0, "auc": 0.9}
    assert (word.exit_code, word.output_tail) == (0, "loss=6\n")


def test_result_file_can_have_another_name(tmp_path: Path) -> None:
    """payload.result.file names the result file."""
    word = tell_of(tmp_path, result("out.json", loss=4), result={"file": "out.json"})

    assert word.metrics == {"loss": 4.0}


def test_a_lone_objective_may_be_called_loss(tmp_path: Path) -> None:
    """{"loss": x} is understood whatever the objective's name."""
    word = tell_of(tmp_path, result(loss=4), objectives=["val_error"])

    assert word.metrics == {"val_error": 4.0}


def test_one_of_several_objectives_may_not_be_called_loss(tmp_path: Path) -> None:
    """With two objectives nobody knows which one is the loss."""
    word = fail_of(tmp_path, result(loss=4, size=1), objectives=["val_error", "size"])

    assert word.cause is FailureCause.INVALID_RESULT
    assert "val_error is missing; metrics there: loss, size" in word.message


def test_last_report_counts_without_a_result_file(tmp_path: Path) -> None:
    """The last report that has all objectives is the result."""
    command = steps(report(loss=5, auc=0.1), report(loss=4, auc=0.2), report(auc=0.3))

    word = tell_of(tmp_path, command)

    assert word.metrics == {"loss": 4.0, "auc": 0.2}


def test_reports_travel_with_the_result(tmp_path: Path) -> None:
    """Reports that were not sent yet come with the last word."""
    word = tell_of(tmp_path, report(step=1, loss=5))

    assert [(item.step, item.metrics) for item in word.reports] == [(1, {"loss": 5.0})]


def test_output_counts_last(tmp_path: Path) -> None:
    """The last match of a regular expression on the output is the result."""
    command = "echo 'epoch 1 loss=5.0'; echo 'epoch 2 loss=4.5'; echo 'auc: 9e-1'"

    word = tell_of(tmp_path, command, result={"stdout": {"loss": r"loss=(\S+)", "auc": r"^auc: (.*)$"}})

    assert word.metrics == {"loss": 4.5, "auc": 0.9}


def test_what_is_no_number_is_no_metric(tmp_path: Path) -> None:
    """Texts, booleans and objects in a result file are left out; NaN beside the objective is null."""
    text = '{"loss": 1, "note": "x", "good": true, "more": {"a": 1}, "other": NaN}'

    assert tell_of(tmp_path, write(text)).metrics == {"loss": 1.0, "other": None}


def test_no_result_says_which_ways_exist(tmp_path: Path) -> None:
    """A payload that leaves nothing is told how to leave a result for its objective."""
    word = fail_of(tmp_path, "true", objectives=["val_loss"])

    assert word.cause is FailureCause.NO_RESULT
    for way in ('{"val_loss": 0.2} to output.json', "reports.jsonl", "gridtune.result(val_loss=0.2)", "stdout"):
        assert way in word.message


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", "null", "1e999"])
def test_objective_must_be_finite(tmp_path: Path, value: str) -> None:
    """An objective that is not a finite number is no result."""
    word = fail_of(tmp_path, write(f'{{"loss": {value}, "auc": 1}}'))

    assert word.cause is FailureCause.INVALID_RESULT
    assert word.message == "output.json: loss is not a finite number; metrics there: loss, auc"


def test_diverged_training_is_not_given_an_earlier_value(tmp_path: Path) -> None:
    """A last report with NaN is an invalid result, whatever came before."""
    command = steps(report(loss=1), report(loss=math.nan))

    assert fail_of(tmp_path, command).cause is FailureCause.INVALID_RESULT


@pytest.mark.parametrize(
    ("text", "flaw"), [("{", "is not JSON"), ("[1]", "is not an object"), ("3", "is not an object")]
)
def test_broken_result_file_is_invalid(tmp_path: Path, text: str, flaw: str) -> None:
    """A result file that cannot be read is an invalid result, not a missing one."""
    word = fail_of(tmp_path, write(text))

    assert word.cause is FailureCause.INVALID_RESULT
    assert flaw in word.message


@pytest.mark.parametrize("status", ['"failed"', '"Error"', "1", "-3"])
def test_payload_can_say_that_it_failed(tmp_path: Path, status: str) -> None:
    """A status of failure in the result file fails the point with the payload's message."""
    text = f'{{"loss": 1, "status": {status}, "message": "no data"}}'

    word = fail_of(tmp_path, write(text))

    assert (word.cause, word.message) == (FailureCause.REPORTED, "no data")


@pytest.mark.parametrize("status", ['"ok"', '"success"', "0", "null", "true"])
def test_any_other_status_is_fine(tmp_path: Path, status: str) -> None:
    """Other statuses do not matter, and are no metrics."""
    assert tell_of(tmp_path, write(f'{{"loss": 1, "status": {status}}}')).metrics == {"loss": 1.0}


def test_exit_code_fails_the_point(tmp_path: Path) -> None:
    """A code other than 0 is a failure even with a result; its last line says why."""
    word = fail_of(tmp_path, steps(result(loss=1), "echo working", "echo 'out of luck' >&2", "exit 7"))

    assert (word.cause, word.exit_code) == (FailureCause.EXIT_CODE, 7)
    assert word.message == "ended with exit code 7: out of luck"
    assert word.output_tail == "working\nout of luck\n"


def test_output_tail_is_short_and_clean(tmp_path: Path) -> None:
    """The end of the output travels as text that any database takes, whatever was printed."""
    word = fail_of(tmp_path, r"head -c 20000 /dev/zero; printf '\377\000end'; exit 1")

    assert len(word.output_tail) == 8192
    assert word.output_tail.endswith("\N{REPLACEMENT CHARACTER}" * 2 + "end")
    assert "\0" not in word.output_tail


@pytest.mark.parametrize("how", ["kill -9 $$", "sh -c 'kill -9 $$'; exit $?"])
def test_a_killed_payload_names_the_signal(tmp_path: Path, how: str) -> None:
    """A payload killed from outside, itself or below a shell, fails by that signal."""
    word = fail_of(tmp_path, how)

    assert (word.cause, word.exit_code) == (FailureCause.SIGNAL, 137)
    assert word.message.startswith("killed by SIGKILL")


def test_unknown_command_fails_with_the_shells_words(tmp_path: Path) -> None:
    """A command that does not exist is reported as the shell puts it."""
    word = fail_of(tmp_path, "no-such-program")

    assert word.exit_code == 127
    assert "no-such-program" in word.message


def test_shipped_file_is_no_result(tmp_path: Path) -> None:
    """A file of the task that is called like the result is not taken for one."""
    files = {"output.json": b'{"loss": 1}'}
    fake = FakeSteering(make_payload("true", files=files), [make_lease()], files=files)

    run_agent(fake, tmp_path)

    [(_, word)] = fake.ends
    assert getattr(word, "cause", None) is FailureCause.NO_RESULT


def test_unusable_metrics_become_a_failure(tmp_path: Path) -> None:
    """When steering cannot use the metrics, the point fails with steering's words."""
    fake = FakeSteering(make_payload(result(loss=1)), [make_lease()])
    fake.refuse("tell", 422, "metrics.loss: must be below 1")

    run_agent(fake, tmp_path)

    [(_, word)] = fake.ends
    assert getattr(word, "cause", None) is FailureCause.INVALID_RESULT
    assert getattr(word, "message", None) == "metrics.loss: must be below 1"
