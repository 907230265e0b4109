"""The tree of errors that gridtune raises, each named for a fact.

GridtuneError
├── InvalidDocument        a task file, search space or unit that cannot be used; names every path and fix
├── MissingExtra           an optional dependency is needed; names the install line
├── ConfigurationError     a flag, variable or profile of the command line that cannot be used
├── MachineUnfit           no worker on this machine has what a task requires
├── EvaluationFailed       (payload side) a training ended without a usable result
└── ServiceError           steering could not be reached or said no
    ├── Unreachable        no answer: network, DNS, time-out, or a service that is starting
    └── Refused            an answer with a problem document (RFC 9457)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any


class GridtuneError(Exception):
    """Something that gridtune can explain went wrong."""


@dataclass(frozen=True)
class Flaw:
    """One thing wrong with a document.

    Attributes:
        path: Where, in dotted form: ``space.width.low``; empty for the document itself.
        message: What is wrong and what to write instead.
    """

    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" if self.path else self.message


class InvalidDocument(GridtuneError):  # noqa: N818 - named for the fact
    """A document that cannot be used; carries every flaw found, not only the first."""

    def __init__(self, flaws: Iterable[Flaw]) -> None:
        self.flaws = tuple(flaws)
        super().__init__("\n".join(str(flaw) for flaw in self.flaws))


class MissingExtra(GridtuneError):  # noqa: N818
    """An optional part of gridtune is not installed."""

    def __init__(self, what: str, extra: str) -> None:
        self.extra = extra
        super().__init__(f"{what} is not installed here: pip install 'gridtune[{extra}]'")


class ConfigurationError(GridtuneError):
    """A flag, an environment variable or the configuration file cannot be used."""


class MachineUnfit(GridtuneError):  # noqa: N818
    """No worker on this machine has what the task requires; says what is missing, and what to do."""

    def __init__(self, why: str) -> None:
        super().__init__(f"this machine does not fit the task\n{why}")


class EvaluationFailed(GridtuneError):  # noqa: N818
    """A training ended without a usable result."""


class ServiceError(GridtuneError):
    """The steering service could not do what was asked."""


class Unreachable(ServiceError):  # noqa: N818
    """The steering service did not answer; trying again later may help."""


class Refused(ServiceError):  # noqa: N818
    """The steering service answered with a problem document.

    Attributes:
        status: HTTP status code.
        title: The kind of problem, one line.
        detail: What happened and what to do.
        problem: The whole document, with its extension members (``errors``).
    """

    def __init__(self, status: int, problem: Mapping[str, Any]) -> None:
        self.status = status
        self.problem = dict(problem)
        self.title = str(problem.get("title", f"HTTP {status}"))
        self.detail = str(problem.get("detail", ""))
        flaws = [
            str(Flaw(str(error.get("path", "")), str(error.get("message", ""))))
            for error in self.problem.get("errors", [])
        ]
        super().__init__("\n".join([self.detail or self.title, *flaws]))

    @property
    def kind(self) -> str:
        """The problem's type, without what is before it: ``TaskHasEnded``."""
        return str(self.problem.get("type", "")).rpartition(":")[2]
