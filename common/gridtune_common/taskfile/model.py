"""A task, as values that are valid from birth and write themselves as a canonical document.

``to_json`` writes every default out and leaves out what is absent; reading the result gives an equal value.
Durations are kept in seconds and written as such (``300s``), sizes in bytes with the largest unit that
divides them (``4GiB``).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Optional

from gridtune_common.errors import Flaw
from gridtune_common.protocol import Parameters
from gridtune_common.space import SearchSpace
from gridtune_common.space.base import check_name
from gridtune_common.space.reading import (
    LARGEST_WHOLE,
    Checked,
    check_json,
    check_number,
    check_text,
    check_whole,
    closest,
    copy_json,
    did_you_mean,
    join,
    show,
)
from gridtune_common.taskfile.command import placeholders
from gridtune_common.taskfile.constraints import check_constraints
from gridtune_common.taskfile.data import DataSource, check_data
from gridtune_common.taskfile.requirements import MAX_REQUIREMENTS, Requirement
from gridtune_common.taskfile.retry import Retry
from gridtune_common.taskfile.values import (
    INPUT_FILE,
    check_duration,
    check_path,
    check_paths,
    clean_path,
    write_bytes,
    write_seconds,
)

GOALS: Final = ("minimize", "maximize")
SCHEDULERS: Final = ("none",)

MAX_NAME_LENGTH: Final = 100
MAX_SEED: Final = 2**32 - 1
MAX_POINTS: Final = 10**9
#: Checkpoints of one point.
MAX_KEPT: Final = 100
COMPRESSIONS: Final = ("none", "zstd")
#: How a payload is started: the first leaves it to the worker, the second is without a container.
RUNTIMES: Final = ("auto", "process", "docker", "podman", "apptainer", "charliecloud")
#: When an image is fetched: if the node does not have it, before every evaluation, or not at all.
PULLS: Final = ("missing", "always", "never")

TASK_NAME: Final = r"[A-Za-z0-9][A-Za-z0-9._-]*"
ALGORITHM_NAME: Final = r"[A-Za-z0-9][A-Za-z0-9._+-]*(/[A-Za-z0-9][A-Za-z0-9._+-]*)*"
VARIABLE_NAME: Final = r"[A-Za-z_][A-Za-z0-9_]*"
RESERVED_PREFIX: Final = "GRIDTUNE_"


@dataclass(frozen=True)
class Objective(Checked):
    """A metric to minimise or maximise."""

    metric: str
    goal: str = "minimize"

    def better(self, a: float, b: float) -> bool:
        """Whether the value *a* is strictly better than *b*."""
        return a < b if self.goal == "minimize" else a > b

    def to_json(self) -> dict[str, Any]:
        """The objective as a task file writes it."""
        return {"metric": self.metric, "goal": self.goal}

    def _flaws(self) -> Iterator[Flaw]:
        yield from check_metric("metric", self.metric)
        yield from _check_known("goal", self.goal, GOALS)


@dataclass(frozen=True)
class Algorithm(Checked):
    """How points are proposed.

    Attributes:
        seed: Where all randomness begins; None to have one drawn.
        options: The algorithm's own settings; checked by whoever knows the algorithm.
    """

    name: str = "auto"
    seed: Optional[int] = None
    options: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The algorithm as a task file writes it."""
        return _present(name=self.name, seed=self.seed, options=copy_json(self.options))

    def _flaws(self) -> Iterator[Flaw]:
        yield from _check_pattern("name", self.name, ALGORITHM_NAME, "hyperopt/tpe")
        if self.seed is not None:
            yield from check_whole("seed", self.seed, 0, MAX_SEED)
        yield from _check_object("options", self.options, "{gamma: 0.25}")

    def _settle(self) -> None:
        self._set("options", copy_json(self.options))


@dataclass(frozen=True)
class Scheduler(Checked):
    """Who decides how far each point is trained; ``none`` trains every point to its end."""

    name: str = "none"

    def to_json(self) -> dict[str, Any]:
        """The scheduler as a task file writes it."""
        return {"name": self.name}

    def _flaws(self) -> Iterator[Flaw]:
        yield from _check_known("name", self.name, SCHEDULERS)


