"""The HTTP client of the steering service: one method per call, typed by the wire protocol.

Every call can be repeated without harm (mutating ones carry a `request_id`), so network errors and answers that say
"later" are retried with exponential back-off and jitter for as long as the caller allows.
"""

from __future__ import annotations

import random
import re
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Optional, TypeVar
from urllib.parse import quote, urlsplit

import requests

from gridtune_common import __version__, protocol, wire
from gridtune_common.errors import Refused, Unreachable

T = TypeVar("T")

#: Answers that mean "later", from the service or a proxy before it.
_LATER = frozenset({408, 429, 502, 503, 504})
#: Seconds for the TCP and TLS handshake, and for the service's answer beyond any long poll.
_CONNECT_TIMEOUT = 10.0
_READ_TIMEOUT = 30.0
#: Seconds that a large task may take to be archived.
_ARCHIVE_TIME = 600.0
_LOOPBACK = "localhost,127.0.0.1,::1"
#: How urllib3 begins what it says of a connection, with or without the address of an object.
_CONNECTION = re.compile(r"^(<.*? object at 0x\w+>|\w*Connection\w*\(.*?\)): ")
_TASK_ID = re.compile(r"[2-9a-hjkmnp-tv-z]{8}")


def new_request_id() -> str:
    """Make the identity of one mutating call; send it again with each repetition of that call."""
    return uuid.uuid4().hex


@dataclass(frozen=True)
class NothingYet:
    """No point to hand out now; ask again after *retry_after* seconds."""

    retry_after: float


@dataclass(frozen=True)
class TaskEnded:
    """The task hands out no more points, for *reason*."""

    reason: str


class _Bearer(requests.auth.AuthBase):
    """Sends the token. As an `auth` it goes before what ~/.netrc may hold, which a plain header would not."""

    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self._token:
            request.headers["Authorization"] = f"Bearer {self._token}"
        return request


