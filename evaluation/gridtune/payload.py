"""The payload's side of the contract with whoever runs it.

An agent tells a payload where things are by variables (``GRIDTUNE_DIR`` is the one that says that there is an
agent); a function that `gridtune.minimize` evaluates in this process is told by a session instead. Outside of
both, a script is run by hand: then reports and results go nowhere.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Mapping
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Protocol, SupportsFloat

from gridtune_common.errors import GridtuneError


class NotEvaluated(GridtuneError):  # noqa: N818 - named for the fact
    """This is not run by gridtune, so there is no point."""


class Session(Protocol):
    """An evaluation in this process. Used by the thread that runs the function."""

    @property
    def parameters(self) -> Mapping[str, Any]:
        """The point."""

    @property
    def attempt(self) -> int:
        """1 for the first try."""

    def report(self, step: int, metrics: Mapping[str, float | None]) -> None:
        """Pass intermediate metrics on."""

    def result(self, metrics: Mapping[str, float | None]) -> None:
        """Keep the final metrics."""

    def should_stop(self) -> bool:
        """Whether the result is not needed any more."""

    def checkpoint_dir(self) -> Path:
        """A folder for checkpoints."""


#: The evaluation that the current thread runs; None in a process of its own.
session: ContextVar[Session | None] = ContextVar("gridtune_session", default=None)


def params(default: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The point: every active parameter and every constant, by name.

    Args:
        default: What to return when the script is run by hand.

    Raises:
        NotEvaluated: The script is run by hand and there is no default.
    """
    here, control = session.get(), control_dir()
    if here is not None:
        return dict(here.parameters)
    if control is not None:
        point: dict[str, Any] = json.loads((control.parent / "input.json").read_text(encoding="utf-8"))
        return point
    if default is None:
        raise NotEvaluated(
            "this script is not run by gridtune, so there are no parameters; "
            "run it with 'gridtune run', or give the values to use by hand: gridtune.params(default={...})"
        )
    return dict(default)


def report(step: int, /, **metrics: SupportsFloat) -> None:
    """Report metrics at a step of the training, such as an epoch; does nothing when run by hand.

    Args:
        step: Counts upwards.
        metrics: Numbers by name; numpy's and the like are welcome.

    Raises:
        TypeError: A metric is no number.
    """
    here, control = session.get(), control_dir()
    if here is not None:
        here.report(int(step), _numbers(metrics))
    elif control is not None:
        if "step" in metrics:
            raise TypeError("a metric cannot be called 'step'")
        _append_line(control / "reports.jsonl", {"step": int(step), **_numbers(metrics)})


def result(**metrics: SupportsFloat) -> None:
    """Leave the final metrics; without this, the last report is the result. Does nothing when run by hand.

    Args:
        metrics: Numbers by name, the objective among them.

    Raises:
        TypeError: A metric is no number.
    """
    here, control = session.get(), control_dir()
    if here is not None:
        here.result(_numbers(metrics))
    elif control is not None:
        target = Path(os.environ.get("GRIDTUNE_RESULT_FILE") or control.parent / "output.json")
        _write_whole(target, json.dumps(_numbers(metrics)) + "\n")


def should_stop() -> bool:
    """Whether to save and leave: time is up, or the result is not needed any more."""
    here, control = session.get(), control_dir()
    if here is not None:
        return here.should_stop()
    return control is not None and (control / "stop").exists()


def control_dir() -> Path | None:
    """The folder in which agent and payload talk; None without an agent."""
    folder = os.environ.get("GRIDTUNE_DIR")
    return Path(folder) if folder else None


def checkpoint_dir() -> Path:
    """A folder whose files are part of every checkpoint: ``$GRIDTUNE_CHECKPOINT_DIR``, else ``checkpoint`` right here.

    It exists. After a resumption it holds what was there when the checkpoint was taken.
    """
    here = session.get()
    if here is not None:
        return here.checkpoint_dir()
    folder = Path(os.environ.get("GRIDTUNE_CHECKPOINT_DIR") or "checkpoint").absolute()
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def save(step: int | None = None, *, wait: bool = True) -> None:
    """Ask for a checkpoint now: of the files that the task names, and of all in `checkpoint_dir`.

    Does nothing when run by hand. The upload goes on beside the training.

    Args:
        step: What the checkpoint stands for; else the last step that was reported.
        wait: Return when the files have been read, so that they may be written again; else they have to be replaced
            as a whole, by `os.replace`, or left alone until the file ``checkpoint`` in the control folder is gone.
    """
    control = control_dir()
    if control is None or session.get() is not None:
        return
    wish = {} if step is None else {"step": int(step)}
    request = control / "checkpoint"
    _write_whole(request, json.dumps({**wish, "at": time.time_ns()}))
    while wait and request.exists():
        time.sleep(0.01)


def resume_step() -> int | None:
    """The step of the checkpoint that was restored; None if the training begins anew."""
    step = os.environ.get("GRIDTUNE_RESUME_STEP")
    return int(step) if step and session.get() is None else None


def attempt() -> int:
    """Which try at this point this is, from 1."""
    here = session.get()
    return here.attempt if here is not None else int(os.environ.get("GRIDTUNE_ATTEMPT") or 1)


def number(value: Any) -> float | None:
    """A number as a float; None if it is not finite.

    Raises:
        TypeError: It is no number.
    """
    try:
        if isinstance(value, (bool, str, bytes)):
            raise TypeError
        found = float(value)
    except OverflowError:
        return None
    except (TypeError, ValueError):
        raise TypeError(f"{value!r} is no number") from None
    return found if math.isfinite(found) else None


def _numbers(metrics: Mapping[str, Any]) -> dict[str, float | None]:
    return {name: number(value) for name, value in metrics.items()}


def _append_line(path: Path, data: Mapping[str, Any]) -> None:
    """Add a line in one write, so that lines of several processes do not mix."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, (json.dumps(data) + "\n").encode())
    finally:
        os.close(descriptor)


def _write_whole(path: Path, text: str) -> None:
    """Write a file so that its reader sees all of it or nothing."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(text, encoding="utf-8")
    os.replace(draft, path)
