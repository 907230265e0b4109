"""The files in which processes of one machine share their numbers: one folder, one file a process and kind.

`prometheus_client` finds the folder in the environment when it is imported, and maps the files into memory. A map onto
a disk that is full kills its process, so the space is taken first.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from prometheus_client.multiprocess import mark_process_dead

#: The library's own name for it.
VARIABLE: Final = "PROMETHEUS_MULTIPROC_DIR"
#: How gauges of several processes are put together: added up, without those of processes that have ended.
GAUGES: Final = "livesum"
_KINDS = ("counter", "histogram", f"gauge_{GAUGES}")
#: Enough for all labels that there are.
_SIZE = 2**20


def shared_folder(data: Path) -> Path:
    """The folder for all processes that have this data folder, without what was left by those that have ended."""
    shared = (data / "metrics").resolve()
    shared.mkdir(exist_ok=True)
    for path in shared.glob("*.db"):
        if not _is_alive(_pid(path)):
            path.unlink(missing_ok=True)
    return shared


def folder() -> Path | None:
    """The folder that this process shares with others; None if it counts for itself."""
    return Path(os.environ[VARIABLE]) if VARIABLE in os.environ else None


def reserve() -> None:
    """Take the disk space of this process's files. To be called before the first instrument is used, after any fork.

    Raises:
        OSError: There is no space.
    """
    shared = folder()
    if shared is None:
        return
    for kind in _KINDS:
        descriptor = os.open(shared / f"{kind}_{os.getpid()}.db", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            os.posix_fallocate(descriptor, 0, _SIZE)
        finally:
            os.close(descriptor)


def drop_dead(shared: Path) -> None:
    """Forget the gauges of processes that have ended, however they ended; what they counted stays."""
    for path in shared.glob(f"gauge_{GAUGES}_*.db"):
        if not _is_alive(_pid(path)):
            mark_process_dead(_pid(path), str(shared))  # type: ignore[no-untyped-call]  # it has no types


def _pid(path: Path) -> int:
    return int(path.stem.rpartition("_")[2])


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
