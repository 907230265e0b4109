"""How all processes of the service log: one set-up, lines of text or of JSON, each with what it is about.

A line is written on behalf of a request, a task, a user, a worker. What is known of that is kept beside the code
(`about`), not handed down to it.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, Final, TextIO

from gridtune_steering.settings import Settings

_TEXT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
#: What a line may say of its circumstances, besides what happened.
_CIRCUMSTANCES: Final = ("request", "task", "user", "worker", "point", "evaluation", "route", "status", "ms")
#: Libraries that tell of every step.
_TALKATIVE = ("alembic", "hyperopt", "opentelemetry")
_NOTHING: Final[Mapping[str, str]] = MappingProxyType({})
_known: ContextVar[Mapping[str, str]] = ContextVar("known", default=_NOTHING)


def set_up(settings: Settings) -> None:
    """Begin to log, to standard error."""
    logging.basicConfig(level=logging.INFO, handlers=[handler_to(sys.stderr, settings.log_format)], force=True)
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(logging.WARNING)
    if settings.log_format == "json":
        logging.captureWarnings(True)
        sys.excepthook = _log_crash


def handler_to(stream: TextIO, form: str) -> logging.Handler:
    """What writes lines in a form, ``text`` or ``json``."""
    handler = logging.StreamHandler(stream)
    handler.addFilter(_add_circumstances)
    handler.setFormatter(_JsonLines() if form == "json" else _Text(_TEXT))
    return handler


@contextmanager
def about(**known: str | None) -> Iterator[None]:
    """Mark all lines that this thread writes in the block as being about a request, task, user or worker."""
    mark = _known.set({**_known.get(), **_told(known)})
    try:
        yield
    finally:
        _known.reset(mark)


def note(**known: str | None) -> None:
    """Add to what the block is about, once it is known."""
    _known.set({**_known.get(), **_told(known)})


def _told(known: Mapping[str, str | None]) -> dict[str, str]:
    return {name: value for name, value in known.items() if value}


class _JsonLines(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        said: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            "process": record.process,
        }
        for name in ("action", *_CIRCUMSTANCES):
            if (value := getattr(record, name, None)) is not None:
                said[name] = value
        if record.exc_info:
            said["exception"] = self.formatException(record.exc_info)
        return json.dumps(said, ensure_ascii=False, default=str)


class _Text(logging.Formatter):
    """A line for people; it names its request, so that all lines of one can be found."""

    def format(self, record: logging.LogRecord) -> str:
        line = super().format(record)
        request = getattr(record, "request", None)
        return line if request is None else _with_request(line, request)


def _with_request(line: str, request: str) -> str:
    first, newline, rest = line.partition("\n")
    return f"{first} [{request}]{newline}{rest}"


def _add_circumstances(record: logging.LogRecord) -> bool:
    """Whatever a line does not say itself of what it is about."""
    for name, value in _known.get().items():
        if getattr(record, name, None) is None:
            setattr(record, name, value)
    return True


def _log_crash(kind: type[BaseException], error: BaseException, trace: Any) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
        return
    logging.getLogger("gridtune").critical("this process ends: %s", error, exc_info=(kind, error, trace))
