"""Reads a task from a document, and finds everything that is wrong with it.

A key with the value null counts as left out. ``algorithm: random`` and ``scheduler: none`` are short for
objects with that name alone, and the address of an input for an object with that ``url``; one constraint, or one
task to start warm from, needs no list; a ``command`` may be a list of arguments, which the program will see as they
are; numbers in the ``environment`` become text. A space in the format of another program is converted first.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any, Final, Optional, TypeVar, Union, cast

from gridtune_common import dialects, units
from gridtune_common.errors import InvalidDocument
from gridtune_common.space import SearchSpace
from gridtune_common.space.reading import Flaws, is_number, join, read_mapping, show
from gridtune_common.taskfile.command import as_text, join_arguments
from gridtune_common.taskfile.constraints import check_constraints
from gridtune_common.taskfile.data import DataSource, check_data
from gridtune_common.taskfile.model import (
    SCHEDULERS,
    Algorithm,
    Checkpoint,
    Objective,
    Payload,
    Resources,
    ResultRule,
    Scheduler,
    StopRules,
    Task,
    check_constants,
    check_distinct,
    check_initial_points,
    check_names,
    check_task_name,
    check_warm_start,
)
from gridtune_common.taskfile.requirements import read_requirements
from gridtune_common.taskfile.retry import Retry
from gridtune_common.taskfile.values import clean_path

T = TypeVar("T")

#: The known keys of each section; the empty path is the document itself.
KEYS: Final[Mapping[str, tuple[str, ...]]] = {
    "": (
        "name",
        "dialect",
        "space",
        "constraints",
        "constants",
        "objective",
        "algorithm",
        "scheduler",
        "payload",
        "resources",
        "stop",
        "retry",
        "initial_points",
        "warm_start",
    ),
    "objective": ("metric", "goal"),
    "algorithm": ("name", "seed", "options"),
    "scheduler": ("name",),
    "payload": (
        "command",
        "image",
        "runtime",
        "pull",
        "files",
        "data",
        "environment",
        "result",
        "checkpoint",
        "timeout",
        "grace",
    ),
    "payload.data": ("url", "command", "sha256", "size", "timeout"),
    "payload.result": ("file", "stdout"),
    "payload.checkpoint": ("paths", "interval", "keep", "compression"),
    "resources": ("cpus", "gpus", "memory", "network", "requires"),
    "stop": ("points", "target", "wall_time", "patience"),
    "retry": ("attempts", "lost", "infrastructure", "stalled", "same_failure"),
}

#: The keys that a section cannot do without, each with an example.
REQUIRED: Final[Mapping[str, Mapping[str, str]]] = {
    "": {
        "space": "{width: {type: int, low: 16, high: 512}}",
        "objective": "{metric: val_loss, goal: minimize}",
        "stop": "{points: 60}",
    },
    "objective": {"metric": "val_loss"},
    "payload": {"command": "python train.py"},
    "payload.checkpoint": {"paths": "[model.pt]"},
}

#: What other programs call things, and what to write here.
_HINTS: Final[Mapping[str, Mapping[str, str]]] = {
    "": {
        "parameters": "write space",
        "search_space": "write space",
        "metric": "write objective: {metric: …}",
        "command": "write payload: {command: …}",
        "optimizer": "write algorithm",
    },
    "objective": {"name": "write metric", "direction": "write goal", "mode": "write goal"},
    "algorithm": {"random_state": "write seed", "params": "write options", "parameters": "write options"},
    "payload": {
        "env": "write environment",
        "cmd": "write command",
        "inputs": "write data",
        "container": "write image",
    },
    "payload.data": {
        "checksum": "write sha256",
        "path": "write url: file:///path",
        "uri": "write url",
        "bytes": "write size",
    },
    "resources": {
        "mem": "write memory",
        "ram": "write memory",
        "cores": "write cpus",
        "labels": "write requires",
        "requirements": "write requires",
        **{name: f"write requires: {{{name}: …}}" for name in ("site", "host", "arch")},
    },
    "stop": {"trials": "write points", "n_trials": "write points", "max_trials": "write points"},
}

#: Quantities are written with their unit, and named for it where they are kept.
_QUANTITIES: Final[Mapping[str, tuple[str, Callable[[str], Union[int, float]], str]]] = {
    "interval": ("interval_seconds", units.seconds, "s"),
    "timeout": ("timeout_seconds", units.seconds, "s"),
    "grace": ("grace_seconds", units.seconds, "s"),
    "wall_time": ("wall_time_seconds", units.seconds, "s"),
    "memory": ("memory_bytes", units.n_bytes, "GiB"),
    "size": ("size_bytes", units.n_bytes, "GiB"),
}
_MAX_QUANTITY_LENGTH: Final = 400  # to read longer ones would take long, and they mean nothing
_STAND_IN: Final = 1.0  # for a quantity that cannot be read, so that the rest of its section can be checked


def parse_task(document: Any, default_name: str = "task") -> Task:
    """Read a task.

    Args:
        document: The task file's content.
        default_name: The task's name if the document gives none.

    Raises:
        InvalidDocument: It cannot be used; names every flaw.
    """
    flaws = Flaws()
    task = _read_task(document, default_name, flaws)
    flaws.raise_if_any()
    return cast(Task, task)


def parse_payload(document: Any) -> Payload:
    """Read the ``payload`` section by itself, as the side that evaluates receives it.

    Raises:
        InvalidDocument: It cannot be used; names every flaw.
    """
    flaws = Flaws()
    payload = _read_payload(document, flaws)
    flaws.raise_if_any()
    return cast(Payload, payload)


def parse_resources(document: Any) -> Resources:
    """Read the ``resources`` section by itself, as the side that hands points out needs it.

    Raises:
        InvalidDocument: It cannot be used; names every flaw.
    """
    flaws = Flaws()
    resources = _read_resources(document, flaws)
    flaws.raise_if_any()
    return cast(Resources, resources)


def parse_data(document: Any, files: Collection[str], result_file: str) -> dict[str, DataSource]:
    """Read ``payload.data`` by itself, as agents do.

    Args:
        document: What is written there; None for nothing.
        files: The paths of the files that travel with the task.
        result_file: The path of the result.

    Raises:
        InvalidDocument: It cannot be used; names every flaw.
    """
    flaws = Flaws()
    data = _read_data({} if document is None else document, flaws)
    flaws.adopt("payload", check_data("data", data, list(files), result_file))
    flaws.raise_if_any()
    return {clean_path(path): source for path, source in data.items()}


def _read_task(document: Any, default_name: str, flaws: Flaws) -> Optional[Task]:
    if document is None or document == {}:
        flaws.add("", "the task is empty; write at least space, objective, stop and a payload")
        return None
    if dialects.is_bare_space(document):
        flaws.add("", "this is a search space, not a task; put it under space:, and add objective, stop and a payload")
        return None
    ours = _in_our_form(document, flaws)
    fields = _read_fields(document if ours is None else ours, "", "", flaws)
    if fields is None:
        return None
    name, constants = fields.get("name", default_name), fields.get("constants", {})
    flaws.adopt("", check_task_name("name", name))
    flaws.adopt("", check_constants("constants", constants))
    sections = {
        "space": None if ours is None else _read_space(fields.get("space"), flaws),
        "objectives": _read_objectives(fields.get("objective"), flaws),
        "algorithm": _read_section(Algorithm, _named(fields.get("algorithm", {})), "algorithm", flaws),
        "scheduler": _read_scheduler(_named(fields.get("scheduler", {})), flaws),
        "payload": _read_payload(fields.get("payload"), flaws),
        "resources": _read_resources(fields.get("resources", {}), flaws),
        "stop": _read_section(StopRules, fields.get("stop"), "stop", flaws),
        "retry": _read_section(Retry, fields.get("retry", {}), "retry", flaws),
    }
    if ours is not None:
        _check_names(fields, flaws)
    initial_points = fields.get("initial_points", ())
    constraints = fields.get("constraints", ())
    constraints = [constraints] if isinstance(constraints, str) else constraints
    warm_start = fields.get("warm_start", ())
    warm_start = [warm_start] if isinstance(warm_start, str) else warm_start
    flaws.adopt("", check_warm_start("warm_start", warm_start))
    if isinstance(sections["space"], SearchSpace):
        flaws.adopt("", check_initial_points("initial_points", initial_points, sections["space"]))
        flaws.adopt("", check_constraints("constraints", constraints, sections["space"].names))
    if len(flaws):
        return None
    extras = {"constants": constants, "constraints": constraints}
    extras |= {"initial_points": initial_points, "warm_start": warm_start}
    return flaws.build("", Task, name=name, **extras, **sections)


def _in_our_form(document: Any, flaws: Flaws) -> Optional[Any]:
    """The document with its space in our form; None if the space cannot be converted."""
    try:
        return dialects.translate(document).document
    except InvalidDocument as error:
        flaws.adopt("", error.flaws)
        return None


def _read_fields(document: Any, path: str, section: str, flaws: Flaws) -> Optional[dict[str, Any]]:
    """The fields of a section; None if one that it cannot do without is missing."""
    fields = read_mapping(document, path, KEYS[section], flaws, _HINTS.get(section))
    if fields is None:
        return None
    required = REQUIRED.get(section, {})
    for key, example in required.items():
        if key not in fields:
            flaws.add(join(path, key), f"is missing; write {key}: {example}")
    return fields if section == "" or set(required) <= set(fields) else None


def _read_section(
    kind: Callable[..., T], document: Any, path: str, flaws: Flaws, section: Optional[str] = None
) -> Optional[T]:
    if document is None:  # left out; if it is required, that was noted already
        return None
    fields = _read_fields(document, path, section or path, flaws)
    return None if fields is None else flaws.build(path, kind, **_arguments(fields, path, flaws))


def _arguments(fields: Mapping[str, Any], path: str, flaws: Flaws) -> dict[str, Any]:
    """The constructor's arguments: quantities are read and called for their unit."""
    arguments: dict[str, Any] = {}
    for key, value in fields.items():
        if key in _QUANTITIES:
            name, read, unit = _QUANTITIES[key]
            arguments[name] = _read_quantity(read, unit, value, join(path, key), flaws)
        else:
            arguments[key] = value
    return arguments


