"""How payloads are asked to leave, and what becomes of their points."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from gridtune_common.protocol import Advice, FailureCause, Release, ReleaseCause, Tell
from gridtune_evaluation.slot import End
from gridtune_evaluation.steering import Final
from gridtune_evaluation.testing import FakeSteering, make_lease, make_payload
from payload_scripts import agent_running, fail_of, python, report, result, steps, tell_of

#: Waits until it is told to leave, by SIGTERM.
WAIT = 'trap "leave; exit 0" TERM; while :; do sleep 0.02; done'


def waiting(*last_words: str) -> str:
    """A payload that reports that it runs, waits for SIGTERM and then says its last words."""
    return steps(report(step=1, loss=5), f"leave() {{ :; {steps(*last_words, ':')}; }}", WAIT)


def after_advice(work: Path, command: str, advice: Advice, **payload: Any) -> Final:
    """The last word about a payload that runs until steering says *advice*."""
    fake = FakeSteering(make_payload(command, **payload), [make_lease(heartbeat_seconds=0.1)])
    with agent_running(fake, work):
        fake.wait_until(lambda fake: bool(fake.reports))
        fake.advise(advice, "enough")
        fake.wait_until(lambda fake: bool(fake.ends))
    [(_, word)] = fake.ends
    return word


def after_shutdown(work: Path, command: str, **payload: Any) -> Final:
    """The last word about a payload that runs until the agent is asked to end."""
    fake = FakeSteering(make_payload(command, **payload), [make_lease()])
    with agent_running(fake, work):
        fake.wait_until(lambda fake: bool(fake.reports))
    [(_, word)] = fake.ends
    return word


@pytest.mark.parametrize("advice", [Advice.STOP, Advice.LOST])
def test_a_stopped_payload_is_released(tmp_path: Path, advice: Advice) -> None:
    """When steering wants no result, the payload gets SIGTERM and its point goes back."""
    word = after_advice(tmp_path, waiting(), advice)

    assert isinstance(word, Release)
    assert word.cause is ReleaseCause.STOPPED
    assert word.message.endswith(": enough")


def test_a_stopped_payload_finds_the_stop_file(tmp_path: Path) -> None:
    """`stop` appears in the control folder before SIGTERM does."""
    seen = tmp_path / "seen"

    after_advice(tmp_path / "work", waiting(f'test -e "$GRIDTUNE_DIR/stop" && touch {seen}'), Advice.STOP)

    assert seen.exists()


@pytest.mark.parametrize("advice", [Advice.STOP, Advice.LOST])
def test_a_result_within_grace_is_told(tmp_path: Path, advice: Advice) -> None:
    """A payload that still finishes with a whole result is welcome."""
    word = after_advice(tmp_path, waiting(result(loss=3)), advice)

    assert isinstance(word, Tell)
    assert word.metrics == {"loss": 3.0}


def test_a_lost_evaluation_says_no_more_reports(tmp_path: Path) -> None:
    """After a lost lease reports are nobody's business."""
    word = after_advice(tmp_path, waiting(report(step=2, loss=4)), Advice.LOST)

    assert word.reports == []


def test_a_stubborn_payload_is_killed(tmp_path: Path) -> None:
    """A payload that ignores SIGTERM is killed after its grace."""
    command = steps('trap "" TERM', report(step=1, loss=5), "while :; do sleep 0.02; done")
    began = time.monotonic()

    word = after_advice(tmp_path, command, Advice.STOP, grace="1s")

    assert isinstance(word, Release)
    assert 1 < time.monotonic() - began < 8


def test_shutdown_releases_the_point(tmp_path: Path) -> None:
    """An agent that ends gives its points back and says that it leaves; a last report is no result then."""
    word = after_shutdown(tmp_path, waiting(report(step=2, loss=4)))

    assert isinstance(word, Release)
    assert (word.cause, word.leaving) == (ReleaseCause.SHUTDOWN, True)
    assert [item.step for item in word.reports] == [2]


