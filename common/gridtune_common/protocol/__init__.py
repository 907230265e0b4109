"""The wire protocol: every message between agents, users and the steering service, as frozen dataclasses.

One definition for all: agents use these classes as they are, steering validates requests against them and derives its
OpenAPI document from them. The protocol is additive only: a field may be added with a default, none is renamed, removed
or given another meaning; whoever reads a message ignores fields that it does not know.

Times are ISO 8601 in UTC. Durations are in seconds. A metric that is not a finite number travels as ``null``.
"""

from gridtune_common.protocol.evaluations import (
    Ask,
    Fail,
    Heartbeat,
    Lease,
    Outcome,
    Release,
    Report,
    Reports,
    Tell,
    Verdict,
)
from gridtune_common.protocol.identity import (
    CreatedToken,
    CreateToken,
    Scope,
    Token,
    TokenList,
)
from gridtune_common.protocol.own_points import (
    AddedPoints,
    AddPoints,
    ImportedResults,
    ImportResults,
    KnownResult,
    OwnPoint,
)
from gridtune_common.protocol.records import (
    Best,
    Evaluation,
    Event,
    EventPage,
    Export,
    Point,
    PointDetail,
    PointPage,
    StoredKnownResult,
    StoredReport,
    StoredWish,
)
from gridtune_common.protocol.service import (
    Health,
    Identity,
    Problem,
    ProblemError,
)
from gridtune_common.protocol.states import (
    Advice,
    EvaluationState,
    FailureCause,
    Metrics,
    Parameters,
    PointOrigin,
    PointState,
    ReleaseCause,
    TaskAction,
    TaskState,
    Value,
)
from gridtune_common.protocol.storage import (
    ArchiveFormat,
    BeginUpload,
    Checkpoint,
    CommitUpload,
    Download,
    ObjectKind,
    Storage,
    StorageUse,
    Upload,
)
from gridtune_common.protocol.tasks import (
    ChangeTask,
    FileEntry,
    Objective,
    Payload,
    PointCounts,
    ShippedFile,
    SubmitTask,
    Task,
    TaskPage,
    TaskSummary,
)
from gridtune_common.protocol.workers import (
    ForgiveHost,
    WorkerHost,
    WorkerHosts,
)

#: Sent by both sides in the header below; grows only if a client must know of a change.
PROTOCOL_VERSION = 1
PROTOCOL_HEADER = "Gridtune-Protocol"

__all__ = [
    "PROTOCOL_HEADER",
    "PROTOCOL_VERSION",
    "AddPoints",
    "AddedPoints",
    "Advice",
    "ArchiveFormat",
    "Ask",
    "BeginUpload",
    "Best",
    "ChangeTask",
    "Checkpoint",
    "CommitUpload",
    "CreateToken",
    "CreatedToken",
    "Download",
    "Evaluation",
    "EvaluationState",
    "Event",
    "EventPage",
    "Export",
    "Fail",
    "FailureCause",
    "FileEntry",
    "ForgiveHost",
    "Health",
    "Heartbeat",
    "Identity",
    "ImportResults",
    "ImportedResults",
    "KnownResult",
    "Lease",
    "Metrics",
    "ObjectKind",
    "Objective",
    "Outcome",
    "OwnPoint",
    "Parameters",
    "Payload",
    "Point",
    "PointCounts",
    "PointDetail",
    "PointOrigin",
    "PointPage",
    "PointState",
    "Problem",
    "ProblemError",
    "Release",
    "ReleaseCause",
    "Report",
    "Reports",
    "Scope",
    "ShippedFile",
    "Storage",
    "StorageUse",
    "StoredKnownResult",
    "StoredReport",
    "StoredWish",
    "SubmitTask",
    "Task",
    "TaskAction",
    "TaskPage",
    "TaskState",
    "TaskSummary",
    "Tell",
    "Token",
    "TokenList",
    "Upload",
    "Value",
    "Verdict",
    "WorkerHost",
    "WorkerHosts",
]
