"""The life of a point: leases, epochs, attempts, first result wins, request ids."""

from __future__ import annotations

from datetime import datetime

import pytest
from sqlalchemy.engine import Connection

from gridtune_common.client import new_request_id
from gridtune_common.protocol import (
    Advice,
    Ask,
    ChangeTask,
    EvaluationState,
    Heartbeat,
    Lease,
    PointDetail,
    PointState,
    Report,
    Reports,
    Scope,
    Sign,
    Signs,
    TaskAction,
    TaskState,
    Tell,
)
from gridtune_steering.bookkeeping import duties
from gridtune_steering.campaign import Finish, StopRule
from gridtune_steering.services import asking, hosting, housekeeping, leases, owning, records, results, tasks
from gridtune_steering.services.access import Caller
from gridtune_steering.services.asking import NoPoint
from gridtune_steering.services.errors import Conflict, NotFound, RequestIdReused, TaskHasEnded, Unusable
from service_bench import OPERATOR, Bench


def detail(bench: Bench, task: str, number: int = 0) -> PointDetail:
    """A point as its owner sees it."""
    return records.point_detail(bench.steering, OPERATOR, task, number)


def change(bench: Bench, task: str, action: TaskAction, points: int = 0) -> None:
    """Pause, resume, cancel or extend."""
    tasks.change(bench.steering, OPERATOR, task, ChangeTask(new_request_id(), action, points))


def lose(bench: Bench) -> None:
    """Let all leases expire, with the service awake, and let the host notice."""
    for _ in range(25):
        bench.clock.advance(3.0)
        bench.work()


def test_a_point_is_done_with_its_metrics(bench: Bench) -> None:
    """The straight way: ask, report, tell."""
    task = bench.submit()
    lease = bench.lease(task)
    reports = Reports(lease.epoch, [Report(1, {"loss": 3.0}), Report(2, {"loss": 2.0})])

    verdict = leases.report(bench.steering, OPERATOR, lease.evaluation, reports)
    outcome = bench.tell(lease, 1.5)

    assert (verdict.advice, outcome.accepted) == (Advice.CONTINUE, True)
    found = detail(bench, task)
    assert (found.point.state, found.point.value, found.point.metrics) == (PointState.DONE, 1.5, {"loss": 1.5})
    assert [report.step for report in found.reports] == [1, 2]


def test_a_lost_point_goes_to_the_next_worker_as_the_same_point(bench: Bench) -> None:
    """Not a copy under a new number: the same one, one attempt older, ahead of new points."""
    task = bench.submit()
    first = bench.lease(task, "w1")
    lose(bench)

    second = bench.lease(task, "w2")

    assert (second.point, second.attempt, second.epoch) == (first.point, 2, 2)
    assert second.parameters == first.parameters
    assert [e.state for e in detail(bench, task).evaluations] == [EvaluationState.LOST, EvaluationState.RUNNING]


def test_heartbeats_keep_a_lease(bench: Bench) -> None:
    """Who says that they are alive keeps the point."""
    task = bench.submit()
    lease = bench.lease(task)
    for _ in range(6):
        bench.clock.advance(40.0)
        bench.work()
        verdict = leases.heartbeat(bench.steering, OPERATOR, lease.evaluation, Heartbeat(lease.epoch))
        assert verdict.advice is Advice.CONTINUE

    assert detail(bench, task).point.attempts == 0


def test_a_service_that_was_away_gives_agents_time_to_come_back(bench: Bench) -> None:
    """After an outage longer than a lease, nobody is called lost before a whole lease has passed."""
    task = bench.submit()
    lease = bench.lease(task)
    bench.work()
    bench.clock.advance(3600.0)

    bench.new_host()
    bench.work()
    bench.clock.advance(30.0)
    verdict = leases.heartbeat(bench.steering, OPERATOR, lease.evaluation, Heartbeat(lease.epoch))

    assert verdict.advice is Advice.CONTINUE


def test_a_service_that_nobody_could_reach_calls_nobody_lost(bench: Bench) -> None:
    """Silence counts from the moment at which there was somebody to hear."""
    task = bench.submit()
    lease = bench.lease(task)
    for _ in range(50):
        bench.clock.advance(3.0)
        bench.work(reachable=False)
    bench.work()
    bench.clock.advance(3.0)
    bench.work()

    assert detail(bench, task).point.state is PointState.RUNNING
    lose(bench)
    assert detail(bench, task).point.state is PointState.READY
    assert lease.attempt == 1


