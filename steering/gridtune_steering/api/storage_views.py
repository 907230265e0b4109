"""The routes of checkpoints, logs, watched output and inputs: where they go, where they are, how much there is."""

from __future__ import annotations

from gridtune_common.protocol import (
    BeginUpload,
    CommitUpload,
    Download,
    LiveOutput,
    LocateInput,
    Outcome,
    Output,
    ReportDamage,
    Storage,
    Upload,
    Verdict,
)
from gridtune_steering.api.context import Context
from gridtune_steering.api.routing import Access, route
from gridtune_steering.services import inputs, outputs, storage


@route(
    "POST",
    "/evaluations/<evaluation>/uploads",
    access=Access.EVALUATE,
    body=BeginUpload,
    returns=Upload,
    urgent=True,
)
def begin_upload(context: Context, evaluation: str, *, body: BeginUpload) -> Upload:
    """Begin to upload a checkpoint or log; the answer says where its parts go."""
    return storage.begin(context.steering, context.caller, evaluation, body)


@route("GET", "/evaluations/<evaluation>/uploads/<upload>", access=Access.EVALUATE, returns=Upload, urgent=True)
def get_upload(context: Context, evaluation: str, upload: str) -> Upload:
    """Get fresh addresses for the parts of an upload."""
    return storage.addresses(context.steering, context.caller, evaluation, upload)


@route(
    "POST",
    "/evaluations/<evaluation>/uploads/<upload>/commit",
    access=Access.EVALUATE,
    body=CommitUpload,
    returns=Outcome,
    urgent=True,
)
def commit_upload(context: Context, evaluation: str, upload: str, *, body: CommitUpload) -> Outcome:
    """Say that all parts were sent; from then on the object exists."""
    return storage.commit(context.steering, context.caller, evaluation, upload, body)


@route("GET", "/evaluations/<evaluation>/objects/<object_>", access=Access.EVALUATE, returns=Download)
def get_download(context: Context, evaluation: str, object_: str) -> Download:
    """Get the address of a checkpoint of the evaluation's point."""
    return storage.download(context.steering, context.caller, evaluation, object_)


@route(
    "POST",
    "/evaluations/<evaluation>/objects/<object_>/damage",
    access=Access.EVALUATE,
    body=ReportDamage,
    returns=Outcome,
)
def report_damage(context: Context, evaluation: str, object_: str, *, body: ReportDamage) -> Outcome:
    """Say that a checkpoint cannot be restored."""
    return storage.report_damage(context.steering, context.caller, evaluation, object_, body)


@route("POST", "/evaluations/<evaluation>/output", access=Access.EVALUATE, body=Output, returns=Verdict, urgent=True)
def send_output(context: Context, evaluation: str, *, body: Output) -> Verdict:
    """Send what a watched evaluation has printed, and renew the lease."""
    return outputs.send(context.steering, context.caller, evaluation, body)


@route("GET", "/tasks/<task>/points/<int:number>/output", access=Access.USER, returns=LiveOutput)
def get_output(context: Context, task: str, number: int) -> LiveOutput:
    """Watch what the running evaluation of a point prints."""
    return outputs.look(context.steering, context.caller, task, number)


@route("GET", "/tasks/<task>/objects/<object_>", access=Access.USER, returns=Download)
def fetch_object(context: Context, task: str, object_: str) -> Download:
    """Get the address of one of a task's checkpoints or logs."""
    return storage.fetch(context.steering, context.caller, task, object_)


@route("POST", "/tasks/<task>/data-address", access=Access.EVALUATE, body=LocateInput, returns=Download)
def locate_input(context: Context, task: str, *, body: LocateInput) -> Download:
    """Get an address from which an s3:// input of the task can be fetched without credentials."""
    return inputs.locate(context.steering, context.caller, task, body)


@route("GET", "/storage", access=Access.USER, returns=Storage)
def get_storage(context: Context) -> Storage:
    """See what is stored, by task."""
    return storage.use(context.steering, context.caller)
