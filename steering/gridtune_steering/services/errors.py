"""Why the service says no.

SteeringError
├── NotAuthenticated    no token, or one that is unknown, expired or revoked
├── NotAllowed          the token's scope or owner does not reach that far
├── NotFound            no such task, point, evaluation, file or token
├── Conflict            the request does not fit the state that things are in
├── TaskHasEnded        the task hands out no more points
├── TaskArchived        the task is in the archive, where its export can be read and nothing else
├── TooLittleTime       the worker's walltime ends before it could get anywhere
├── DoesNotFit          the worker lacks what the task requires
├── QuotaExceeded       the task or its owner has too much in storage
├── HostSetAside        the worker's host fails too much and gets no points for a while; says for how long
├── Unusable            the request was understood but its content cannot be used; carries flaws
├── RequestIdReused     a request id came back with another request
├── RequestInProgress   the same request is being answered at this moment
├── TooManyRequests     the token has asked for more than its share; says when to come again
└── TooBusy             more requests are being answered than this process takes
"""

from __future__ import annotations

from collections.abc import Iterable

from gridtune_common.errors import Flaw, GridtuneError


class SteeringError(GridtuneError):
    """The service says no."""


class NotAuthenticated(SteeringError):  # noqa: N818 - named for the fact
    """The caller is unknown."""


class NotAllowed(SteeringError):  # noqa: N818
    """The caller is known but may not do this."""


class NotFound(SteeringError):  # noqa: N818
    """There is no such thing, or the caller may not know of it."""

    def __init__(self, what: str, name: object) -> None:
        super().__init__(f"there is no {what} {name!r} here")


class Conflict(SteeringError):  # noqa: N818
    """The request does not fit the present state."""


class TaskHasEnded(SteeringError):  # noqa: N818
    """The task hands out no more points."""


class TaskArchived(SteeringError):  # noqa: N818
    """The task is in the archive, where its export can be read and nothing else."""

    def __init__(self, task: str, at: str) -> None:
        super().__init__(
            f"task {task!r} was archived at {at}; all that is known of it is in its export: gridtune export {task}"
        )


class TooLittleTime(SteeringError):  # noqa: N818
    """The worker's time ends before it could get anywhere with a point."""


class DoesNotFit(SteeringError):  # noqa: N818
    """The worker lacks what the task requires."""

    def __init__(self, why: str) -> None:
        super().__init__(f"this worker does not fit the task: {why}")


class QuotaExceeded(SteeringError):  # noqa: N818
    """More does not fit into a storage quota."""


class HostSetAside(SteeringError):  # noqa: N818
    """A host that fails one point after the other gets none for a while."""

    def __init__(self, host: str, seconds: float) -> None:
        self.seconds = seconds
        super().__init__(f"{host} is set aside; ask again in {seconds:.0f} s")


class Unusable(SteeringError):  # noqa: N818
    """The content of a request cannot be used."""

    def __init__(self, detail: str, flaws: Iterable[Flaw]) -> None:
        self.flaws = tuple(flaws)
        super().__init__(detail)


class RequestIdReused(SteeringError):  # noqa: N818
    """A request id belongs to another request."""

    def __init__(self, request_id: str) -> None:
        super().__init__(f"request_id {request_id!r} was used for another request; make a new one for each")


class RequestInProgress(SteeringError):  # noqa: N818
    """The same request came twice at a time; nothing was done for this copy, which may come again."""

    def __init__(self, request_id: str) -> None:
        super().__init__(f"request {request_id!r} is being answered just now; send it again for the answer")


class TooManyRequests(SteeringError):  # noqa: N818
    """A token asks for more than its share; nothing was done."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        super().__init__("this token sends more requests than one may; nothing was done, come again a little later")


class TooBusy(SteeringError):  # noqa: N818
    """More requests are on hand than can be answered soon; nothing was done."""

    def __init__(self) -> None:
        super().__init__("the service has too much to do at this moment; nothing was done, come again a little later")
