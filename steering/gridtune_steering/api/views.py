"""The routes of the native API. Each view says what it needs, calls one service function and returns its message."""

from __future__ import annotations

from http import HTTPStatus

from flask import Response

from gridtune_common.protocol import (
    AddedPoints,
    AddPoints,
    Best,
    ChangeTask,
    CreatedToken,
    CreateToken,
    EventPage,
    ForgiveHost,
    Identity,
    ImportedResults,
    ImportResults,
    Payload,
    PointDetail,
    PointPage,
    SubmitTask,
    Task,
    TaskPage,
    TaskSummary,
    TokenList,
    WorkerHosts,
)
from gridtune_steering import report as html_report
from gridtune_steering.api.context import Context
from gridtune_steering.api.queries import DeleteQuery, EventQuery, ExportQuery, PointQuery, TaskQuery, WorkerQuery
from gridtune_steering.api.routing import Access, route
from gridtune_steering.services import (
    archiving,
    imports,
    records,
    submission,
    tasks,
    tokens,
    wishes,
    workers,
)

# --- tasks


@route("POST", "/tasks", access=Access.USER, body=SubmitTask, returns=Task, status=HTTPStatus.CREATED)
def submit_task(context: Context, *, body: SubmitTask) -> Task:
    """Submit a task."""
    return submission.submit(context.steering, context.caller, body)


@route("GET", "/tasks", access=Access.USER, query=TaskQuery, returns=TaskPage)
def list_tasks(context: Context, *, query: TaskQuery) -> TaskPage:
    """List tasks, newest first."""
    return tasks.listing(
        context.steering,
        context.caller,
        state=query.state,
        name=query.name,
        owner=query.owner,
        after=query.after,
        limit=query.limit,
    )


@route("GET", "/tasks/<task>", access=Access.USER, returns=Task)
def get_task(context: Context, task: str) -> Task:
    """See a task."""
    return tasks.get(context.steering, context.caller, task)


@route("PATCH", "/tasks/<task>", access=Access.USER, body=ChangeTask, returns=Task)
def change_task(context: Context, task: str, *, body: ChangeTask) -> Task:
    """Pause, resume, cancel or extend a task."""
    return tasks.change(context.steering, context.caller, task, body)


@route("DELETE", "/tasks/<task>", access=Access.USER, query=DeleteQuery, status=HTTPStatus.NO_CONTENT)
def delete_task(context: Context, task: str, *, query: DeleteQuery) -> None:
    """Delete an ended task with all its points, archived or not."""
    tasks.delete(context.steering, context.caller, task, query.request_id)


@route("POST", "/tasks/<task>/archive", access=Access.USER, returns=TaskSummary)
def archive_task(context: Context, task: str) -> TaskSummary:
    """Move an ended task out of the database; its export can still be read (operators)."""
    return archiving.archive(context.steering, context.caller, task)


@route("GET", "/tasks/<task>/payload", access=Access.EVALUATE, returns=Payload)
def get_payload(context: Context, task: str) -> Payload:
    """What an agent needs to evaluate the task's points."""
    return tasks.payload(context.steering, context.caller, task)


@route("GET", "/tasks/<task>/files/<path:path>", access=Access.EVALUATE, content=("application/octet-stream",))
def get_file(context: Context, task: str, path: str) -> Response:
    """Fetch one of the task's files."""
    content = tasks.file_content(context.steering, context.caller, task, path)
    return Response(content, mimetype="application/octet-stream")


# --- bookkeeping


@route("GET", "/tasks/<task>/points", access=Access.USER, query=PointQuery, returns=PointPage)
def list_points(context: Context, task: str, *, query: PointQuery) -> PointPage:
    """List a task's points by number."""
    return records.point_page(
        context.steering, context.caller, task, state=query.state, after=query.after, limit=query.limit
    )


@route("GET", "/tasks/<task>/points/<int:number>", access=Access.USER, returns=PointDetail)
def get_point(context: Context, task: str, number: int) -> PointDetail:
    """See a point with its evaluations and reports."""
    return records.point_detail(context.steering, context.caller, task, number)


@route("POST", "/tasks/<task>/points", access=Access.USER, body=AddPoints, returns=AddedPoints)
def add_points(context: Context, task: str, *, body: AddPoints) -> AddedPoints:
    """Queue points of your own, to be tried ahead of what the optimizer proposes."""
    return wishes.add(context.steering, context.caller, task, body)


@route("POST", "/tasks/<task>/results", access=Access.USER, body=ImportResults, returns=ImportedResults)
def import_results(context: Context, task: str, *, body: ImportResults) -> ImportedResults:
    """Give the optimizer results from elsewhere to learn."""
    return imports.take(context.steering, context.caller, task, body)


@route("GET", "/tasks/<task>/best", access=Access.USER, returns=Best)
def get_best(context: Context, task: str) -> Best:
    """See the best point so far or, with several objectives, the whole Pareto front."""
    return records.best(context.steering, context.caller, task)


@route("GET", "/tasks/<task>/events", access=Access.USER, query=EventQuery, returns=EventPage)
def list_events(context: Context, task: str, *, query: EventQuery) -> EventPage:
    """Read a task's audit log, oldest first."""
    return records.event_page(
        context.steering, context.caller, task, kind=query.kind, after=query.after, limit=query.limit
    )


@route(
    "GET",
    "/tasks/<task>/export",
    access=Access.USER,
    query=ExportQuery,
    content=("application/json", "text/csv", "text/html"),
)
def export_task(context: Context, task: str, *, query: ExportQuery) -> Response:
    """Export everything as JSON, the points as CSV, or a report as HTML; also of archived tasks."""
    if query.format == "json":
        return Response(archiving.document(context.steering, context.caller, task), mimetype="application/json")
    exported = archiving.export(context.steering, context.caller, task)
    if query.format == "csv":
        return Response(records.as_csv(exported), mimetype="text/csv")
    return Response(html_report.render(exported), mimetype="text/html")


# --- workers


@route("GET", "/workers", access=Access.USER, query=WorkerQuery, returns=WorkerHosts)
def list_workers(context: Context, *, query: WorkerQuery) -> WorkerHosts:
    """List the hosts that workers run on, by site and name (operators)."""
    return workers.listing(context.steering, context.caller, everything=query.all, after=query.after, limit=query.limit)


@route("POST", "/workers/forgive", access=Access.USER, body=ForgiveHost, returns=WorkerHosts)
def forgive_host(context: Context, *, body: ForgiveHost) -> WorkerHosts:
    """Forget the failures of a host, so that it gets points again (operators)."""
    return workers.forgive(context.steering, context.caller, body)


# --- identity


@route("GET", "/whoami", access=Access.EVALUATE, returns=Identity)
def whoami(context: Context) -> Identity:
    """See who the caller is."""
    return tokens.identity(context.caller)


@route("POST", "/tokens", access=Access.USER, body=CreateToken, returns=CreatedToken, status=HTTPStatus.CREATED)
def create_token(context: Context, *, body: CreateToken) -> CreatedToken:
    """Make a token; its secret is in this answer only."""
    return tokens.create(context.steering, context.caller, body)


@route("GET", "/tokens", access=Access.USER, returns=TokenList)
def list_tokens(context: Context) -> TokenList:
    """List tokens without their secrets."""
    return tokens.listing(context.steering, context.caller)


@route("DELETE", "/tokens/<token>", access=Access.USER, query=DeleteQuery, status=HTTPStatus.NO_CONTENT)
def revoke_token(context: Context, token: str, *, query: DeleteQuery) -> None:
    """Revoke a token."""
    tokens.revoke(context.steering, context.caller, token)