def _read_quantity(
    read: Callable[[str], Union[int, float]], unit: str, value: Any, path: str, flaws: Flaws
) -> Union[int, float]:
    if is_number(value):
        flaws.add(path, f"{show(value)} has no unit; write the unit, such as {show(value)}{unit}")
    elif not isinstance(value, str) or len(value) > _MAX_QUANTITY_LENGTH:
        flaws.add(path, f"{show(value)} is no quantity; write a number with its unit, such as 5{unit}")
    else:
        try:
            return read(value)
        except ValueError as error:
            flaws.add(path, str(error))
        except OverflowError:
            flaws.add(path, f"{show(value)} is too large; write less")
    return int(_STAND_IN) if unit == "GiB" else _STAND_IN


def _read_space(document: Any, flaws: Flaws) -> Optional[SearchSpace]:
    if document is None:
        return None
    try:
        return SearchSpace.parse(document)
    except InvalidDocument as error:
        flaws.adopt("", error.flaws)
        return None


def _read_objectives(document: Any, flaws: Flaws) -> tuple[Objective, ...]:
    if document is None:
        return ()
    if not isinstance(document, (list, tuple)):
        objective = _read_section(Objective, document, "objective", flaws)
        return () if objective is None else (objective,)
    if not document:
        flaws.add("objective", f"is empty; write {REQUIRED['']['objective']}")
    read = [
        _read_section(Objective, body, f"objective[{index}]", flaws, "objective") for index, body in enumerate(document)
    ]
    objectives = tuple(objective for objective in read if objective is not None)
    if len(objectives) == len(document):
        flaws.adopt("", check_distinct(objectives))
    return objectives