class Client:
    """A connection to one steering service. Not to be shared between threads: make one each.

    Args:
        server: Base URL, such as ``https://tune.example.org``.
        token: Bearer token; never logged, never part of a URL.
        retry_for: Seconds to go on trying when the service cannot be reached.
        verify: CA bundle for TLS, or False to trust anyone (not for production); None for the system's.
    """

    def __init__(
        self, server: str, token: str, *, retry_for: float = 30.0, verify: Optional[str | bool] = None
    ) -> None:
        self.server = server.rstrip("/")
        self.retry_for = retry_for
        self._session = requests.Session()
        self._session.headers["User-Agent"] = f"gridtune/{__version__}"
        self._session.headers[protocol.PROTOCOL_HEADER] = str(protocol.PROTOCOL_VERSION)
        self._session.auth = _Bearer(token)
        # a proxy of the site cannot reach this machine's own services
        self._proxies = {"no_proxy": _LOOPBACK} if urlsplit(server).hostname in _LOOPBACK.split(",") else {}
        # said with each request: for a session's own, requests takes what REQUESTS_CA_BUNDLE says instead
        self._verify = verify

    def close(self) -> None:
        """Give the connection back."""
        self._session.close()

    # --- tasks

    def submit(self, message: protocol.SubmitTask) -> protocol.Task:
        """Register a task; the same request id again gives the same task.

        Tasks to start warm from may be named: the service is given their ids.
        """
        return self._call("POST", "/tasks", protocol.Task, body=self._with_ids(message))

    def _with_ids(self, message: protocol.SubmitTask) -> protocol.SubmitTask:
        named = message.document.get("warm_start")
        references = [named] if isinstance(named, str) else named
        if not isinstance(references, (list, tuple)) or not all(isinstance(name, str) for name in references):
            return message  # nothing to look up, or nothing that could be; the service says so
        ids = [self.task_id(reference) for reference in references]
        return replace(message, document={**message.document, "warm_start": ids})

    def tasks(
        self,
        *,
        state: Optional[str] = None,
        name: Optional[str] = None,
        owner: Optional[str] = None,
        after: Optional[str] = None,
        limit: Optional[int] = None,
    ) -> protocol.TaskPage:
        """One page of the tasks that the caller may see, newest first."""
        query = {"state": state, "name": name, "owner": owner, "after": after, "limit": limit}
        return self._call("GET", "/tasks", protocol.TaskPage, query=query)

    def task_id(self, reference: str) -> str:
        """The id of a task that is given by its id, or by its name: the caller's own newest of that name.

        What looks like an id is taken for one.

        Raises:
            Refused: The caller has no task of that name.
        """
        if _TASK_ID.fullmatch(reference):
            return reference
        found = self.tasks(name=reference, owner=self.whoami().user, limit=1).items
        if not found:
            raise Refused(404, {"title": "Not Found", "detail": f"you have no task called {reference!r}"})
        return found[0].id

    def task(self, task: str) -> protocol.Task:
        """A task, whole."""
        return self._call("GET", f"/tasks/{quote(task, safe='')}", protocol.Task)

    def change_task(self, task: str, message: protocol.ChangeTask) -> protocol.Task:
        """Pause, resume, cancel or extend a task."""
        return self._call("PATCH", f"/tasks/{quote(task, safe='')}", protocol.Task, body=message)

    def delete_task(self, task: str) -> None:
        """Delete an ended task with all its points; its audit events stay."""
        self._request("DELETE", f"/tasks/{quote(task, safe='')}", query={"request_id": new_request_id()})

    def archive_task(self, task: str) -> protocol.TaskSummary:
        """Move an ended task out of the service's database, for operators; its export can still be read."""
        path = f"/tasks/{quote(task, safe='')}/archive"
        return _decoded(protocol.TaskSummary, self._request("POST", path, wait=_ARCHIVE_TIME))

    def payload(self, task: str) -> protocol.Payload:
        """What an agent needs to evaluate the task's points."""
        return self._call("GET", f"/tasks/{quote(task, safe='')}/payload", protocol.Payload)

    def file(self, task: str, path: str) -> bytes:
        """The bytes of one of the task's files."""
        return self._request("GET", f"/tasks/{quote(task, safe='')}/files/{quote(path)}").content

    # --- bookkeeping

    def points(
        self,
        task: str,
        *,
        state: Optional[str] = None,
        after: Optional[str] = None,
        limit: Optional[int] = None,
    ) -> protocol.PointPage:
        """One page of a task's points, by number."""
        query = {"state": state, "after": after, "limit": limit}
        return self._call("GET", f"/tasks/{quote(task, safe='')}/points", protocol.PointPage, query=query)

    def all_points(self, task: str, *, state: Optional[str] = None) -> Iterator[protocol.Point]:
        """Every point of a task, fetched page by page."""
        after: Optional[str] = None
        while True:
            page = self.points(task, state=state, after=after, limit=500)
            yield from page.items
            if page.next is None:
                return
            after = page.next

    def add_points(self, task: str, message: protocol.AddPoints) -> protocol.AddedPoints:
        """Queue points of the user's own, to be tried ahead of what the optimizer proposes."""
        return self._call("POST", f"/tasks/{quote(task, safe='')}/points", protocol.AddedPoints, body=message)

    def import_results(self, task: str, message: protocol.ImportResults) -> protocol.ImportedResults:
        """Give the optimizer results from elsewhere to learn."""
        return self._call("POST", f"/tasks/{quote(task, safe='')}/results", protocol.ImportedResults, body=message)

    def point(self, task: str, number: int) -> protocol.PointDetail:
        """A point with its evaluations and reports."""
        return self._call("GET", f"/tasks/{quote(task, safe='')}/points/{number}", protocol.PointDetail)

    def best(self, task: str) -> protocol.Best:
        """The best point so far, and the median to compare it with; with several objectives, the whole front."""
        return self._call("GET", f"/tasks/{quote(task, safe='')}/best", protocol.Best)

    def events(
        self,
        task: str,
        *,
        kind: Optional[str] = None,
        after: Optional[str] = None,
        limit: Optional[int] = None,
    ) -> protocol.EventPage:
        """One page of a task's audit log, oldest first; pass ``next`` as *after* to follow it."""
        query = {"kind": kind, "after": after, "limit": limit}
        return self._call("GET", f"/tasks/{quote(task, safe='')}/events", protocol.EventPage, query=query)

    def export(self, task: str, form: str = "json") -> bytes:
        """The whole bookkeeping of a task as ``json``, its points as ``csv``, or a report as ``html``."""
        return self._request("GET", f"/tasks/{quote(task, safe='')}/export", query={"format": form}).content

    # --- evaluations

    def ask(self, task: str, message: protocol.Ask) -> protocol.Lease | NothingYet | TaskEnded:
        """Ask for a point; an answer may take up to ``message.wait`` seconds."""
        try:
            answer = self._request("POST", f"/tasks/{quote(task, safe='')}/ask", body=message, wait=message.wait)
        except Refused as refusal:
            if refusal.status == 410:
                return TaskEnded(refusal.detail)
            raise
        if answer.status_code == 204:
            return NothingYet(_retry_after(answer) or 1.0)
        return _decoded(protocol.Lease, answer)

    def heartbeat(self, evaluation: str, message: protocol.Heartbeat) -> protocol.Verdict:
        """Renew a lease."""
        return self._call("POST", f"/evaluations/{evaluation}/heartbeat", protocol.Verdict, body=message)

    def report(self, evaluation: str, message: protocol.Reports) -> protocol.Verdict:
        """Send intermediate metrics and renew the lease."""
        return self._call("POST", f"/evaluations/{evaluation}/reports", protocol.Verdict, body=message)

    def signs(self, message: protocol.Signs) -> protocol.Verdicts:
        """Renew the leases of several evaluations, and send intermediate metrics of theirs."""
        return self._call("POST", "/evaluations/signs", protocol.Verdicts, body=message)

    def tell(self, evaluation: str, message: protocol.Tell) -> protocol.Outcome:
        """Deliver the final metrics."""
        return self._call("POST", f"/evaluations/{evaluation}/tell", protocol.Outcome, body=message)

    def fail(self, evaluation: str, message: protocol.Fail) -> protocol.Outcome:
        """Say that there will be no result."""
        return self._call("POST", f"/evaluations/{evaluation}/fail", protocol.Outcome, body=message)

    def release(self, evaluation: str, message: protocol.Release) -> protocol.Outcome:
        """Give the point back unfinished."""
        return self._call("POST", f"/evaluations/{evaluation}/release", protocol.Outcome, body=message)

    # --- checkpoints and logs

    def begin_upload(self, evaluation: str, message: protocol.BeginUpload) -> protocol.Upload:
        """Begin to upload a checkpoint or log; the answer says where its parts go."""
        return self._call("POST", f"/evaluations/{evaluation}/uploads", protocol.Upload, body=message)

    def upload(self, evaluation: str, upload: str) -> protocol.Upload:
        """Fresh addresses for the parts of an upload."""
        return self._call("GET", f"/evaluations/{evaluation}/uploads/{upload}", protocol.Upload)

    def commit_upload(self, evaluation: str, upload: str, message: protocol.CommitUpload) -> protocol.Outcome:
        """Say that all parts were sent; from then on the object exists."""
        path = f"/evaluations/{evaluation}/uploads/{upload}/commit"
        return self._call("POST", path, protocol.Outcome, body=message)

    def download(self, evaluation: str, object_: str) -> protocol.Download:
        """The address of a checkpoint of the evaluation's point."""
        return self._call("GET", f"/evaluations/{evaluation}/objects/{object_}", protocol.Download)

    def report_damage(self, evaluation: str, object_: str, message: protocol.ReportDamage) -> protocol.Outcome:
        """Say that a checkpoint cannot be restored."""
        path = f"/evaluations/{evaluation}/objects/{object_}/damage"
        return self._call("POST", path, protocol.Outcome, body=message)

    def send_output(self, evaluation: str, message: protocol.Output) -> protocol.Verdict:
        """Send what a watched evaluation has printed, and renew its lease."""
        return self._call("POST", f"/evaluations/{evaluation}/output", protocol.Verdict, body=message)

    def live_output(self, task: str, number: int) -> protocol.LiveOutput:
        """The end of what the running evaluation of a point has printed; asks its agent for more."""
        return self._call("GET", f"/tasks/{quote(task, safe='')}/points/{number}/output", protocol.LiveOutput)

    def object(self, task: str, object_: str) -> protocol.Download:
        """The address of one of a task's checkpoints or logs, for its owner."""
        return self._call("GET", f"/tasks/{quote(task, safe='')}/objects/{object_}", protocol.Download)

    def content(self, download: protocol.Download) -> bytes:
        """The bytes of a stored object, fetched at once: for logs, not for checkpoints.

        Raises:
            Unreachable: The store did not answer.
            Refused: The store said no.
        """
        url = download.url if "://" in download.url else self.server + download.url
        try:
            # the address is signed; a token is none of the store's business, nor what ~/.netrc may hold
            timeout = (_CONNECT_TIMEOUT, _READ_TIMEOUT)
            answer = self._session.get(
                url, auth=_Bearer(""), timeout=timeout, proxies=self._proxies, verify=self._verify
            )
        except requests.RequestException as error:
            raise Unreachable(f"cannot reach the object store: {reason_of(error)}") from error
        return _checked(answer).content

    def locate_input(self, task: str, message: protocol.LocateInput) -> protocol.Download:
        """An address from which an ``s3://`` input of the task can be fetched without credentials."""
        return self._call("POST", f"/tasks/{quote(task, safe='')}/data-address", protocol.Download, body=message)

    def storage(self) -> protocol.Storage:
        """What is stored, by task."""
        return self._call("GET", "/storage", protocol.Storage)

    # --- identity and health

    def alive(self) -> protocol.Health:
        """Whether the service's process answers at all; needs no token."""
        return self._call("GET", "/healthz", protocol.Health)

    def health(self) -> protocol.Health:
        """Whether the service can do its work; needs no token."""
        return self._call("GET", "/readyz", protocol.Health)

    def whoami(self) -> protocol.Identity:
        """Who the caller is to the service."""
        return self._call("GET", "/whoami", protocol.Identity)

    def create_token(self, message: protocol.CreateToken) -> protocol.CreatedToken:
        """Make a token; its secret is in this answer only."""
        return self._call("POST", "/tokens", protocol.CreatedToken, body=message)

    def tokens(self) -> list[protocol.Token]:
        """The tokens that the caller may see, without their secrets."""
        return self._call("GET", "/tokens", protocol.TokenList).items

    def revoke_token(self, token: str) -> None:
        """Make a token useless from now on."""
        self._request("DELETE", f"/tokens/{quote(token, safe='')}", query={"request_id": new_request_id()})

    # --- workers

    def workers(
        self, *, everything: bool = False, after: Optional[str] = None, limit: Optional[int] = None
    ) -> protocol.WorkerHosts:
        """One page of the hosts that workers run on: those seen lately, or all that are remembered."""
        query = {"all": "true" if everything else None, "after": after, "limit": limit}
        return self._call("GET", "/workers", protocol.WorkerHosts, query=query)

    def forgive_host(self, message: protocol.ForgiveHost) -> protocol.WorkerHosts:
        """Forget the failures of a host, so that it gets points again."""
        return self._call("POST", "/workers/forgive", protocol.WorkerHosts, body=message)

    # --- plumbing

    def _call(
        self, method: str, path: str, kind: type[T], *, body: Any = None, query: Optional[Mapping[str, Any]] = None
    ) -> T:
        return _decoded(kind, self._request(method, path, body=body, query=query))

    def _request(
        self,
        method: str,
        path: str,
        *,
        body: Any = None,
        query: Optional[Mapping[str, Any]] = None,
        wait: float = 0.0,
    ) -> requests.Response:
        url = f"{self.server}/api/v1{path}"
        arguments: dict[str, Any] = {
            "params": {key: value for key, value in (query or {}).items() if value is not None},
            "timeout": (_CONNECT_TIMEOUT, _READ_TIMEOUT + wait),
            "proxies": self._proxies,
            "verify": self._verify,
        }
        if body is not None:
            arguments["json"] = wire.encode(body)
        deadline = time.monotonic() + self.retry_for
        for delay in _backoff():
            try:
                answer = self._session.request(method, url, **arguments)
            except requests.RequestException as error:
                trouble, pause = f"cannot reach {self.server}: {reason_of(error)}", delay
                cause: Optional[requests.RequestException] = error
            else:
                if answer.status_code not in _LATER:
                    return _checked(answer)
                trouble = f"{self.server} answered {answer.status_code} {answer.reason}"
                pause, cause = max(delay, _later(_retry_after(answer) or 0.0)), None
            if time.monotonic() + pause > deadline:
                raise Unreachable(trouble) from cause
            time.sleep(pause)
        raise AssertionError("the back-off never ends")


