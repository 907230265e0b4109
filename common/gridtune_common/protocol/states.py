"""The states that things can be in, and the words for causes and advice."""

from __future__ import annotations

from enum import Enum
from typing import Optional, Union

#: The value of one hyperparameter, or of a constant.
Value = Union[bool, int, float, str, None]
Parameters = dict[str, Value]
Metrics = dict[str, Optional[float]]


class TaskState(str, Enum):
    """The states of a task. Values are only ever added."""

    RUNNING = "running"  #: Points are proposed and handed out.
    PAUSED = "paused"  #: No point is handed out; running evaluations go on to their end.
    FINISHED = "finished"  #: A stop rule was met; ``reason`` says which.
    CANCELLED = "cancelled"  #: Ended by its owner or an operator.


class PointState(str, Enum):
    """The states of a point. Values are only ever added."""

    READY = "ready"  #: Waits for a worker.
    RUNNING = "running"  #: One worker holds its lease.
    PAUSED = "paused"  #: Waits for a promotion to a larger budget.
    DONE = "done"  #: Finished with its metrics.
    STOPPED = "stopped"  #: Ended early by the scheduler; its last report counts.
    FAILED = "failed"  #: Its attempts are used up, or the error was permanent.
    CANCELLED = "cancelled"  #: The task ended first.


class PointOrigin(str, Enum):
    """Who proposed a point. Values are only ever added."""

    INITIAL = "initial"  #: The task file, as one of its initial points.
    USER = "user"  #: The user, while the task ran.
    ALGORITHM = "algorithm"  #: The optimizer.


class EvaluationState(str, Enum):
    """The states of an evaluation. Values are only ever added."""

    RUNNING = "running"  #: Holds the lease of its point.
    DONE = "done"  #: Delivered the point's result.
    FAILED = "failed"  #: The training or its surroundings failed; ``cause`` says how.
    RELEASED = "released"  #: Gave its point back unfinished (walltime, shutdown).
    LOST = "lost"  #: Its lease expired without a word.
    STOPPED = "stopped"  #: Was told to stop: by the scheduler, a rival's result, or the task's end.


class FailureCause(str, Enum):
    """Why an evaluation failed. Values are only ever added."""

    EXIT_CODE = "exit_code"  #: The payload ended with a code other than 0.
    SIGNAL = "signal"  #: The payload was killed by a signal that the agent did not send.
    NO_RESULT = "no_result"  #: The payload ended well but left no metrics.
    INVALID_RESULT = "invalid_result"  #: The metrics cannot be used: objective missing, or not a finite number.
    REPORTED = "reported"  #: The payload itself said ``status: failed`` in its result.
    TIMEOUT = "timeout"  #: The payload ran longer than ``payload.timeout``.
    START = "start"  #: The command could not be started.
    INFRASTRUCTURE = "infrastructure"  #: The node failed: disk, download, image.
    NO_IMAGE = "no_image"  #: The registry says that there is no such container image.
    OUT_OF_MEMORY = "out_of_memory"  #: The payload took more memory than ``resources.memory`` gives it.


class ReleaseCause(str, Enum):
    """Why an evaluation gave its point back. Values are only ever added."""

    WALLTIME = "walltime"  #: The worker's time is nearly over.
    SHUTDOWN = "shutdown"  #: The agent was asked to end.
    STOPPED = "stopped"  #: Steering told the evaluation to stop.
    PARTED = "parted"  #: The service was away for longer than the agent waits.


class TaskAction(str, Enum):
    """What the owner of a task can do with it."""

    PAUSE = "pause"
    RESUME = "resume"
    CANCEL = "cancel"
    EXTEND = "extend"


class Advice(str, Enum):
    """What an evaluation should do next."""

    CONTINUE = "continue"  #: Go on; the lease was renewed.
    STOP = "stop"  #: End now; the result is not needed any more.
    LOST = "lost"  #: The lease is gone and another worker may hold the point; end now.
