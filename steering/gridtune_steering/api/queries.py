"""Query strings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from gridtune_common.protocol import PointState, TaskState

Limit = Annotated[int, Field(ge=1, le=1000, description="Items on a page.")]
Cursor = Annotated[str | None, Field(max_length=200, description="`next` of the page before.")]
RequestId = Annotated[str, Field(min_length=1, max_length=128, description="Made by the client, new for each request.")]


@dataclass(frozen=True)
class TaskQuery:
    """A page of tasks."""

    state: TaskState | None = None
    name: Annotated[str | None, Field(max_length=255, description="Exactly this name.")] = None
    owner: Annotated[str | None, Field(max_length=100, description="For operators: of this user.")] = None
    after: Cursor = None
    limit: Limit = 100


@dataclass(frozen=True)
class PointQuery:
    """A page of points."""

    state: PointState | None = None
    after: Cursor = None
    limit: Limit = 100


@dataclass(frozen=True)
class EventQuery:
    """A page of events."""

    kind: Annotated[str | None, Field(max_length=32)] = None
    after: Cursor = None
    limit: Limit = 100


@dataclass(frozen=True)
class ExportQuery:
    """The form of an export."""

    format: Literal["json", "csv", "html"] = "json"


@dataclass(frozen=True)
class DeleteQuery:
    """A deletion; a deleted thing stays deleted, so its id is for the client's own records."""

    request_id: RequestId


@dataclass(frozen=True)
class WorkerQuery:
    """A page of hosts."""

    all: Annotated[bool, Field(description="Also those that were not seen lately.")] = False
    after: Annotated[str | None, Field(max_length=4000, description="`next` of the page before.")] = None
    limit: Limit = 100