def _backoff() -> Iterator[float]:
    """Delays in seconds: about doubling from 0.1 to 10, each drawn from its upper half (jitter)."""
    ceiling = 0.1
    while True:
        yield random.uniform(ceiling / 2, ceiling)  # noqa: S311 - jitter is no secret
        ceiling = min(ceiling * 2, 10.0)


def _later(seconds: float) -> float:
    """Not before *seconds*, and not together with all others who were told the same."""
    return random.uniform(seconds, 1.25 * seconds)  # noqa: S311 - jitter is no secret


def _retry_after(answer: requests.Response) -> Optional[float]:
    try:
        return float(answer.headers["Retry-After"])
    except (KeyError, ValueError):
        return None


def _decoded(kind: type[T], answer: requests.Response) -> T:
    try:
        data = answer.json()
    except requests.JSONDecodeError as error:  # a proxy's or portal's own page, say
        raise wire.WireError(f"{answer.url} did not answer in JSON; is that a gridtune service?") from error
    return wire.decode(kind, data)


def _checked(answer: requests.Response) -> requests.Response:
    if answer.status_code < 400:
        return answer
    try:
        problem = answer.json()
    except requests.JSONDecodeError:
        problem = None
    if not isinstance(problem, dict):
        problem = {"title": f"HTTP {answer.status_code} {answer.reason}", "detail": answer.text[:500]}
    raise Refused(answer.status_code, problem)


def reason_of(error: requests.RequestException) -> str:
    """The innermost reason of a network error, without the object addresses that requests puts around it."""
    reason: Any = error.args[0] if error.args else error
    while getattr(reason, "reason", None) is not None:
        reason = reason.reason
    return _CONNECTION.sub("", str(reason))
