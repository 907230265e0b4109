"""How slots ask, and why they end."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from gridtune_common import protocol
from gridtune_common.client import NothingYet
from gridtune_common.errors import GridtuneError, InvalidDocument, Refused, Unreachable
from gridtune_common.protocol import Release
from gridtune_evaluation import workplace
from gridtune_evaluation.agent import Agent, worst_of
from gridtune_evaluation.shutdown import Shutdown
from gridtune_evaluation.slot import End
from gridtune_evaluation.testing import Answer, FakeSteering, make_lease, make_payload
from gridtune_evaluation.workplace import CorruptFile
from payload_scripts import agent_running, result, run_agent, settings, steps


class ForgetfulNetwork(FakeSteering):
    """Loses the answer to the first ask."""

    def ask(self, task: str, message: protocol.Ask) -> Answer:
        """Answer, but not so that anybody hears it."""
        answer = super().ask(task, message)
        if self.n_calls == 2:
            raise Unreachable("the answer was lost")
        return answer


class LateLease(FakeSteering):
    """Hands out its point when the agent has just been asked to end."""

    def __init__(self, shutdown: Shutdown) -> None:
        super().__init__(make_payload("touch began; exec sleep 60"), [make_lease()])
        self._shutdown = shutdown

    def ask(self, task: str, message: protocol.Ask) -> Answer:
        """Answer too late."""
        self._shutdown.request()
        return super().ask(task, message)


def test_task_end_ends_the_agent(tmp_path: Path) -> None:
    """When the task has ended, so has the agent."""
    assert run_agent(FakeSteering(), tmp_path) is End.TASK_ENDED


def test_nothing_yet_is_asked_again(tmp_path: Path) -> None:
    """No point now means asking again a little later, as a new ask."""
    fake = FakeSteering(make_payload(result(loss=1)), [NothingYet(0.05), make_lease()])

    run_agent(fake, tmp_path)

    assert len(fake.ends) == 1
    assert len({ask.request_id for ask in fake.asks}) == 3


def test_lost_answer_is_asked_for_again(tmp_path: Path) -> None:
    """An ask whose answer did not arrive is repeated under its request id, so no lease is lost."""
    fake = ForgetfulNetwork(make_payload(result(loss=1)), [make_lease(3)])

    run_agent(fake, tmp_path)

    assert [evaluation for evaluation, _ in fake.ends] == ["e3-1"]


def test_late_lease_goes_back(tmp_path: Path) -> None:
    """A point that arrives when the agent is ending is released without being begun."""
    shutdown = Shutdown()
    fake = LateLease(shutdown)

    end = Agent(settings(tmp_path), fake.connect, shutdown).run()

    [(_, word)] = fake.ends
    assert end is End.SHUTDOWN
    assert isinstance(word, Release)
    assert word.leaving


def test_two_slots_work_side_by_side(tmp_path: Path) -> None:
    """Each of two trainings waits for the other one to begin."""
    here, there = tmp_path / "a", tmp_path / "b"
    meet = (
        f"if test $GRIDTUNE_POINT = 0; then touch {here}; wait={there}; else touch {there}; wait={here}; fi; "
        "until test -e $wait; do sleep 0.02; done"
    )
    leases = [make_lease(0), make_lease(1)]
    fake = FakeSteering(make_payload(steps(meet, result(loss=1)), timeout="10s"), leases)

    end = run_agent(fake, tmp_path / "work", slots=2)

    assert end is End.TASK_ENDED
    assert sorted(type(word).__name__ for _, word in fake.ends) == ["Tell", "Tell"]
    assert len({ask.worker for ask in fake.asks}) == 2


def test_max_points_is_for_all_slots_together(tmp_path: Path) -> None:
    """An agent takes as many points as it may and no more; the last word says that the worker leaves."""
    fake = FakeSteering(make_payload(result(loss=1)), [make_lease(point) for point in range(9)])

    end = run_agent(fake, tmp_path, slots=2, max_points=3)

    assert end is End.POINTS_DONE
    assert len(fake.ends) == 3
    assert fake.ends[-1][1].leaving


def test_idle_slot_ends(tmp_path: Path) -> None:
    """Without a point for a while, an agent may leave."""
    fake = FakeSteering(make_payload(), [NothingYet(0.05)] * 100)

    assert run_agent(fake, tmp_path, idle_exit_seconds=0.3) is End.IDLE


def test_idle_slot_wakes_for_the_shutdown(tmp_path: Path) -> None:
    """An agent that waits for a point ends at once when asked to."""
    fake = FakeSteering(make_payload(), [NothingYet(60.0)])

    with agent_running(fake, tmp_path) as agent:
        fake.wait_until(lambda fake: bool(fake.asks))

    assert agent.end is End.SHUTDOWN


@pytest.mark.parametrize(
    ("status", "end"),
    [(401, End.UNAUTHORISED), (403, End.UNAUTHORISED), (404, End.REFUSED), (422, End.REFUSED)],
)
def test_refused_ask_ends_the_agent(tmp_path: Path, status: int, end: End) -> None:
    """When the service says no to an ask, trying on makes no sense."""
    fake = FakeSteering()
    fake.refuse("ask", status)

    assert run_agent(fake, tmp_path) is end


def test_an_agent_that_does_not_fit_the_task_ends(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It says what is missing."""
    fake = FakeSteering()
    said = "this worker does not fit the task: gpus is 0, the task requires >= 1"
    fake.refuse_with("ask", Refused(409, {"type": "urn:gridtune:problem:DoesNotFit", "detail": said}))

    assert run_agent(fake, tmp_path) is End.UNFIT
    assert said in caplog.text


