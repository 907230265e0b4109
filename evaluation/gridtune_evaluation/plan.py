"""A task's payload section for use: defaults filled in, durations in seconds, patterns compiled."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from re import Pattern
from typing import Any, Final

from gridtune_common import protocol
from gridtune_common.errors import Flaw, InvalidDocument
from gridtune_common.protocol import ArchiveFormat
from gridtune_common.taskfile import DataSource, parse_data
from gridtune_common.units import n_bytes, seconds
from gridtune_evaluation.runtimes import AUTO
from gridtune_evaluation.runtimes.port import Image
from gridtune_evaluation.shares import Needs

_RESULT_FILE: Final = "output.json"
_GRACE: Final = "30s"
_INTERVAL: Final = "5m"
_FORMATS: Final = {"zstd": ArchiveFormat.TAR_ZSTD}


@dataclass(frozen=True)
class Plan:
    """What is the same for all points of a task.

    Attributes:
        command: With ``{name}`` placeholders.
        image: The container image that the task names.
        runtime: How the task wants its payloads to run; ``auto`` for no wish.
        needs: What an evaluation asks of its worker.
        environment: Variables for the payload.
        data: Inputs that are fetched once on each node, by their path below the working directory.
        result_file: Where the payload leaves its metrics, relative to the working directory.
        patterns: Metric → what finds it in the output.
        timeout_seconds: How long the payload may run; None for ever.
        grace_seconds: From SIGTERM to SIGKILL.
        checkpoint_paths: What to save, besides the folder that each payload has for it.
        checkpoint_seconds: The time between two checkpoints.
        checkpoint_format: How they are packed.
        objectives: The metrics that a result must have.
        constants: Added to every point's parameters.
        parameters: The names of all parameters, also of those that are inactive at a point.
    """

    task: str
    command: str
    image: Image | None
    runtime: str
    needs: Needs
    environment: Mapping[str, str]
    files: tuple[protocol.FileEntry, ...]
    data: Mapping[str, DataSource]
    result_file: str
    patterns: Mapping[str, Pattern[str]]
    timeout_seconds: float | None
    grace_seconds: float
    checkpoint_paths: tuple[str, ...]
    checkpoint_seconds: float
    checkpoint_format: ArchiveFormat
    objectives: tuple[str, ...]
    constants: Mapping[str, Any]
    parameters: tuple[str, ...]

    @classmethod
    def read(cls, payload: protocol.Payload) -> Plan:
        """Read what steering says of a task.

        Raises:
            InvalidDocument: The payload section cannot be used by this agent.
        """
        document = payload.document
        result, checkpoint = document.get("result") or {}, document.get("checkpoint") or {}
        image = document.get("image")
        flaws: list[Flaw] = []
        plan = cls(
            task=payload.task,
            command=str(document.get("command") or ""),
            image=Image(str(image), str(document.get("pull") or "missing")) if image else None,
            runtime=str(document.get("runtime") or AUTO),
            needs=_needs(payload.resources, flaws),
            environment={name: str(value) for name, value in (document.get("environment") or {}).items()},
            files=tuple(payload.files),
            data=parse_data(document.get("data"), _names(payload), str(result.get("file") or _RESULT_FILE)),
            result_file=str(result.get("file") or _RESULT_FILE),
            patterns=_patterns(result.get("stdout") or {}, flaws),
            timeout_seconds=_seconds(document, "timeout", None, flaws),
            grace_seconds=_seconds(document, "grace", _GRACE, flaws) or 0.0,
            checkpoint_paths=tuple(checkpoint.get("paths") or ()),
            checkpoint_seconds=_seconds(checkpoint, "interval", _INTERVAL, flaws) or 0.0,
            checkpoint_format=_FORMATS.get(str(checkpoint.get("compression")), ArchiveFormat.TAR),
            objectives=tuple(payload.objectives),
            constants=payload.constants,
            parameters=tuple(payload.parameters),
        )
        if not plan.command:
            fix = "the task has no command; it is evaluated by the program that submitted it"
            flaws.append(Flaw("payload.command", fix))
        if flaws:
            raise InvalidDocument(flaws)
        return plan


def _names(payload: protocol.Payload) -> list[str]:
    return [entry.path for entry in payload.files]


def _needs(resources: Mapping[str, Any], flaws: list[Flaw]) -> Needs:
    memory = resources.get("memory")
    try:
        memory_bytes = None if memory is None else n_bytes(str(memory))
    except ValueError as error:
        flaws.append(Flaw("resources.memory", str(error)))
        memory_bytes = None
    return Needs(
        cpus=int(resources.get("cpus") or 1),
        gpus=int(resources.get("gpus") or 0),
        memory_bytes=memory_bytes,
        network=bool(resources.get("network")),
    )


def _seconds(document: Mapping[str, Any], key: str, default: str | None, flaws: list[Flaw]) -> float | None:
    text = document.get(key) or default
    if text is None:
        return None
    try:
        return seconds(str(text))
    except ValueError as error:
        flaws.append(Flaw(f"payload.{key}", str(error)))
        return None


def _patterns(texts: Mapping[str, str], flaws: list[Flaw]) -> Mapping[str, Pattern[str]]:
    patterns = {}
    for metric, text in texts.items():
        try:
            patterns[metric] = re.compile(text, re.MULTILINE)
        except re.error as error:
            flaws.append(Flaw(f"payload.result.stdout.{metric}", f"no regular expression: {error}"))
    return patterns
