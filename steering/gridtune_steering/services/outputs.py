"""Watching what a running evaluation prints.

Nobody can call a worker, so it has to be asked in an answer: whoever looks at an output marks its evaluation as watched
for a while, the next heartbeat is answered so, and from then on the agent sends what is printed. Only the end of it is
kept, and only while the evaluation runs; the whole log is stored when it has ended.
"""

from __future__ import annotations

from datetime import timedelta

from gridtune_common.protocol import Advice, EvaluationState, LiveOutput, Output, Verdict
from gridtune_steering.bookkeeping import evaluations, outputs, points
from gridtune_steering.services import evaluations as life
from gridtune_steering.services import leases
from gridtune_steering.services.access import Caller, visible_task
from gridtune_steering.services.errors import NotFound
from gridtune_steering.services.steering import Steering

#: For how long a look asks for more.
_WATCH_TIME = timedelta(seconds=30)
#: Characters kept of an output.
_KEPT = 64 * 2**10


def send(steering: Steering, caller: Caller, evaluation: str, message: Output) -> Verdict:
    """Take what an evaluation has printed, and renew its lease. What was sent before is left as it is.

    Raises:
        NotFound: No such evaluation.
    """
    now = steering.clock()
    with steering.database.write() as connection:
        row, _task = life.visible(connection, caller, evaluation)
        if row.epoch != message.epoch:
            return Verdict(Advice.LOST, f"epoch {message.epoch} is not this evaluation's")
        if not leases.hold(steering, connection, caller, row, now):
            return leases.verdict_of_ended(row)
        known = outputs.find(connection, evaluation)
        if known is None or message.end > known.end:
            start, text = message.start, message.text
            if known is not None and known.end == message.start:
                start, text = known.start, known.text + text
            kept = text[-_KEPT:]
            start += len(text[: len(text) - len(kept)].encode())
            outputs.keep(connection, evaluation, start=start, end=message.end, text=kept)
    return leases.go_on(steering, row, now)


def look(steering: Steering, caller: Caller, task: str, number: int) -> LiveOutput:
    """The end of what the running evaluation of a point has printed; asks for more of it.

    Raises:
        NotFound: No such task or point.
    """
    now = steering.clock()
    with steering.database.read() as connection:
        visible_task(connection, caller, task)
        point = points.find(connection, task, number)
        if point is None:
            raise NotFound("point", number)
        row = evaluations.find(connection, point.evaluation_id) if point.evaluation_id else None
        known = outputs.find(connection, row.id) if row is not None else None
    if row is None:
        return LiveOutput(state=None)
    is_running = row.state == EvaluationState.RUNNING.value
    if is_running and (row.watched_until is None or row.watched_until < now + _WATCH_TIME / 2):
        with steering.database.write() as connection:
            outputs.watch(connection, row.id, until=now + _WATCH_TIME)
    return LiveOutput(
        state=EvaluationState(row.state),
        evaluation=row.id,
        attempt=row.attempt,
        start=known.start if known is not None else 0,
        end=known.end if known is not None else 0,
        text=known.text if known is not None else "",
    )
