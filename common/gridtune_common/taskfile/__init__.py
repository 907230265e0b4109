"""The task file: one document that says what to search, how, for what, and until when."""

from gridtune_common.taskfile.command import as_text, fill, placeholders
from gridtune_common.taskfile.data import DataSource
from gridtune_common.taskfile.loading import LoadedTask, load_task, parse_text
from gridtune_common.taskfile.model import (
    Algorithm,
    Checkpoint,
    Objective,
    Payload,
    Resources,
    ResultRule,
    Scheduler,
    StopRules,
    Task,
)
from gridtune_common.taskfile.parsing import parse_data, parse_payload, parse_resources, parse_task
from gridtune_common.taskfile.requirements import Facts, Requirement
from gridtune_common.taskfile.retry import Retry
from gridtune_common.taskfile.schema import task_schema

__all__ = [
    "Algorithm",
    "Checkpoint",
    "DataSource",
    "Facts",
    "LoadedTask",
    "Objective",
    "Payload",
    "Requirement",
    "Resources",
    "ResultRule",
    "Retry",
    "Scheduler",
    "StopRules",
    "Task",
    "as_text",
    "fill",
    "load_task",
    "parse_data",
    "parse_payload",
    "parse_resources",
    "parse_task",
    "parse_text",
    "placeholders",
    "task_schema",
]