def test_a_database_that_stood_still_calls_nobody_lost(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A statement that waits for a server that is frozen ends much later; nobody could be heard meanwhile."""
    task = bench.submit()
    bench.lease(task)
    bench.work()
    last_run = duties.last_run

    def stand_still(connection: Connection, name: str) -> datetime | None:
        found = last_run(connection, name)
        bench.clock.advance(3600.0)
        return found

    monkeypatch.setattr(duties, "last_run", stand_still)
    housekeeping.do_duties(bench.steering, "h1")
    monkeypatch.undo()
    bench.work()

    assert detail(bench, task).point.state is PointState.RUNNING


def test_a_silent_worker_goes_on_if_nobody_took_its_point(bench: Bench) -> None:
    """A training survives a network that was away for longer than a lease, and no attempt is counted."""
    task = bench.submit()
    lease = bench.lease(task)
    lose(bench)
    assert detail(bench, task).point.attempts == 1

    verdict = leases.heartbeat(bench.steering, OPERATOR, lease.evaluation, Heartbeat(lease.epoch))

    assert verdict.advice is Advice.CONTINUE
    point = detail(bench, task).point
    assert (point.state, point.attempts) == (PointState.RUNNING, 0)
    assert bench.ask(task, "w2") is None


def test_a_result_is_welcome_until_the_optimizer_was_told_of_a_failure(bench: Bench) -> None:
    """The last attempt was lost, but its result comes in time."""
    task = bench.submit(retry={"lost": 1})
    lease = bench.lease(task)
    bench.work()
    for _ in range(21):
        bench.clock.advance(3.0)
        housekeeping.note_presence(bench.steering)
        housekeeping.do_duties(bench.steering, "h1")
    assert detail(bench, task).point.state is PointState.FAILED

    assert bench.tell(lease).accepted
    bench.work()
    assert detail(bench, task).point.state is PointState.DONE


def test_a_zombies_reports_are_not_stored(bench: Bench) -> None:
    """A worker that lost its lease cannot write into its successor's curve."""
    task = bench.submit()
    zombie = bench.lease(task, "w1")
    lose(bench)
    bench.lease(task, "w2")

    late = Reports(zombie.epoch, [Report(1, {"loss": 9.0})])
    verdict = leases.report(bench.steering, OPERATOR, zombie.evaluation, late)

    assert verdict.advice is Advice.LOST
    assert detail(bench, task).reports == []


def test_the_first_result_wins_even_a_zombies(bench: Bench) -> None:
    """A lost worker that finishes first is welcome; its rival is told to stop, and its result is not taken."""
    task = bench.submit()
    zombie = bench.lease(task, "w1")
    lose(bench)
    rival = bench.lease(task, "w2")

    welcome = bench.tell(zombie, 1.0)
    verdict = leases.heartbeat(bench.steering, OPERATOR, rival.evaluation, Heartbeat(rival.epoch))
    late = bench.tell(rival, 2.0)

    assert (welcome.accepted, verdict.advice, late.accepted) == (True, Advice.STOP, False)
    assert detail(bench, task).point.value == 1.0


def test_a_zombie_comes_too_late_after_its_successor(bench: Bench) -> None:
    """The point keeps the result that was first."""
    task = bench.submit()
    zombie = bench.lease(task, "w1")
    lose(bench)
    bench.tell(bench.lease(task, "w2"), 2.0)

    late = bench.tell(zombie, 1.0)

    assert (late.accepted, late.reason) == (False, "the point is done")
    assert detail(bench, task).point.value == 2.0


def test_a_call_with_another_epoch_changes_nothing(bench: Bench) -> None:
    """The epoch says whose call it is."""
    task = bench.submit()
    lease = bench.lease(task)

    tell = Tell(new_request_id(), lease.epoch + 1, {"loss": 1.0})
    outcome = results.tell(bench.steering, OPERATOR, lease.evaluation, tell)
    verdict = leases.heartbeat(bench.steering, OPERATOR, lease.evaluation, Heartbeat(lease.epoch + 1))

    assert (outcome.accepted, verdict.advice) == (False, Advice.LOST)
    assert detail(bench, task).point.state is PointState.RUNNING


def test_failures_are_tried_again_until_attempts_are_used_up(bench: Bench) -> None:
    """Three attempts by default, the same point each time; then it has failed for good."""
    task = bench.submit(points=1)
    attempts = []
    for _ in range(3):
        lease = bench.lease(task)
        attempts.append((lease.point, lease.attempt))
        bench.fail(lease)
    bench.work()

    assert attempts == [(0, 1), (0, 2), (0, 3)]
    assert detail(bench, task).point.state is PointState.FAILED
    assert tasks.get(bench.steering, OPERATOR, task).summary.state is TaskState.FINISHED


def test_a_permanent_failure_is_not_tried_again(bench: Bench) -> None:
    """What cannot help is not done."""
    task = bench.submit()
    bench.fail(bench.lease(task), permanent=True)

    assert detail(bench, task).point.state is PointState.FAILED


def test_releases_count_no_attempt(bench: Bench) -> None:
    """Walltime is nobody's fault."""
    task = bench.submit()
    for _ in range(5):
        bench.release(bench.lease(task))

    assert bench.lease(task).attempt == 1
    assert detail(bench, task).point.attempts == 0


def test_a_lease_is_given_once_for_a_request_id(bench: Bench) -> None:
    """An ask whose answer got lost is repeated, and gets the same point."""
    task = bench.submit()
    message = Ask(new_request_id(), "w")
    assert asking.ask(bench.steering, OPERATOR, task, message) == NoPoint(may_be_made=True)
    bench.work()

    first = asking.ask(bench.steering, OPERATOR, task, message)
    again = asking.ask(bench.steering, OPERATOR, task, message)

    assert isinstance(first, Lease)
    assert again == first


def test_a_repeated_ask_may_wait_for_another_while(bench: Bench) -> None:
    """How long to wait is no part of what is asked."""
    task = bench.submit()
    bench.ask(task)
    bench.work()

    first = asking.ask(bench.steering, OPERATOR, task, Ask("r1", "w", wait=5.0))
    again = asking.ask(bench.steering, OPERATOR, task, Ask("r1", "w", wait=1.0))

    assert first == again


def test_a_repeated_ask_gets_no_lease_that_is_over(bench: Bench) -> None:
    """If the first answer is no longer true, the ask is as good as new."""
    task = bench.submit()
    message = Ask("r1", "w")
    asking.ask(bench.steering, OPERATOR, task, message)
    bench.work()
    first = asking.ask(bench.steering, OPERATOR, task, message)
    assert isinstance(first, Lease)
    lose(bench)

    again = asking.ask(bench.steering, OPERATOR, task, message)

    assert isinstance(again, Lease)
    assert (again.point, again.epoch, again.attempt) == (first.point, 2, 2)
    change(bench, task, TaskAction.CANCEL)
    with pytest.raises(TaskHasEnded):
        asking.ask(bench.steering, OPERATOR, task, message)


@pytest.mark.parametrize("word", ["tell", "fail", "release"])
def test_a_late_copy_of_an_ask_takes_no_point(bench: Bench, word: str) -> None:
    """A worker that has ended its evaluation is not there for another point: a copy of its ask gets the old answer."""
    task = bench.submit()
    bench.ask(task)
    bench.work()
    first = asking.ask(bench.steering, OPERATOR, task, Ask("r1", "w"))
    assert isinstance(first, Lease)
    getattr(bench, word)(first)
    bench.work()

    again = asking.ask(bench.steering, OPERATOR, task, Ask("r1", "w"))

    assert again == first
    assert tasks.get(bench.steering, OPERATOR, task).summary.counts.running == 0


def test_a_tell_counts_once_for_a_request_id(bench: Bench) -> None:
    """A tell whose answer got lost is repeated, and was accepted all the same."""
    task = bench.submit()
    lease = bench.lease(task)
    message = Tell(new_request_id(), lease.epoch, {"loss": 1.0})

    first = results.tell(bench.steering, OPERATOR, lease.evaluation, message)
    again = results.tell(bench.steering, OPERATOR, lease.evaluation, message)

    assert (first.accepted, again) == (True, first)


def test_a_request_id_belongs_to_one_request(bench: Bench) -> None:
    """Reuse is a mistake of the client, and said so."""
    task = bench.submit()
    lease = bench.lease(task)
    results.tell(bench.steering, OPERATOR, lease.evaluation, Tell("r1", lease.epoch, {"loss": 1.0}))

    with pytest.raises(RequestIdReused):
        results.tell(bench.steering, OPERATOR, lease.evaluation, Tell("r1", lease.epoch, {"loss": 2.0}))


def test_answers_are_remembered_for_a_day(bench: Bench) -> None:
    """The memory of request ids is bounded."""
    task = bench.submit()
    message = Ask("r1", "w")
    asking.ask(bench.steering, OPERATOR, task, message)
    bench.work()
    first = asking.ask(bench.steering, OPERATOR, task, message)
    bench.clock.advance(90_000.0)
    bench.work()

    assert first != asking.ask(bench.steering, OPERATOR, task, message)


@pytest.mark.parametrize("metrics", [{}, {"loss": None}, {"other": 1.0}], ids=["empty", "not finite", "another"])
def test_a_result_without_its_objective_is_refused(bench: Bench, metrics: dict[str, float | None]) -> None:
    """A result that no optimizer can use is not taken as one, and the point still runs."""
    task = bench.submit()
    lease = bench.lease(task)

    with pytest.raises(Unusable, match="the result cannot be used"):
        results.tell(bench.steering, OPERATOR, lease.evaluation, Tell("r", lease.epoch, metrics))
    assert detail(bench, task).point.state is PointState.RUNNING


def test_a_paused_task_hands_out_nothing_and_takes_results(bench: Bench) -> None:
    """Running evaluations go on to their end; new ones wait for the resumption."""
    task = bench.submit()
    lease = bench.lease(task)
    bench.release(bench.lease(task, "w2"))
    change(bench, task, TaskAction.PAUSE)

    assert bench.ask(task, "w2") is None
    assert bench.tell(lease).accepted
    change(bench, task, TaskAction.RESUME)
    assert bench.ask(task, "w2") is not None


def test_a_cancelled_task_stops_its_workers(bench: Bench) -> None:
    """Heartbeats say stop, asks say that it is over, results come too late."""
    task = bench.submit()
    lease = bench.lease(task)
    change(bench, task, TaskAction.CANCEL)

    verdict = leases.heartbeat(bench.steering, OPERATOR, lease.evaluation, Heartbeat(lease.epoch))

    assert (verdict.advice, verdict.reason) == (Advice.STOP, "cancelled by operator")
    assert not bench.tell(lease).accepted
    with pytest.raises(TaskHasEnded):
        bench.ask(task)


def test_only_what_can_help_is_advised(bench: Bench) -> None:
    """A cancelled task is submitted again; extending it is refused, so nobody is told to."""
    task = bench.submit()
    change(bench, task, TaskAction.CANCEL)

    with pytest.raises(Conflict, match=r"has ended \(cancelled by operator\); submit it again"):
        change(bench, task, TaskAction.RESUME)


def test_a_finished_task_goes_on_when_extended(bench: Bench) -> None:
    """More points are made, informed by all there were."""
    task = bench.submit(points=2)
    for _ in range(2):
        bench.tell(bench.lease(task))
    bench.work()
    with pytest.raises(TaskHasEnded):
        bench.ask(task)

    change(bench, task, TaskAction.EXTEND, 1)
    lease = bench.lease(task)

    assert lease.point == 2
    assert detail(bench, task, 2).point.informed_by == 2


def test_a_running_task_is_extended_whatever_its_host_thinks(bench: Bench) -> None:
    """A host that was about to finish the task looks again."""
    task = bench.submit(points=1)
    lease = bench.lease(task)
    assert bench.host is not None
    [ownership] = bench.host.ownerships
    bench.tell(lease)
    change(bench, task, TaskAction.EXTEND, 5)

    with pytest.raises(owning.OwnershipLost):
        hosting.write(bench.steering, ownership, learnt=[], actions=[Finish(StopRule.POINTS, "all ended")])
    bench.work()
    assert tasks.get(bench.steering, OPERATOR, task).summary.state is TaskState.RUNNING
    assert bench.lease(task).point == 1


def test_a_task_that_reached_its_target_is_not_extended(bench: Bench) -> None:
    """More points would not be made."""
    task = bench.submit(stop={"points": 3, "target": 100.0})
    first, _second = bench.lease(task, "w1"), bench.lease(task, "w2")
    bench.tell(first, 1.0)
    bench.work()

    with pytest.raises(Conflict, match="target reached: loss is 1"):
        change(bench, task, TaskAction.EXTEND, 1)


def test_what_a_task_ends_is_in_the_log(bench: Bench) -> None:
    """Each evaluation that is stopped and each point that is cancelled has its line."""
    task = bench.submit()
    bench.lease(task, "w1")
    bench.release(bench.lease(task, "w2"))
    change(bench, task, TaskAction.CANCEL)

    page = records.event_page(bench.steering, OPERATOR, task, kind=None, after=None, limit=100)

    ends = [(event.kind, event.point) for event in page.items[-4:]]
    assert ends == [
        ("evaluation.stopped", 0),
        ("point.cancelled", 0),
        ("point.cancelled", 1),
        ("task.cancelled", None),
    ]


def test_a_worker_that_leaves_gets_no_point_made_for_it(bench: Bench) -> None:
    """Points are made when they are wanted, so that they know as much as possible."""
    task = bench.submit()
    bench.tell(bench.lease(task), leaving=True)
    bench.work()

    assert tasks.get(bench.steering, OPERATOR, task).summary.counts.ready == 0


def test_a_point_is_made_for_a_worker_that_told_before_it_asks(bench: Bench) -> None:
    """The next point is ready when the worker comes for it."""
    task = bench.submit()
    bench.tell(bench.lease(task))
    bench.work()

    assert tasks.get(bench.steering, OPERATOR, task).summary.counts.ready == 1
    assert bench.ask(task) is not None


def test_every_state_is_explained_by_the_audit_log(bench: Bench) -> None:
    """Who did what to a point, in order."""
    task = bench.submit(points=1)
    bench.release(bench.lease(task, "w1"))
    bench.fail(bench.lease(task, "w1"))
    bench.tell(bench.lease(task, "w2"))
    bench.work()

    page = records.event_page(bench.steering, OPERATOR, task, kind=None, after=None, limit=100)

    assert [event.kind for event in page.items] == [
        "task.submitted",
        "point.suggested",
        "evaluation.started",
        "evaluation.released",
        "evaluation.started",
        "evaluation.failed",
        "evaluation.started",
        "point.done",
        "task.finished",
    ]


def test_an_unknown_evaluation_is_not_found(bench: Bench) -> None:
    """A made-up id is an error, not a crash."""
    with pytest.raises(NotFound, match="no evaluation 'nope'"):
        leases.heartbeat(bench.steering, OPERATOR, "nope", Heartbeat(1))


def test_several_signs_of_life_are_taken_at_a_time(bench: Bench) -> None:
    """Each is answered as if it had come alone: who holds its point goes on, who lost it is told so, in their order."""
    task = bench.submit()
    first, second, third = (bench.lease(task, name) for name in "abc")
    bench.tell(second, leaving=True)
    bench.clock.advance(40.0)
    message = Signs(
        [
            Sign(third.evaluation, third.epoch),
            Sign("nothere", 1),
            Sign(second.evaluation, second.epoch),
            Sign(first.evaluation, first.epoch, [Report(1, {"loss": 0.5})]),
        ]
    )

    answer = leases.signs(bench.steering, OPERATOR, message)
    bench.clock.advance(40.0)
    lost = leases.reap(bench.steering)

    exported = records.export(bench.steering, OPERATOR, task)
    assert [verdict.advice for verdict in answer.verdicts] == [
        Advice.CONTINUE,
        Advice.LOST,
        Advice.STOP,
        Advice.CONTINUE,
    ]
    assert lost == []
    assert [(report.evaluation, report.step) for report in exported.reports] == [(first.evaluation, 1)]


def test_strangers_signs_renew_nothing(bench: Bench) -> None:
    """A token for one task says nothing for another's evaluations, alone or among its own."""
    mine, theirs = bench.submit(), bench.submit()
    own, foreign = bench.lease(mine), bench.lease(theirs)
    caller = Caller(user="ann", scope=Scope.TASK, token="t1", task=mine)
    bench.clock.advance(40.0)

    answer = leases.signs(
        bench.steering, caller, Signs([Sign(foreign.evaluation, foreign.epoch), Sign(own.evaluation, own.epoch)])
    )
    with pytest.raises(NotFound):
        leases.heartbeat(bench.steering, caller, foreign.evaluation, Heartbeat(foreign.epoch))
    bench.clock.advance(40.0)
    lost = leases.reap(bench.steering)

    assert [verdict.advice for verdict in answer.verdicts] == [Advice.LOST, Advice.CONTINUE]
    assert lost == [theirs]


def test_signs_have_a_limit(bench: Bench) -> None:
    """A message that would hold everybody else up is refused with the number that is taken."""
    with pytest.raises(Unusable, match="too much") as caught:
        leases.signs(bench.steering, OPERATOR, Signs([Sign("e", 1)] * 101))

    assert [str(flaw) for flaw in caught.value.flaws] == ["signs: there are 101; send 100"]
