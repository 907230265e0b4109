"""Heartbeats and reports while the payload runs."""

from __future__ import annotations

import math
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import cast

import pytest

from gridtune_common.errors import Refused
from gridtune_common.protocol import Advice, Heartbeat, Report, Sign, Signs, Tell, Verdict, Verdicts
from gridtune_evaluation.chorus import Chorus
from gridtune_evaluation.reports import ReportReader
from gridtune_evaluation.steering import Steering
from gridtune_evaluation.testing import FakeSteering, make_lease, make_payload
from payload_scripts import agent_running, payload_file, report, result, run_agent, steps, write


@pytest.fixture
def lines(tmp_path: Path) -> Path:
    """An empty file of reports."""
    path = tmp_path / "reports.jsonl"
    path.touch()
    return path


def add(path: Path, text: str) -> None:
    """Append to a file."""
    with path.open("a", encoding="utf-8") as file:
        file.write(text)


def test_reports_are_read_once(lines: Path) -> None:
    """Each look gives the new lines only."""
    reader = ReportReader(payload_file(lines), ["loss"])

    add(lines, '{"step": 1, "loss": 2}\n')
    first = reader.read()
    add(lines, '{"step": 2, "loss": 1}\n')

    assert first == [Report(1, {"loss": 2.0})]
    assert reader.read() == [Report(2, {"loss": 1.0})]


def test_half_a_line_waits_for_its_end(lines: Path) -> None:
    """A line that is still being written is read when it is whole."""
    reader = ReportReader(payload_file(lines), ["loss"])

    add(lines, '{"step": 1, "lo')
    early = reader.read()
    add(lines, 'ss": 2}\n')

    assert (early, reader.read()) == ([], [Report(1, {"loss": 2.0})])


def test_last_line_needs_no_end(lines: Path) -> None:
    """When the payload has ended, a last line without a newline counts."""
    reader = ReportReader(payload_file(lines), ["loss"])
    add(lines, '{"step": 1, "loss": 2}')

    assert reader.read(ended=True) == [Report(1, {"loss": 2.0})]


def test_no_file_is_no_report(tmp_path: Path) -> None:
    """A payload need not report."""
    assert ReportReader(payload_file(tmp_path / "none"), ["loss"]).read(ended=True) == []


@pytest.mark.parametrize(
    "line", ["nonsense", "[1]", '{"step": "a", "loss": 1}', '{"step": 1.5, "loss": 1}', '{"step": NaN, "loss": 1}']
)
def test_invalid_lines_are_skipped_and_counted(lines: Path, line: str) -> None:
    """What is no report is logged, counted and passed over."""
    reader = ReportReader(payload_file(lines), ["loss"])
    add(lines, f'{line}\n{{"step": 1, "loss": 2}}\n')

    assert reader.read() == [Report(1, {"loss": 2.0})]
    assert reader.n_invalid == 1


def test_steps_count_on_where_they_are_missing(lines: Path) -> None:
    """A line without a step follows the highest one so far."""
    reader = ReportReader(payload_file(lines), ["loss"])
    add(lines, '{"loss": 3}\n{"loss": 2}\n{"step": 10, "loss": 1}\n{"loss": 0}\n')

    assert [item.step for item in reader.read()] == [1, 2, 10, 11]


def test_only_numbers_are_metrics(lines: Path) -> None:
    """Texts and the like are left out, what is not finite is null, and a line without numbers is no report."""
    reader = ReportReader(payload_file(lines), ["loss"])
    add(lines, '{"step": 1, "loss": NaN, "auc": 1, "note": "x", "ok": true}\n{"step": 2, "note": "x"}\n')

    assert reader.read() == [Report(1, {"loss": None, "auc": 1.0})]


def test_reports_arrive_while_the_payload_runs(tmp_path: Path) -> None:
    """Reports are sent before the payload has ended, in order, many at once."""
    command = steps(*(report(step=step, loss=step) for step in (1, 2, 3)), "sleep 1.5", result(loss=0))
    fake = FakeSteering(make_payload(command), [make_lease()])

    run_agent(fake, tmp_path)

    [(evaluation, message)] = fake.reports
    assert (evaluation, message.epoch) == ("e0-1", 1)
    assert [item.step for item in message.reports] == [1, 2, 3]


def test_heartbeats_keep_the_lease(tmp_path: Path) -> None:
    """A payload that reports nothing still shows that its worker lives."""
    fake = FakeSteering(make_payload(steps("sleep 1", result(loss=0))), [make_lease(heartbeat_seconds=0.1)])

    run_agent(fake, tmp_path)

    assert 3 <= len(fake.heartbeats) <= 12