def test_a_result_at_shutdown_is_told(tmp_path: Path) -> None:
    """A payload that leaves a whole result on its way out has finished."""
    word = after_shutdown(tmp_path, waiting(result(loss=3)))

    assert isinstance(word, Tell)
    assert word.leaving


@pytest.mark.parametrize("last_words", ["exit 1", "kill -9 $$", 'echo "{" > output.json'])
def test_leaving_badly_is_no_failure(tmp_path: Path, last_words: str) -> None:
    """However a payload ends that was asked to leave: without a whole result, its point goes back."""
    word = after_shutdown(tmp_path, waiting(last_words))

    assert isinstance(word, Release)
    assert word.cause is ReleaseCause.SHUTDOWN


def test_second_signal_kills_at_once(tmp_path: Path) -> None:
    """Asked twice, the agent does not wait for the grace."""
    command = steps('trap "" TERM', report(step=1, loss=5), "while :; do sleep 0.02; done")
    fake = FakeSteering(make_payload(command, grace="60s"), [make_lease()])
    with agent_running(fake, tmp_path) as agent:
        fake.wait_until(lambda fake: bool(fake.reports))
        agent.shutdown.request()
        agent.shutdown.request()

        assert agent.join() is End.SHUTDOWN

    assert [type(word) for _, word in fake.ends] == [Release]


def test_signal_for_both_is_no_failure(tmp_path: Path) -> None:
    """A payload killed by SIGTERM a moment before its agent gets the same signal is released."""
    fake = FakeSteering(make_payload(steps(report(step=1, loss=5), "echo $$ > pid", "exec sleep 60")), [make_lease()])
    with agent_running(fake, tmp_path) as agent:
        fake.wait_until(lambda fake: bool(fake.reports))
        os.kill(int((tmp_path / "t1/0-1-e0-1/pid").read_text()), signal.SIGTERM)
        time.sleep(0.3)
        agent.shutdown.request()
        agent.join()

    assert [type(word) for _, word in fake.ends] == [Release]


def test_termination_from_outside_is_a_failure(tmp_path: Path) -> None:
    """SIGTERM from somebody else, without the agent's end, is a failure by signal."""
    word = fail_of(tmp_path, python("import os; os.kill(os.getpid(), 15)"))

    assert word.cause is FailureCause.SIGNAL
    assert word.message.startswith("killed by SIGTERM")


def test_timeout_fails_the_point(tmp_path: Path) -> None:
    """A payload that runs longer than payload.timeout is ended, and its point has failed."""
    word = fail_of(tmp_path, "sleep 60", timeout="1s")

    assert (word.cause, word.message) == (FailureCause.TIMEOUT, "ran longer than payload.timeout (1 s)")


def test_result_at_the_timeout_is_told(tmp_path: Path) -> None:
    """A payload that uses its grace to leave a result has one."""
    command = steps(f"leave() {{ {result(loss=3)}; }}", WAIT)

    assert tell_of(tmp_path, command, timeout="1s").metrics == {"loss": 3.0}


def test_a_program_that_handles_sigterm_gets_its_grace(tmp_path: Path) -> None:
    """Though the shell around it gets the signal, too; and the program's own exit code counts."""
    code = (
        "import json, os, signal, time; going = []; signal.signal(signal.SIGTERM, lambda *_: going.append(1)); "
        "open(os.environ['GRIDTUNE_DIR'] + '/reports.jsonl', 'a').write(json.dumps({'step': 1, 'loss': 1}) + chr(10))\n"
        "while not going: time.sleep(0.01)\n"
        "time.sleep(0.7); open('output.json', 'w').write(json.dumps({'loss': 3}))"
    )

    word = after_shutdown(tmp_path, steps(python(code), result(loss=4)))

    assert isinstance(word, Tell)
    assert word.metrics == {"loss": 3.0}  # and nothing after it was begun
