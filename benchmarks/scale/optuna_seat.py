"""A worker of an Optuna study in a database, or behind Optuna's gRPC proxy of it."""

from __future__ import annotations

import random
import threading
import time
import warnings
from typing import Any

import optuna
from sqlalchemy.exc import SQLAlchemyError

from .objective import loss_of
from .optuna_space import suggest
from .seats import Notes

_lock = threading.Lock()
_studies: dict[str, optuna.Study] = {}


class OptunaSeat:
    """Asks, which includes suggesting all parameters, reports and tells; the study is its process's.

    Args:
        options: ``study``, its name; ``url`` of the database, or ``port`` of the proxy; how many ``connections`` a
            process may have; the mean of ``evaluation_seconds``, how many ``reports`` there are of each evaluation.
        index: Which of the workers this is.
    """

    def __init__(self, options: dict[str, Any], index: int) -> None:
        with _lock:
            if not _studies:
                _studies["study"] = _load(options)
        self._study = _studies["study"]
        self._reports: int = options.get("reports", 0)
        self._mean: float = options.get("evaluation_seconds", 0.0)
        self._rng = random.Random(index)

    def pair(self, notes: Notes) -> None:
        """One trial."""
        try:
            trial, parameters = notes.timed("ask", self._ask)
            loss = loss_of(parameters)
            time.sleep(self._rng.expovariate(1 / self._mean) if self._mean else 0.0)
            for step in range(self._reports):
                notes.timed("report", lambda step=step: trial.report(loss, step))  # type: ignore[misc]  # a default
            notes.timed("tell", lambda: self._study.tell(trial, loss))
        except (optuna.exceptions.OptunaError, SQLAlchemyError) as error:
            notes.counts[f"error: {type(error).__name__}: {str(error)[:100]}"] += 1

    def close(self) -> None:
        """Nothing is the worker's own."""

    def _ask(self) -> tuple[optuna.Trial, dict[str, Any]]:
        trial = self._study.ask()
        return trial, suggest(trial)


def _load(options: dict[str, Any]) -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    storage: optuna.storages.BaseStorage
    if "port" in options:
        storage = optuna.storages.GrpcStorageProxy(host="127.0.0.1", port=options["port"])
    else:
        pool = {"pool_size": options["connections"] + 2, "max_overflow": 0}  # it needs one more now and then
        storage = optuna.storages.RDBStorage(options["url"], engine_kwargs=pool)
    return optuna.load_study(study_name=options["study"], storage=storage, sampler=optuna.samplers.TPESampler())
