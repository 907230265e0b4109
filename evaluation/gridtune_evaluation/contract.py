"""What a payload finds when it starts: its input, its variables, its control folder.

* ``input.json`` in the working directory: the point and the task's constants as one flat JSON object.
* ``GRIDTUNE_PARAM_<NAME>`` for each of them, the name in upper case and anything but letters and digits as
  ``_``: ``true`` or ``false`` for a boolean, empty for null, JSON for a list or an object. Names that
  differ by case alone share one variable, which then holds the value that comes last in ``input.json``;
  that file always has both.
* ``GRIDTUNE_DIR``: the control folder, ``.gridtune`` in the working directory. The payload appends lines to
  ``reports.jsonl`` there, the agent creates ``stop`` there when the payload should end.
* ``GRIDTUNE_CHECKPOINT_DIR``: a folder beside it; what is put into it is part of every checkpoint. The payload
  asks for a checkpoint at once by the file ``checkpoint`` in the control folder, best with ``{"step": 3}`` in it;
  the file goes when the checkpoint is taken.
* ``GRIDTUNE_RESUME_STEP``, if the training goes on from a checkpoint whose step is known.
* ``GRIDTUNE_RESULT_FILE``: where the final metrics go, ``output.json`` in the working directory by default.
* ``GRIDTUNE_TASK``, ``GRIDTUNE_POINT``, ``GRIDTUNE_EVALUATION``, ``GRIDTUNE_ATTEMPT``: which evaluation
  this is.
* ``PYTHONUNBUFFERED=1`` unless set otherwise, so that what a Python program prints is there when it is killed.
* Outside of containers: the agent's virtual environment, if it runs in one, as if it were activated, so ``python`` is
  its Python; and the variables of the agent itself, but nothing else that begins with ``GRIDTUNE_``: no token reaches
  a payload. Those of ``payload.environment`` win over them.
* In a container: the image's own variables, and a ``HOME`` and ``TMPDIR`` that can be written to. Paths are those that
  the container sees.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any, Final

from gridtune_common import protocol
from gridtune_evaluation.plan import Plan
from gridtune_evaluation.untrusted import PayloadFile

_PREFIX: Final = "GRIDTUNE_"
#: For Python programs, unless somebody says otherwise.
UNBUFFERED: Final = {"PYTHONUNBUFFERED": "1"}


class Room:
    """The working directory of one evaluation, and the names of the files in it that the contract knows.

    Once the payload has begun, they may be anything: see `untrusted`.
    """

    def __init__(self, directory: Path, plan: Plan) -> None:
        self.directory = directory
        self.control = directory / ".gridtune"
        self.input = directory / "input.json"
        self.saved = directory / ".gridtune-saved"
        self.scratch = self.control / "tmp"
        self.stop = self.control / "stop"
        self.output = PayloadFile(directory, directory / "output.log")
        self.result = PayloadFile(directory, directory / plan.result_file)
        self.reports = PayloadFile(directory, self.control / "reports.jsonl")
        self.save_request = PayloadFile(directory, self.control / "checkpoint")

    def furnish(self, values: Mapping[str, Any]) -> None:
        """Write what the payload reads."""
        self.control.mkdir(mode=0o700, exist_ok=True)
        self.saved.mkdir(mode=0o700, exist_ok=True)
        self.scratch.mkdir(mode=0o700, exist_ok=True)
        self.input.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")


def values_of(lease: protocol.Lease, plan: Plan) -> dict[str, Any]:
    """The point's parameters with the task's constants."""
    return {**plan.constants, **lease.parameters}


def variables(
    plan: Plan, lease: protocol.Lease, room: Room, seen_at: PurePosixPath, resume_step: int | None = None
) -> dict[str, str]:
    """The variables of the task and of the contract; *seen_at* is where the payload sees its working directory."""

    def path(of: Path) -> str:
        return str(seen_at / of.relative_to(room.directory).as_posix())

    return {
        **plan.environment,
        **{f"GRIDTUNE_PARAM_{_shout(name)}": _text(value) for name, value in values_of(lease, plan).items()},
        "GRIDTUNE_DIR": path(room.control),
        "GRIDTUNE_RESULT_FILE": path(room.result.path),
        "GRIDTUNE_TASK": lease.task,
        "GRIDTUNE_POINT": str(lease.point),
        "GRIDTUNE_EVALUATION": lease.evaluation,
        "GRIDTUNE_ATTEMPT": str(lease.attempt),
        "GRIDTUNE_CHECKPOINT_DIR": path(room.saved),
        **({} if resume_step is None else {"GRIDTUNE_RESUME_STEP": str(resume_step)}),
    }


def inherited(surrounding: Mapping[str, str]) -> dict[str, str]:
    """What a payload outside of a container has of the agent's own variables, *surrounding*."""
    return {
        **UNBUFFERED,
        **{name: value for name, value in surrounding.items() if not name.startswith(_PREFIX)},
        **_activation(surrounding),
        **_importable(surrounding),
    }


def _activation(surrounding: Mapping[str, str]) -> dict[str, str]:
    if sys.prefix == sys.base_prefix:
        return {}
    programs = [str(Path(sys.executable).parent), *filter(None, [surrounding.get("PATH")])]
    return {"VIRTUAL_ENV": sys.prefix, "PATH": os.pathsep.join(programs)}


def _importable(surrounding: Mapping[str, str]) -> dict[str, str]:
    """With the agent in one file, a payload imports `gridtune` from there; the file's libraries stay out of its way."""
    packages = Path(__file__).parents[1]
    if packages.is_dir():
        return {}
    return {"PYTHONPATH": os.pathsep.join(filter(None, [surrounding.get("PYTHONPATH"), str(packages)]))}


def _shout(name: str) -> str:
    return re.sub(r"[^A-Z0-9]", "_", name.upper())


def _text(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value)