def test_an_agent_fits_with_any_of_its_slots() -> None:
    """Slots may share GPUs out unevenly; those that get none do not make the agent's work a failure."""
    assert worst_of([End.UNFIT, End.UNFIT]) is End.UNFIT
    assert worst_of([End.UNFIT, End.TASK_ENDED]) is End.TASK_ENDED
    assert worst_of([End.GAVE_UP, End.TASK_ENDED]) is End.GAVE_UP


def test_absent_service_is_given_up(tmp_path: Path) -> None:
    """A slot stops asking when the service was away for too long."""
    fake = FakeSteering()
    fake.refuse("ask", 503, times=100)

    assert run_agent(fake, tmp_path, give_up_seconds=0.6) is End.GAVE_UP


def test_unknown_task_is_an_error(tmp_path: Path) -> None:
    """An agent for a task that does not exist says so before it does anything."""
    fake = FakeSteering()
    fake.refuse("payload", 404, "no task t1")

    with pytest.raises(Refused, match="no task t1"):
        run_agent(fake, tmp_path)


def test_task_without_command_is_an_error(tmp_path: Path) -> None:
    """A task whose points are evaluated by the program that submitted it is nothing for an agent."""
    with pytest.raises(InvalidDocument, match=r"payload\.command"):
        run_agent(FakeSteering(make_payload("")), tmp_path)


def test_files_are_fetched_once(tmp_path: Path) -> None:
    """A second agent finds the files of the first."""
    files = {"a.txt": b"text"}
    payload = make_payload("true", files=files)
    run_agent(FakeSteering(payload, files=files), tmp_path)
    without_files = FakeSteering(payload)

    assert run_agent(without_files, tmp_path) is End.TASK_ENDED


def test_files_are_waited_for(tmp_path: Path) -> None:
    """A service that goes away between two of an agent's first questions does not end it."""
    files = {"a.txt": b"text"}
    fake = FakeSteering(make_payload(steps("cat a.txt", result(loss=1)), files=files), [make_lease()], files=files)
    fake.refuse("file", 503)

    end = run_agent(fake, tmp_path)

    assert (end, len(fake.ends)) == (End.TASK_ENDED, 1)


def test_a_node_that_fails_rests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk fails one point, and not every point of the task within seconds; then the slot goes on."""
    monkeypatch.setattr("gridtune_evaluation.slot.rests", lambda: iter([0.3, 0.6, 99.0]))
    fake = FakeSteering(make_payload(result(loss=1)), [make_lease(1), make_lease(2), make_lease(3)])
    n_rooms = 0
    make = workplace.make_private

    def fail_twice(folder: Path) -> None:
        nonlocal n_rooms
        n_rooms += folder.name.endswith("-1")
        if folder.name.endswith("-1") and n_rooms <= 2:
            raise OSError(28, "No space left on device")
        make(folder)

    monkeypatch.setattr(workplace, "make_private", fail_twice)
    began = time.monotonic()

    end = run_agent(fake, tmp_path)

    assert end is End.TASK_ENDED
    assert [type(word).__name__ for _, word in fake.ends] == ["Fail", "Fail", "Tell"]
    assert time.monotonic() - began > 0.9


def test_damaged_cached_file_is_fetched_again(tmp_path: Path) -> None:
    """A file whose copy on disk was damaged comes from the service again."""
    files = {"a.txt": b"text"}
    payload = make_payload("true", files=files)
    run_agent(FakeSteering(payload, files=files), tmp_path)
    [cached] = (tmp_path / "t1" / "files").iterdir()
    cached.write_bytes(b"damaged")

    run_agent(FakeSteering(payload, files=files), tmp_path)

    assert cached.read_bytes() == b"text"


def test_file_with_another_checksum_is_refused(tmp_path: Path) -> None:
    """A file that changed on its way is never run."""
    payload = make_payload("true", files={"a.txt": b"text"})

    with pytest.raises(CorruptFile, match=r"a\.txt"):
        run_agent(FakeSteering(payload, files={"a.txt": b"tampered"}), tmp_path)


def test_file_outside_of_the_working_directory_is_refused(tmp_path: Path) -> None:
    """No file of a task is written elsewhere."""
    files = {"../outside": b"text"}
    fake = FakeSteering(make_payload("true", files=files), [make_lease()], files=files)

    with pytest.raises(CorruptFile, match="outside of the working directory"):
        run_agent(fake, tmp_path)


def test_work_folder_is_private(tmp_path: Path) -> None:
    """Nobody else can look into the work folder."""
    run_agent(FakeSteering(), tmp_path / "work")

    folders = [path for path in (tmp_path / "work").rglob("*") if path.is_dir()]
    assert len(folders) >= 4
    assert all(path.stat().st_mode & 0o077 == 0 for path in [tmp_path / "work", *folders])


def test_work_folder_must_be_a_folder(tmp_path: Path) -> None:
    """A file in the place of the work folder is a clear error."""
    (tmp_path / "work").touch()

    with pytest.raises(GridtuneError, match="--work-dir"):
        run_agent(FakeSteering(), tmp_path / "work")


def test_broken_slot_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error of the agent itself is shown, and the agent's end tells of it."""
    shown: list[threading.ExceptHookArgs] = []
    monkeypatch.setattr(threading, "excepthook", shown.append)
    fake = FakeSteering(make_payload(), [make_lease()])
    monkeypatch.setattr(fake, "ask", None)

    assert run_agent(fake, tmp_path) is End.CRASHED
    assert len(shown) == 1