def _named(document: Any) -> Any:
    return {"name": document} if isinstance(document, str) else document


def _read_scheduler(document: Any, flaws: Flaws) -> Optional[Scheduler]:
    if isinstance(document, Mapping) and document.get("name", SCHEDULERS[0]) not in SCHEDULERS:
        # its other keys may be right for the scheduler that was meant
        return flaws.build("scheduler", Scheduler, name=document["name"])
    return _read_section(Scheduler, document, "scheduler", flaws)


def _read_payload(document: Any, flaws: Flaws) -> Optional[Payload]:
    if document is None:
        return None
    fields = _read_fields(document, "payload", "payload", flaws)
    if fields is None:
        return None
    nested: dict[str, Any] = {
        "result": _read_section(ResultRule, fields.pop("result", None), "payload.result", flaws),
        "checkpoint": _read_section(Checkpoint, fields.pop("checkpoint", None), "payload.checkpoint", flaws),
    }
    data = _read_data(fields.pop("data", {}), flaws)
    fields["command"] = _read_command(fields["command"], flaws)
    if isinstance(fields.get("environment"), Mapping):
        fields["environment"] = {
            name: as_text(value) if is_number(value) else value for name, value in fields["environment"].items()
        }
    arguments = _arguments(fields, "payload", flaws)
    present = {key: value for key, value in nested.items() if value is not None}
    return flaws.build("payload", Payload, **arguments, **present, data=data)