@dataclass(frozen=True)
class ResultRule(Checked):
    """Where the metrics of a finished training are found.

    Attributes:
        file: A JSON file in the working directory.
        stdout: For metrics that are printed, a regular expression whose one group is the number.
    """

    file: str = "output.json"
    stdout: dict[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The rule as a task file writes it."""
        return {"file": self.file, "stdout": dict(self.stdout)}

    def _flaws(self) -> Iterator[Flaw]:
        yield from check_path("file", self.file)
        if self.file == INPUT_FILE:
            yield Flaw("file", f"{INPUT_FILE} holds the point's values; write another name, such as output.json")
        if not isinstance(self.stdout, Mapping):
            example = "{val_loss: 'val_loss=(\\S+)'}"
            yield Flaw("stdout", f"{show(self.stdout)} is no mapping of metrics to patterns; write {example}")
            return
        for metric, pattern in self.stdout.items():
            path = join("stdout", str(metric))
            yield from check_metric(path, metric)
            yield from _check_expression(path, pattern)

    def _settle(self) -> None:
        self._set("file", clean_path(self.file))
        self._set("stdout", dict(self.stdout))


@dataclass(frozen=True)
class Checkpoint(Checked):
    """What to save of an unfinished training.

    Attributes:
        paths: Files and folders below the working directory; ``*`` and ``?`` match names.
        interval_seconds: The time between two checkpoints.
        keep: How many of a point's checkpoints are kept.
        compression: ``none`` or ``zstd``, which every worker then has to have: ``pip install zstandard``.
    """

    paths: tuple[str, ...]
    interval_seconds: float = 300.0
    keep: int = 2
    compression: str = "none"

    def to_json(self) -> dict[str, Any]:
        """The rule as a task file writes it."""
        return {
            "paths": list(self.paths),
            "interval": write_seconds(self.interval_seconds),
            "keep": self.keep,
            "compression": self.compression,
        }

    def _flaws(self) -> Iterator[Flaw]:
        yield from check_paths("paths", self.paths, "[model.pt]")
        if isinstance(self.paths, (list, tuple)) and not self.paths:
            yield Flaw("paths", "is empty; name what to save, such as [model.pt]")
        yield from check_duration("interval", self.interval_seconds)
        yield from check_whole("keep", self.keep, 1, MAX_KEPT)
        yield from _check_known("compression", self.compression, COMPRESSIONS)

    def _settle(self) -> None:
        self._set("paths", tuple(clean_path(path) for path in self.paths))
        self._set("interval_seconds", float(self.interval_seconds))


@dataclass(frozen=True)
class Payload(Checked):
    """What evaluates a point.

    Attributes:
        command: What ``/bin/sh`` runs, with ``{name}`` where values go.
        image: The container image to run it in; None to run it on the host.
        files: What travels with the task, relative to the task file's folder.
        data: Inputs that are fetched once on each node, by their path below the working directory.
        environment: Variables for the command.
        timeout_seconds: The longest that an evaluation may take; None for no limit.
        grace_seconds: The time between SIGTERM and SIGKILL.
        runtime: How it is started: one of `RUNTIMES`.
        pull: When the image is fetched: one of `PULLS`.
    """

    command: str
    image: Optional[str] = None
    files: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)
    result: ResultRule = field(default_factory=ResultRule)
    checkpoint: Optional[Checkpoint] = None
    timeout_seconds: Optional[float] = None
    grace_seconds: float = 30.0
    data: dict[str, DataSource] = field(default_factory=dict)
    runtime: str = "auto"
    pull: str = "missing"

    def to_json(self) -> dict[str, Any]:
        """The payload as a task file writes it."""
        return _present(
            command=self.command,
            image=self.image,
            runtime=self.runtime,
            pull=self.pull,
            files=list(self.files),
            data={path: source.to_json() for path, source in self.data.items()} or None,
            environment=dict(self.environment),
            result=self.result.to_json(),
            checkpoint=self.checkpoint and self.checkpoint.to_json(),
            timeout=None if self.timeout_seconds is None else write_seconds(self.timeout_seconds),
            grace=write_seconds(self.grace_seconds),
        )

    def _flaws(self) -> Iterator[Flaw]:
        yield from check_text("command", self.command, "python train.py")
        if self.image is not None:
            yield from _check_pattern("image", self.image, r"\S+", "python:3.12-slim")
        yield from _check_known("runtime", self.runtime, RUNTIMES)
        yield from _check_known("pull", self.pull, PULLS)
        yield from _check_use_of_image(self.image, self.runtime)
        yield from check_paths("files", self.files, "[train.py]")
        yield from check_data("data", self.data, self.files, self.result.file)
        yield from _check_environment("environment", self.environment)
        if self.timeout_seconds is not None:
            yield from check_duration("timeout", self.timeout_seconds)
        yield from check_duration("grace", self.grace_seconds)

    def _settle(self) -> None:
        self._set("files", tuple(clean_path(path) for path in self.files))
        self._set("data", {clean_path(path): source for path, source in self.data.items()})
        self._set("environment", dict(self.environment))
        self._set("grace_seconds", float(self.grace_seconds))
        if self.timeout_seconds is not None:
            self._set("timeout_seconds", float(self.timeout_seconds))


@dataclass(frozen=True)
class Resources(Checked):
    """What one evaluation needs of its worker; memory in bytes, None for no wish.

    Attributes:
        network: Whether the payload may use the network, if it runs in a container.
        requires: What else the worker has to be like.
    """

    cpus: int = 1
    gpus: int = 0
    memory_bytes: Optional[int] = None
    network: bool = False
    requires: tuple[Requirement, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The resources as a task file writes them."""
        memory = None if self.memory_bytes is None else write_bytes(self.memory_bytes)
        requires = [str(requirement) for requirement in self.requires] or None
        return _present(cpus=self.cpus, gpus=self.gpus, memory=memory, network=self.network, requires=requires)

    def _flaws(self) -> Iterator[Flaw]:
        yield from check_whole("cpus", self.cpus, 1, 10**6)
        yield from check_whole("gpus", self.gpus, 0, 10**6)
        if self.memory_bytes is not None:
            yield from check_whole("memory", self.memory_bytes, 1, LARGEST_WHOLE)
        if not isinstance(self.network, bool):
            yield Flaw("network", f"{show(self.network)} is neither true nor false; write one of them")
        if len(self.requires) > MAX_REQUIREMENTS:
            yield Flaw("requires", f"has {len(self.requires)} requirements; the most is {MAX_REQUIREMENTS}")

    def _settle(self) -> None:
        self._set("requires", tuple(self.requires))


@dataclass(frozen=True)
class StopRules(Checked):
    """When a task has come to its end: as soon as one of these, of which there is at least one, is met.

    Attributes:
        points: So many points are done, failed or stopped.
        target: The first objective is this good or better.
        wall_time_seconds: So long after submission.
        patience: So many points in a row were no better than the best before them.
    """

    points: Optional[int] = None
    target: Optional[float] = None
    wall_time_seconds: Optional[float] = None
    patience: Optional[int] = None

    def to_json(self) -> dict[str, Any]:
        """The rules as a task file writes them."""
        return _present(
            points=self.points,
            target=self.target,
            wall_time=None if self.wall_time_seconds is None else write_seconds(self.wall_time_seconds),
            patience=self.patience,
        )

    def _flaws(self) -> Iterator[Flaw]:
        if self.points is None and self.target is None:
            if self.wall_time_seconds is None and self.patience is None:
                names = "points, target, wall_time or patience"
                yield Flaw("", f"names no end of the task; give {names}, such as stop: {{points: 60}}")
        if self.points is not None:
            yield from check_whole("points", self.points, 1, MAX_POINTS)
        if self.target is not None:
            yield from check_number("target", self.target)
        if self.wall_time_seconds is not None:
            yield from check_duration("wall_time", self.wall_time_seconds)
        if self.patience is not None:
            yield from check_whole("patience", self.patience, 1, MAX_POINTS)

    def _settle(self) -> None:
        for name in ("target", "wall_time_seconds"):
            if getattr(self, name) is not None:
                self._set(name, float(getattr(self, name)))


@dataclass(frozen=True)
class Task(Checked):
    """One campaign: what to search, how, for what, and until when.

    Attributes:
        payload: None if a program that asks for points itself evaluates them.
        constants: JSON values that every point has besides its parameters.
        constraints: Expressions over parameters that every point must fulfil.
        initial_points: What to try first, in this order, before the algorithm proposes anything.
        warm_start: The tasks, by id, whose results the algorithm knows from the start.
    """

    name: str
    space: SearchSpace
    objectives: tuple[Objective, ...]
    stop: StopRules
    algorithm: Algorithm = field(default_factory=Algorithm)
    payload: Optional[Payload] = None
    constants: dict[str, Any] = field(default_factory=dict)
    resources: Resources = field(default_factory=Resources)
    retry: Retry = field(default_factory=Retry)
    scheduler: Scheduler = field(default_factory=Scheduler)
    constraints: tuple[str, ...] = ()
    initial_points: tuple[Parameters, ...] = ()
    warm_start: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The canonical task document, every default written out."""
        objectives = [objective.to_json() for objective in self.objectives]
        return _present(
            name=self.name,
            space=self.space.to_json(),
            constraints=list(self.constraints) or None,
            constants=copy_json(self.constants),
            objective=objectives[0] if len(objectives) == 1 else objectives,
            algorithm=self.algorithm.to_json(),
            scheduler=self.scheduler.to_json(),
            payload=self.payload and self.payload.to_json(),
            resources=self.resources.to_json(),
            stop=self.stop.to_json(),
            retry=self.retry.to_json(),
            initial_points=[dict(point) for point in self.initial_points] or None,
            warm_start=list(self.warm_start) or None,
        )

    def _flaws(self) -> Iterator[Flaw]:
        yield from check_initial_points("initial_points", self.initial_points, self.space)
        yield from check_warm_start("warm_start", self.warm_start)
        yield from check_constraints("constraints", self.constraints, self.space.names)
        yield from check_task_name("name", self.name)
        if not self.objectives:
            yield Flaw("objective", "is empty; write what to optimise, such as {metric: loss, goal: minimize}")
        yield from check_distinct(self.objectives)
        yield from check_constants("constants", self.constants)
        if isinstance(self.constants, Mapping):
            command = self.payload.command if self.payload else ""
            yield from check_names(self.space.names, self.constants, command)

    def _settle(self) -> None:
        self._set("objectives", tuple(self.objectives))
        self._set("constants", copy_json(self.constants))
        self._set("constraints", tuple(text.strip() for text in self.constraints))
        self._set("initial_points", tuple(dict(point) for point in self.initial_points))
        self._set("warm_start", tuple(self.warm_start))


# --- checks between sections --------------------------------------------------------------------------------


def check_names(parameters: Collection[str], constants: Collection[str], command: str) -> Iterator[Flaw]:
    """A name is a parameter or a constant, not both; and the command names one of these."""
    for name in constants:
        if name in parameters:
            yield Flaw(join("constants", name), "is also a parameter of the space; remove one of the two")
    names = [*parameters, *constants]
    for name in sorted(placeholders(command).difference(names)):
        guess = closest(name, names)
        fix = f"did you mean {{{guess}}}?" if guess else f"known are {', '.join(map(str, names))}"
        literal = f"write {{{{{name}}}}} for the text itself"
        yield Flaw("payload.command", f"{{{name}}} is no parameter or constant; {fix} ({literal})")


def check_distinct(objectives: tuple[Objective, ...]) -> Iterator[Flaw]:
    """Each objective has a metric of its own."""
    metrics = [objective.metric for objective in objectives]
    for index, metric in enumerate(metrics):
        if metric in metrics[:index]:
            path = f"objective[{index}].metric"
            yield Flaw(path, f"{show(metric)} is also objective[{metrics.index(metric)}]; keep one of the two")


# --- checks of single values --------------------------------------------------------------------------------


def check_task_name(path: str, name: Any) -> Iterator[Flaw]:
    """A name that is also good as a file name is expected."""
    yield from _check_pattern(path, name, TASK_NAME, "digits-mlp")


def check_constants(path: str, constants: Any) -> Iterator[Flaw]:
    """An object of finite JSON values under names that can be variables is expected."""
    if not isinstance(constants, Mapping):
        yield Flaw(path, f"{show(constants)} is no mapping of names to values; write one, such as {{epochs: 30}}")
        return
    for name, value in constants.items():
        below = join(path, str(name))
        yield from (Flaw(below, flaw.message) for flaw in check_name(name))
        yield from check_json(below, value)


def check_initial_points(path: str, points: Any, space: SearchSpace) -> Iterator[Flaw]:
    """A list of different points of the space is expected."""
    if not isinstance(points, (list, tuple)):
        yield Flaw(path, f"{show(points)} is no list of points; write one, such as [{{width: 64, optimizer: adam}}]")
        return
    for index, point in enumerate(points):
        place = f"{path}[{index}]"
        if not isinstance(point, Mapping):
            yield Flaw(place, f"{show(point)} is no mapping of parameters to values")
        elif complaint := space.explain(point):
            yield Flaw(place, complaint)
        elif any(other == point for other in points[:index]):
            yield Flaw(place, "is there already; no point is tried twice")


def check_warm_start(path: str, tasks: Any) -> Iterator[Flaw]:
    """A list of different tasks is expected."""
    if not isinstance(tasks, (list, tuple)):
        yield Flaw(path, f"{show(tasks)} is no list of tasks; write their names or ids, such as [digits-mlp]")
        return
    for index, task in enumerate(tasks):
        yield from _check_pattern(f"{path}[{index}]", task, TASK_NAME, "digits-mlp")
        if task in tasks[:index]:
            yield Flaw(f"{path}[{index}]", f"{show(task)} is written twice; keep one")


def check_metric(path: str, metric: Any) -> Iterator[Flaw]:
    """The name of a metric is expected: printable, without blanks around it."""
    if not isinstance(metric, str) or not metric:
        yield Flaw(path, f"{show(metric)} is no name of a metric; write one, such as val_loss")
    elif metric != metric.strip() or not metric.isprintable():
        yield Flaw(path, f"{show(metric)} has blanks around it or characters that do not print; remove them")
    elif len(metric) > MAX_NAME_LENGTH:
        yield Flaw(path, f"has {len(metric)} characters; the most is {MAX_NAME_LENGTH}")


def _check_known(path: str, value: Any, known: tuple[str, ...]) -> Iterator[Flaw]:
    if value not in known:
        yield Flaw(path, f"{show(value)} is not known; {did_you_mean(value, known)}")


def _check_use_of_image(image: Optional[str], runtime: Any) -> Iterator[Flaw]:
    """A container needs an image, and what runs without a container does not."""
    if image is not None and runtime == "process":
        yield Flaw("image", "is not used by runtime process; leave one of the two out")
    elif image is None and runtime in RUNTIMES[2:]:
        yield Flaw("image", f"is missing; runtime {runtime} needs one, such as python:3.12-slim")


def _check_pattern(path: str, value: Any, pattern: str, example: str) -> Iterator[Flaw]:
    if not isinstance(value, str):
        yield Flaw(path, f"{show(value)} is no text; write one, such as {example}")
    elif not re.fullmatch(pattern, value, re.ASCII):
        yield Flaw(path, f"{show(value)} cannot be used; write it like {example}")
    elif path == "name" and len(value) > MAX_NAME_LENGTH:
        yield Flaw(path, f"has {len(value)} characters; the most is {MAX_NAME_LENGTH}")


def _check_object(path: str, value: Any, example: str) -> Iterator[Flaw]:
    if isinstance(value, Mapping):
        yield from check_json(path, value)
    else:
        yield Flaw(path, f"{show(value)} is no mapping; write one, such as {example}")


def _check_environment(path: str, environment: Any) -> Iterator[Flaw]:
    if not isinstance(environment, Mapping):
        yield Flaw(path, f"{show(environment)} is no mapping; write one, such as {{OMP_NUM_THREADS: 1}}")
        return
    for name, value in environment.items():
        below = join(path, str(name))
        yield from _check_pattern(below, name, VARIABLE_NAME, "OMP_NUM_THREADS")
        if str(name).startswith(RESERVED_PREFIX):
            yield Flaw(below, f"names that begin with {RESERVED_PREFIX} are the agent's own; choose another")
        if not isinstance(value, str):
            yield Flaw(below, f"{show(value)} is no text; put it in quotes")
        elif "\0" in value:
            yield Flaw(below, "contains a zero byte; remove it")


def _check_expression(path: str, pattern: Any) -> Iterator[Flaw]:
    if not isinstance(pattern, str):
        yield Flaw(path, f"{show(pattern)} is no text; write a pattern, such as 'val_loss=(\\S+)'")
        return
    try:
        n_groups = re.compile(pattern).groups
    except (re.error, OverflowError, RecursionError) as error:
        yield Flaw(path, f"{show(pattern)} is no regular expression: {error}; correct it")
        return
    if n_groups != 1:
        fix = "put one pair of parentheses around the number, and write (?:…) for others"
        yield Flaw(path, f"{show(pattern)} has {n_groups} groups; {fix}")


def _present(**fields: Any) -> dict[str, Any]:
    return {key: value for key, value in fields.items() if value is not None}
