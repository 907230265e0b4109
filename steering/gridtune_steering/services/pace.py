"""How much time an evaluation of a task needs to get anywhere, learnt from the task's own history.

With checkpoints, a stretch is of use if it reaches the next step: what it took from the start of an evaluation to its
first report. Without, the whole training has to fit. Nothing is known before somebody got so far, and then nobody is
turned away.
"""

from __future__ import annotations

import statistics

from sqlalchemy.engine import Connection

from gridtune_common.units import show_seconds
from gridtune_steering.bookkeeping import evaluations, objects
from gridtune_steering.services.errors import TooLittleTime

#: How many of the newest evaluations are looked at.
_SAMPLE = 20


def refuse_in_vain(connection: Connection, task: str, remaining_seconds: float | None) -> None:
    """Turn a worker away whose time would be wasted.

    Raises:
        TooLittleTime: With what is needed and what is left.
    """
    if remaining_seconds is None:
        return
    needed = least_seconds(connection, task)
    if needed is not None and remaining_seconds < needed:
        left = show_seconds(max(remaining_seconds, 0.0))
        raise TooLittleTime(
            f"evaluations of this task need about {show_seconds(needed)} to get anywhere; {left} are left"
        )


def least_seconds(connection: Connection, task: str) -> float | None:
    """The least time in which an evaluation gets somewhere; None if that is not known."""
    if objects.has_checkpoints(connection, task):
        times = evaluations.seconds_to_first_report(connection, task, limit=_SAMPLE)
    else:
        times = evaluations.seconds_of_done(connection, task, limit=_SAMPLE)
    return statistics.median(times) if times else None
