"""The JSON Schema of task files: for editors, which complete keys and show their meaning while one writes.

The schema knows shapes, not relations: what it accepts, `parse_task` may still refuse.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from gridtune_common.dialects import DIALECTS
from gridtune_common.dialects.hpogrid import METHODS
from gridtune_common.dialects.idds import TYPES
from gridtune_common.dialects.optuna import DISTRIBUTIONS
from gridtune_common.dialects.raytune import CALL
from gridtune_common.space.base import MAX_NAME_LENGTH as MAX_PARAMETER_NAME_LENGTH
from gridtune_common.taskfile import model, retry
from gridtune_common.taskfile.data import SCHEMES, SHA256
from gridtune_common.taskfile.requirements import MAX_REQUIREMENTS

_DURATION: Final = r"^\s*\d+(\.\d+)?\s*(s|m|min|h|d)(\s*\d+(\.\d+)?\s*(s|m|min|h|d))*\s*$"
_SIZE: Final = r"^\s*\d+(\.\d+)?\s*(B|kB|MB|GB|TB|KiB|MiB|GiB|TiB)\s*$"
_NUMBER: Final = r"^\s*[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?\s*$"
_NAME: Final = f"^[A-Za-z_][A-Za-z0-9_]{{0,{MAX_PARAMETER_NAME_LENGTH - 1}}}$"


def task_schema() -> dict[str, Any]:
    """The schema of a task file (JSON Schema 2020-12)."""
    schema = _object(
        "A gridtune task: what to search, how, for what, and until when.",
        {
            "name": _text("What to call the task; the file's name if left out.", f"^{model.TASK_NAME}$")
            | {"maxLength": model.MAX_NAME_LENGTH},
            "dialect": {
                "description": "The format of the space, if it is another program's; recognised if left out.",
                "enum": list(DIALECTS),
            },
            "space": _space(),
            "constraints": {
                "description": "Expressions over parameters that every point must fulfil: width * layers <= 4096.",
                "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}],
            },
            "constants": {
                "description": "JSON values that every point has besides its parameters.",
                "type": "object",
                "propertyNames": {"pattern": _NAME},
            },
            "initial_points": {
                "description": "Points to try first, in this order.",
                "type": "array",
                "items": {"type": "object"},
            },
            "warm_start": {
                "description": "Tasks, by name or id, whose results the algorithm knows from the start.",
                "anyOf": [_text("A task.", f"^{model.TASK_NAME}$"), _tasks()],
            },
            "objective": _objective(),
            "algorithm": _algorithm(),
            "scheduler": _scheduler(),
            "payload": _payload(),
            "resources": _resources(),
            "stop": _stop(),
            "retry": _retry(),
        },
        required=["space", "objective", "stop"],
    )
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "gridtune task", **schema}


def _tasks() -> dict[str, Any]:
    task = _text("A task.", f"^{model.TASK_NAME}$")
    return {"description": "Tasks, each once.", "type": "array", "items": task, "uniqueItems": True}


def _space() -> dict[str, Any]:
    when = {
        "description": "The parameter only exists while all of these parameters have one of the values.",
        "type": "object",
        "minProperties": 1,
        "additionalProperties": {"anyOf": [_scalar(), _choices("Values of the other parameter.")]},
    }
    low = _number("The smallest value.")
    high = _number("The largest value.")
    scale = _one_of("Whether differences or ratios matter.", ("linear", "log"), default="linear")
    listed = {"choices": _choices("The values, each once."), "when": when}
    return {
        "description": "The parameters by name.",
        "type": "object",
        "minProperties": 1,
        "propertyNames": {"pattern": _NAME},
        "additionalProperties": {
            "anyOf": [
                _object(
                    "A real number.",
                    {
                        "type": {"const": "float"},
                        "low": low,
                        "high": high,
                        "scale": scale,
                        "step": _number("The distance between values; continuous if left out."),
                        "when": when,
                    },
                    required=["type", "low", "high"],
                ),
                _object(
                    "A whole number.",
                    {
                        "type": {"const": "int"},
                        "low": low,
                        "high": high,
                        "scale": scale,
                        "step": _number("The distance between values.") | {"default": 1},
                        "when": when,
                    },
                    required=["type", "low", "high"],
                ),
                _object("A real number from a normal distribution.", _normal("normal", when), ["type", "mean", "std"]),
                _object(
                    "A positive number whose natural logarithm is from a normal distribution.",
                    _normal("lognormal", when),
                    ["type", "mean", "std"],
                ),
                _object(
                    "One of several values without an order.",
                    {"type": {"const": "categorical"}, **listed},
                    required=["type", "choices"],
                ),
                _object(
                    "One of several values in a row, where neighbours are alike.",
                    {"type": {"const": "ordinal"}, **listed},
                    required=["type", "choices"],
                ),
                _choices("Short for a categorical with these choices."),
                *_parameters_of_dialects(),
            ]
        },
    }


def _normal(kind: str, when: dict[str, Any]) -> dict[str, Any]:
    of_what = "natural logarithm of the value" if kind == "lognormal" else "value"
    return {
        "type": {"const": kind},
        "mean": _number(f"The mean of the {of_what}."),
        "std": _number(f"The standard deviation of the {of_what}, above 0."),
        "low": _number("The smallest value, where the distribution is cut off; no bound if left out."),
        "high": _number("The largest value, where the distribution is cut off; no bound if left out."),
        "step": _number("Values are multiples of this; continuous if left out."),
        "when": when,
    }


def _parameters_of_dialects() -> list[dict[str, Any]]:
    """Parameters as other programs write them, by their outline."""
    anything = {"description": "What belongs to it.", "type": "object"}
    bounds = {"description": "The lower and the upper bound.", "type": "array", "minItems": 2, "maxItems": 2}
    return [
        _text("A call of Ray Tune, such as loguniform(1e-4, 3e-2).", f"^{CALL}$"),
        _text("A distribution of Optuna as JSON text.", r"^\s*\{"),
        _object("As in hpogrid.", {"method": {"enum": list(METHODS)}, "dimension": anything}, ["method", "dimension"]),
        _object(
            "As in Optuna.", {"name": {"enum": list(DISTRIBUTIONS)}, "attributes": anything}, ["name", "attributes"]
        ),
        _object("As in iDDS.", {"type": {"enum": list(TYPES)}, "params": anything, "bounds": bounds}, ["type"]),
    ]


def _objective() -> dict[str, Any]:
    one = _object(
        "A metric and what to do with it.",
        {
            "metric": _text("The metric's name in the results.") | {"maxLength": model.MAX_NAME_LENGTH},
            "goal": _one_of("Whether less or more is better.", model.GOALS, default="minimize"),
        },
        required=["metric"],
    )
    return {
        "description": "What to optimise.",
        "anyOf": [one, {"type": "array", "items": one, "minItems": 1}],
    }


def _algorithm() -> dict[str, Any]:
    name = _text("Which algorithm proposes points.", f"^{model.ALGORITHM_NAME}$")
    whole = _object(
        "How points are proposed.",
        {
            "name": name | {"default": model.Algorithm().name},
            "seed": _whole("Where all randomness begins; drawn if left out.", 0, model.MAX_SEED),
            "options": {"description": "The algorithm's own settings.", "type": "object"},
        },
    )
    return {"description": "How points are proposed.", "anyOf": [name, whole]}


def _scheduler() -> dict[str, Any]:
    name = _one_of("Who decides how far each point is trained.", model.SCHEDULERS, default="none")
    return {
        "description": "How far each point is trained.",
        "anyOf": [name, _object("A scheduler.", {"name": name})],
    }


def _payload() -> dict[str, Any]:
    command = _text("Run by /bin/sh for each point; {name} stands for a value.")
    arguments = {
        "description": "The program and its arguments; {name} stands for a value.",
        "type": "array",
        "items": {"type": ["string", "number"]},
        "minItems": 1,
    }
    return _object(
        "What evaluates a point; left out if a program that asks for points itself does.",
        {
            "command": {"anyOf": [command, arguments]},
            "image": _text("The container image to run the command in.", r"^\S+$"),
            "runtime": _one_of("How the command is started.", model.RUNTIMES, default="auto"),
            "pull": _one_of("When the image is fetched.", model.PULLS, default="missing"),
            "files": _paths("Files and folders that travel with the task, relative to the task file."),
            "data": _data(),
            "environment": {
                "description": "Variables for the command.",
                "type": "object",
                "propertyNames": {"pattern": f"^(?!{model.RESERVED_PREFIX}){model.VARIABLE_NAME}$"},
                "additionalProperties": {"type": ["string", "number"]},
            },
            "result": _result(),
            "checkpoint": _checkpoint(),
            "timeout": _text("The longest that an evaluation may take, such as 2h.", _DURATION),
            "grace": _text("The time between SIGTERM and SIGKILL.", _DURATION) | {"default": "30s"},
        },
        required=["command"],
    )


def _data() -> dict[str, Any]:
    schemes = "|".join(SCHEMES)
    url = _text("An address: https://…, s3://bucket/key or file:///path.", rf"^({schemes})://\S+$")
    source = _object(
        "Where an input comes from: a url, or a command.",
        {
            "url": url,
            "command": _text("Run by /bin/sh on the node; {target} is the file to write, {dir} its folder."),
            "sha256": _text("The checksum of the file, as sha256sum prints it.", f"^{SHA256}$"),
            "size": _text("The size of the file, such as 12GiB.", _SIZE),
            "timeout": _text("The longest that fetching may take.", _DURATION) | {"default": "6h"},
        },
    )
    return {
        "description": "Inputs that are fetched once on each node, by their path below the working directory.",
        "type": "object",
        "additionalProperties": {"anyOf": [url, source]},
    }


def _result() -> dict[str, Any]:
    return _object(
        "Where the metrics of a finished training are found.",
        {
            "file": _text("A JSON file in the working directory.") | {"default": model.ResultRule().file},
            "stdout": {
                "description": "For printed metrics: a regular expression with one group, the number.",
                "type": "object",
                "additionalProperties": {"type": "string", "format": "regex"},
            },
        },
    )


def _checkpoint() -> dict[str, Any]:
    return _object(
        "What to save of an unfinished training.",
        {
            "paths": _paths("Files and folders below the working directory.") | {"minItems": 1},
            "interval": _text("The time between two checkpoints.", _DURATION) | {"default": "300s"},
            "keep": _whole("How many of a point's checkpoints are kept.", 1, model.MAX_KEPT, default=2),
            "compression": {
                "description": "How checkpoints are packed; zstd needs the package zstandard on every worker.",
                "enum": list(model.COMPRESSIONS),
                "default": "none",
            },
        },
        required=["paths"],
    )


def _resources() -> dict[str, Any]:
    return _object(
        "What one evaluation needs of its worker.",
        {
            "cpus": _whole("Processor cores.", 1, 10**6, default=1),
            "gpus": _whole("Graphics processors.", 0, 10**6, default=0),
            "memory": _text("Main memory, such as 4GiB.", _SIZE),
            "network": {
                "description": "Whether the payload may use the network, if it runs in a container.",
                "type": "boolean",
                "default": False,
            },
            "requires": _requires(),
        },
    )


def _requires() -> dict[str, Any]:
    requirement = _text("A requirement, such as gpu.memory >= 40GiB or site in CERN, DESY.")
    value = {"type": ["string", "number", "boolean"]}
    return {
        "description": "What else the worker has to be like.",
        "anyOf": [
            requirement,
            {"type": "array", "items": requirement, "maxItems": MAX_REQUIREMENTS},
            {
                "description": "Names and what they must equal; a list for one of several.",
                "type": "object",
                "additionalProperties": {"anyOf": [value, {"type": "array", "items": value, "minItems": 1}]},
            },
        ],
    }


def _stop() -> dict[str, Any]:
    rules = _object(
        "When the task has come to its end: as soon as one of these is met.",
        {
            "points": _whole("So many points are done, failed or stopped.", 1, model.MAX_POINTS),
            "target": {"description": "The first objective is this good or better.", "type": "number"},
            "wall_time": _text("So long after submission, such as 6h.", _DURATION),
            "patience": _whole("So many points in a row brought nothing better.", 1, model.MAX_POINTS),
        },
    )
    return rules | {"minProperties": 1}


def _retry() -> dict[str, Any]:
    tries, repetitions, default = retry.MAX_ATTEMPTS, retry.MAX_REPETITIONS, retry.Retry()
    stalled = "Stretches in a row that may end for want of time without having brought a point's training forward."
    same = "So many points that fail in the same way, before any is done, pause the task; 0 for never."
    return _object(
        "How often a point is tried before it counts as failed, by what went wrong.",
        {
            "attempts": _whole("Tries that the training itself may fail.", 1, tries, default=default.attempts),
            "lost": _whole("Workers that may be lost with a point.", 1, tries, default=default.lost),
            "infrastructure": _whole("Tries that a node may fail.", 1, tries, default=default.infrastructure),
            "stalled": _whole(stalled, 1, repetitions, default=default.stalled),
            "same_failure": _whole(same, 0, repetitions, default=default.same_failure),
        },
    )


# --- building blocks ----------------------------------------------------------------------------------------


def _object(description: str, properties: dict[str, Any], required: Sequence[str] = ()) -> dict[str, Any]:
    schema: dict[str, Any] = {"description": description, "type": "object", "properties": properties}
    if required:
        schema["required"] = list(required)
    return {**schema, "additionalProperties": False}


def _text(description: str, pattern: str = r"\S") -> dict[str, Any]:
    return {"description": description, "type": "string", "pattern": pattern}


def _whole(description: str, low: int, high: int, **extra: Any) -> dict[str, Any]:
    return {"description": description, "type": "integer", "minimum": low, "maximum": high, **extra}


def _number(description: str) -> dict[str, Any]:
    """A number, or the text of one: YAML 1.1 readers take 1e-5 for text."""
    return {"description": description, "type": ["number", "string"], "pattern": _NUMBER}


def _one_of(description: str, values: tuple[str, ...], default: str) -> dict[str, Any]:
    return {"description": description, "enum": list(values), "default": default}


def _scalar() -> dict[str, Any]:
    return {"type": ["boolean", "number", "string", "null"]}


def _choices(description: str) -> dict[str, Any]:
    return {
        "description": description,
        "type": "array",
        "items": _scalar(),
        "minItems": 1,
        "uniqueItems": True,
    }


def _paths(description: str) -> dict[str, Any]:
    return {
        "description": description,
        "type": "array",
        "items": _text("A relative path."),
        "uniqueItems": True,
    }