def _read_data(document: Any, flaws: Flaws) -> Any:
    """The sources by path; what is no mapping is left for the payload to refuse."""
    if not isinstance(document, Mapping):
        return document
    read = {path: _read_source(str(path), source, flaws) for path, source in document.items()}
    return {path: source for path, source in read.items() if source is not None}


def _read_source(path: str, source: Any, flaws: Flaws) -> Optional[DataSource]:
    """A source; an address alone is short for an object with it."""
    full = {"url": source} if isinstance(source, str) else source
    return _read_section(DataSource, full, join("payload.data", path), flaws, "payload.data")


def _read_resources(document: Any, flaws: Flaws) -> Optional[Resources]:
    fields = _read_fields(document, "resources", "resources", flaws)
    if fields is None:
        return None
    requires = read_requirements(fields.pop("requires", ()), "resources.requires", flaws)
    return flaws.build("resources", Resources, **_arguments(fields, "resources", flaws), requires=requires)


def _read_command(command: Any, flaws: Flaws) -> Any:
    if not isinstance(command, (list, tuple)):
        return command
    arguments: list[str] = []
    for index, argument in enumerate(command):
        if isinstance(argument, str) or is_number(argument):
            arguments.append(as_text(argument))
        else:
            flaws.add(f"payload.command[{index}]", f"{show(argument)} is no text; put it in quotes")
            arguments.append(show(argument))
    return join_arguments(arguments)


def _check_names(fields: Mapping[str, Any], flaws: Flaws) -> None:
    """Compare the names that the sections use, also while other things are wrong with these sections."""
    space, constants = fields.get("space"), fields.get("constants", {})
    payload = fields.get("payload")
    if isinstance(space, Mapping) and isinstance(constants, Mapping):
        command = payload.get("command") if isinstance(payload, Mapping) else None
        if isinstance(command, (list, tuple)):
            command = " ".join(map(str, command))
        names = [str(name) for name in space]
        flaws.adopt("", check_names(names, constants, command if isinstance(command, str) else ""))