def test_training_goes_on_while_the_service_is_away(tmp_path: Path) -> None:
    """An outage costs no training; what was reported meanwhile arrives with the result."""
    command = steps("sleep 1", report(step=1, loss=2), "sleep 1", result(loss=1))
    fake = FakeSteering(make_payload(command), [make_lease(heartbeat_seconds=0.2)])

    with agent_running(fake, tmp_path):
        fake.wait_until(lambda fake: bool(fake.heartbeats))
        fake.go_away()
        time.sleep(2)
        fake.come_back()
        fake.wait_until(lambda fake: bool(fake.ends))

    [(_, word)] = fake.ends
    assert isinstance(word, Tell)
    assert [item.step for item in fake.reported] == [1]


def test_refused_reports_do_not_stop_the_training(tmp_path: Path) -> None:
    """Reports that steering cannot use are dropped; the evaluation goes on."""
    command = steps(report(step=1, loss=2), "sleep 1", report(step=2, loss=1), "sleep 1")
    fake = FakeSteering(make_payload(command), [make_lease()])
    fake.refuse("report", 422, "metrics: too many")

    run_agent(fake, tmp_path)

    [(_, word)] = fake.ends
    assert isinstance(word, Tell)
    assert [item.step for item in fake.reported] == [2]


def test_evaluation_unknown_to_steering_ends(tmp_path: Path) -> None:
    """When steering does not know the evaluation any more, its lease is lost."""
    fake = FakeSteering(make_payload("exec sleep 60"), [make_lease(heartbeat_seconds=0.1)])
    fake.refuse("heartbeat", 404, "no such evaluation")

    run_agent(fake, tmp_path)

    assert [type(word).__name__ for _, word in fake.ends] == ["Release"]


def test_nan_in_reports_travels_as_null(tmp_path: Path) -> None:
    """A diverged metric is null on the wire."""
    command = steps(report(step=1, loss=1, auc=math.nan), write('{"loss": 1}'))
    fake = FakeSteering(make_payload(command), [make_lease()])

    run_agent(fake, tmp_path)

    assert fake.reported == [Report(1, {"loss": 1.0, "auc": None})]


def test_slots_speak_together(tmp_path: Path) -> None:
    """The signs of life of four slots come in one message, and each slot gets its answer."""
    leases = [make_lease(point, heartbeat_seconds=0.2) for point in range(4)]
    fake = FakeSteering(make_payload("sleep 1.2; echo '{\"loss\": 1}' > output.json"), leases)

    run_agent(fake, tmp_path, slots=4)

    assert [word.metrics for _, word in fake.ends if isinstance(word, Tell)] == [{"loss": 1.0}] * 4
    assert max(fake.signs_together) == 4
    assert len(fake.signs_together) < len(fake.heartbeats)


def test_one_slot_speaks_for_itself(tmp_path: Path) -> None:
    """There is nothing to put together."""
    fake = FakeSteering(
        make_payload("sleep 0.6; echo '{\"loss\": 1}' > output.json"), [make_lease(heartbeat_seconds=0.2)]
    )

    run_agent(fake, tmp_path)

    assert fake.heartbeats
    assert fake.signs_together == []


class Choir:
    """A service to be spoken to by several threads at a time, which refuses what is said together."""

    def __init__(self, status: int) -> None:
        self.status = status
        self.n_together = 0
        self.alone: list[str] = []

    def signs(self, message: Signs) -> Verdicts:
        """Refuse."""
        self.n_together += 1
        raise Refused(self.status, {})

    def heartbeat(self, evaluation: str, message: Heartbeat) -> Verdict:
        """Go on."""
        self.alone.append(evaluation)
        return Verdict(Advice.CONTINUE)


@pytest.mark.parametrize(("status", "n_together"), [(404, 1), (422, 2)])
def test_what_is_refused_together_is_said_alone(status: int, n_together: int) -> None:
    """A service of another version knows no such message; or one slot's reports are bad, and the others' are not."""
    choir = Choir(status)
    steering = cast("Steering", choir)
    chorus = Chorus()

    for _ in range(2):
        with ThreadPoolExecutor(3) as pool:
            verdicts = list(pool.map(lambda name: chorus.say(steering, Sign(name, 1)), ["a", "b", "c"]))
        assert [verdict.advice for verdict in verdicts] == [Advice.CONTINUE] * 3

    assert sorted(choir.alone) == ["a", "a", "b", "b", "c", "c"]
    assert choir.n_together == n_together


def test_a_service_that_is_away_is_away_for_all() -> None:
    """Each slot hears of it and tries again by itself."""
    choir = Choir(503)
    chorus = Chorus()

    def say(name: str) -> str:
        with pytest.raises(Refused):
            chorus.say(cast("Steering", choir), Sign(name, 1))
        return name

    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(say, ["a", "b", "c"])) == ["a", "b", "c"]
    assert choir.alone == []
