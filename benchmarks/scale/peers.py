"""What else does this work: Optuna on a database, the same behind its gRPC proxy, and OSS Vizier's service."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna

from real_service import free_port

from .history import random_results
from .optuna_space import finished_trial

_ROOT = Path(__file__).parents[2]
_STUDY = "bench"


def optuna_study(url: str, observations: int) -> dict[str, Any]:
    """Make a study with a past; returns what an `optuna_seat.OptunaSeat` needs besides its connections."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    native = driver_url(url)
    study = optuna.create_study(study_name=_STUDY, storage=optuna.storages.RDBStorage(native))
    study.add_trials([finished_trial(parameters, loss) for parameters, loss in random_results(observations)])
    return {"url": native, "study": _STUDY}


def driver_url(url: str) -> str:
    """A database's URL with the driver that is installed here."""
    return url.replace("postgresql://", "postgresql+psycopg://", 1)


@contextlib.contextmanager
def grpc_proxy(url: str) -> Iterator[tuple[int, int]]:
    """The port and the process of Optuna's gRPC proxy before a database."""
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    port = free_port()
    command = [sys.executable, "-m", "benchmarks.scale.grpc_proxy", url, str(port)]
    process = subprocess.Popen(command, cwd=_ROOT)
    try:
        optuna.storages.GrpcStorageProxy(host="127.0.0.1", port=port).wait_server_ready(timeout=60)
        yield port, process.pid
    finally:
        process.terminate()
        process.wait()


@contextlib.contextmanager
def vizier_service(python: str, folder: Path) -> Iterator[tuple[dict[str, Any], int]]:
    """What a `vizier_seat.VizierSeat` needs, and the process of a service with random search, on SQLite."""
    command = [python, "-m", "benchmarks.scale.vizier", str(folder / f"vizier-{time.time_ns()}.db")]
    process = subprocess.Popen(
        command, cwd=_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(_ROOT)}
    )
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        if not line:
            raise AssertionError("Vizier's service did not start; its standard error says why")
        yield json.loads(line), process.pid
    finally:
        process.kill()
        process.communicate()
