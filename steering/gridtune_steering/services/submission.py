"""How a task comes into being: checked as a whole, stored with its files, and handed to the hosts."""

from __future__ import annotations

import base64
import binascii
import hashlib
import platform
import secrets as randomness
from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy.engine import Connection

from gridtune_common import __version__
from gridtune_common.errors import Flaw, InvalidDocument
from gridtune_common.protocol import (
    ShippedFile,
    SubmitTask,
    Task,
    TaskState,
)
from gridtune_common.taskfile import Task as TaskSpec
from gridtune_common.taskfile import parse_task
from gridtune_steering import optimizers
from gridtune_steering.bookkeeping import events, tasks
from gridtune_steering.identity.secrets import new_id
from gridtune_steering.optimizers.constraints import Constraints
from gridtune_steering.optimizers.port import Problem
from gridtune_steering.services.access import Caller
from gridtune_steering.services.errors import Unusable
from gridtune_steering.services.idempotency import once
from gridtune_steering.services.imports import warm_start
from gridtune_steering.services.steering import Steering
from gridtune_steering.services.tasks import Reference, present, whole

#: Seeds are drawn below this, so that every optimizer library takes them.
_SEED_LIMIT = 2**31


def submit(steering: Steering, caller: Caller, message: SubmitTask) -> Task:
    """Register a task; it runs at once.

    Raises:
        Unusable: The document, the algorithm or a file cannot be used, or there is no task to start warm from.
    """
    spec = _checked(message)
    files = [_file_values(file, index) for index, file in enumerate(message.files)]
    _check_files([file["path"] for file in files], spec)
    now = steering.clock()
    with steering.database.write() as connection:

        def effect() -> Reference:
            return _insert(connection, caller, message, spec, files, now)

        made = once(connection, caller, "submit task", message, Reference, effect, now=now)
        task = whole(connection, present(connection, made.task), now)
    steering.bell.ring_hosts(made.task)
    return task


def _checked(message: SubmitTask) -> TaskSpec:
    try:
        spec = parse_task(message.document)
        kind = optimizers.load(spec.algorithm.name)
        problem = problem_of(spec, seed=0)
        optimizers.check(kind, spec.algorithm.name, problem, spec.algorithm.options)
        problem.constraints.check(problem.space)
        _check_initial_points(spec, problem)
    except InvalidDocument as error:
        raise Unusable("the task cannot be used", error.flaws) from error
    return spec


def problem_of(spec: TaskSpec, seed: int) -> Problem:
    """What a task asks of its optimizer.

    Raises:
        InvalidDocument: A constraint has no meaning.
    """
    return Problem(
        space=spec.space,
        constraints=Constraints(spec.constraints),
        n_objectives=len(spec.objectives),
        budget=spec.stop.points,
        seed=seed,
    )


def _check_initial_points(spec: TaskSpec, problem: Problem) -> None:
    broken = [problem.constraints.broken_by(point) for point in spec.initial_points]
    flaws = [Flaw(f"initial_points[{index}]", f"breaks {text}") for index, text in enumerate(broken) if text]
    if flaws:
        raise InvalidDocument(flaws)


def _file_values(file: ShippedFile, index: int) -> dict[str, Any]:
    parts = file.path.split("/")
    if not file.path or any(part in {"", ".", ".."} for part in parts) or len(file.path) > 1000:
        flaw = Flaw(f"files[{index}].path", f"{file.path[:100]!r} is no plain relative path")
        raise Unusable("a file of the task cannot be used", [flaw])
    try:
        content = base64.b64decode(file.content, validate=True)
    except (binascii.Error, ValueError) as error:
        raise Unusable(
            "a file of the task cannot be used", [Flaw(f"files[{index}].content", "is not Base64")]
        ) from error
    return {
        "path": file.path,
        "content": content,
        "size": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "executable": file.executable,
    }


def _check_files(paths: Sequence[str], spec: TaskSpec) -> None:
    """Each file has one place, and what the payload needs is there."""
    flaws = [Flaw("files", f"{path} comes twice") for path, n in Counter(paths).items() if n > 1]
    folders = {path[:end] for path in paths for end in range(len(path)) if path[end] == "/"}
    flaws += [Flaw("files", f"{path} is a file and a folder") for path in sorted(folders & set(paths))]
    for name in spec.payload.files if spec.payload is not None else ():
        if name not in paths and name not in folders:
            flaws.append(Flaw("files", f"{name} is missing, which payload.files names"))
    if flaws:
        raise Unusable("the task's files cannot be used", flaws)


def _insert(
    connection: Connection,
    caller: Caller,
    message: SubmitTask,
    spec: TaskSpec,
    files: Sequence[dict[str, Any]],
    now: datetime,
) -> Reference:
    task = new_id()
    seed = spec.algorithm.seed if spec.algorithm.seed is not None else randomness.randbelow(_SEED_LIMIT)
    libraries = optimizers.library_versions(spec.algorithm.name)
    tasks.insert(
        connection,
        id=task,
        name=spec.name,
        owner=caller.user,
        state=TaskState.RUNNING.value,
        reason="",
        document=spec.to_json(),
        source=message.source,
        seed=seed,
        versions={"gridtune": __version__, "python": platform.python_version(), **libraries},
        max_points=spec.stop.points,
        created_at=now,
        running_since=now,
        ran_seconds=0.0,
        host_epoch=0,
    )
    tasks.insert_files(connection, [{"task_id": task, **file} for file in files])
    details = {"name": spec.name, "algorithm": spec.algorithm.name, "seed": seed}
    if spec.space.size is not None:
        details["points_in_space"] = spec.space.size
    events.add(connection, at=now, actor=caller.user, kind="task.submitted", task=task, details=details)
    warm_start(connection, caller, spec, task, now)
    return Reference(task)
