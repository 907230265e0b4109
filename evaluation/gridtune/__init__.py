"""What a training script or a notebook imports: its point, its reports, its result; and `minimize`.

In a training that an agent runs, or in a function given to `minimize`::

    import gridtune

    point = gridtune.params()
    for epoch in range(1, 31):
        loss = train(**point)
        gridtune.report(epoch, val_loss=loss)
        if gridtune.should_stop():
            break
    gridtune.result(val_loss=loss)

Run by hand, the same script works: `params` then needs a default, and nobody listens to the rest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gridtune.payload import (
    attempt,
    checkpoint_dir,
    control_dir,
    params,
    report,
    result,
    resume_step,
    save,
    should_stop,
)
from gridtune_common import __version__

if TYPE_CHECKING:
    from gridtune.minimizing import maximize, minimize
    from gridtune.outcome import Result

__all__ = [
    "Result",
    "__version__",
    "attempt",
    "checkpoint_dir",
    "control_dir",
    "maximize",
    "minimize",
    "params",
    "report",
    "result",
    "resume_step",
    "save",
    "should_stop",
]

#: Name → module, loaded on use: a training script needs none of it.
_LAZY = {
    "Result": "gridtune.outcome",
    "maximize": "gridtune.minimizing",
    "minimize": "gridtune.minimizing",
}


def __getattr__(name: str) -> Any:
    """Load what is loaded on use."""
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_LAZY[name]), name)
