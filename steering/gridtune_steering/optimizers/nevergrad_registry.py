"""Every optimizer of Nevergrad's registry, by its own name, behind the optimizer port.

Nevergrad's optimizers are mostly populations that move with every ask. So suggestions matter, and a replay asks again;
each ask is seeded for its point. They draw from NumPy's global generator here and there, which is therefore swapped
around every call.

What an optimizer of the registry is, may depend on the budget and on how many workers there are (``NGOpt`` picks its
method by both). The budget is the task's; the number of workers is counted: it is how many points wait for a result
when the first one comes. Points that Nevergrad did not propose are told all the same, where the method can take them.
Proposals that are known already cost no training: their loss is told at once. Failed points, and proposals that break
a constraint, are told as no better than the worst.

Some methods, which are other libraries' loops turned inside out, cannot be asked again before they were told: asking
would wait for ever. While such a one waits, other workers get points drawn at random.
"""

from __future__ import annotations

import difflib
import functools
import json
import math
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any, ClassVar

from gridtune_common.errors import Flaw, InvalidDocument
from gridtune_common.protocol import Parameters
from gridtune_steering.optimizers.axes import Axis, Choice, Real, axis_of, middle
from gridtune_steering.optimizers.global_random import seeded
from gridtune_steering.optimizers.port import Optimizer, Option, Problem

#: For a task that ends by other rules, so that methods that plan ahead can do so.
_BUDGET = 1000
#: A second dimension for problems that have but one; no parameter can have this name.
_FILLER = "filler dimension"
#: Seconds after which a method that does not answer is restarted; they take milliseconds.
_PATIENCE = 60


class Nevergrad(Optimizer):
    """One optimizer of the registry; `Nevergrad.named` makes a class for each."""

    several_objectives: ClassVar[bool] = True
    asking_matters: ClassVar[bool] = True
    libraries: ClassVar[Sequence[str]] = ("nevergrad", "numpy")
    extra: ClassVar[str] = "nevergrad"
    options: ClassVar[Mapping[str, Option]] = {
        "budget": Option(kind=int, low=1),
        "num_workers": Option(kind=int, low=1, high=100_000),
    }
    algorithm: ClassVar[str]  #: The name in the registry.

    def __init__(self, problem: Problem, options: dict[str, Any]) -> None:
        import nevergrad

        self._nevergrad = nevergrad
        self._problem = problem
        self._options = options
        self._axes = {parameter.name: axis_of(parameter) for parameter in problem.space}
        self._untold: set[str] = set()
        self._workers = options.get("num_workers", 1)
        self._optimizer = self._make(self._workers)
        self._asked: list[tuple[Any, Parameters]] = []
        self._candidates: dict[int, Any] = {}
        self._points: dict[int, str] = {}
        self._known: dict[str, Sequence[float]] = {}
        self._worst: list[float] = []
        self._failed: list[Any] = []
        self._has_learnt = False

    @classmethod
    def named(cls, algorithm: str) -> type[Nevergrad]:
        """The class for the optimizer of the registry that has this name.

        Raises:
            InvalidDocument: There is none.
        """
        if algorithm not in registry():
            close = difflib.get_close_matches(algorithm, registry(), n=3, cutoff=0.4)
            hint = f"; close are {', '.join(close)}" if close else ""
            message = f"Nevergrad's registry has no {algorithm!r}{hint}; try NGOpt, CMA, TwoPointsDE, PSO or OnePlusOne"
            raise InvalidDocument([Flaw("algorithm.name", message)])
        return type("Nevergrad", (cls,), {"algorithm": algorithm, "__doc__": f"Nevergrad's {algorithm}."})

    def suggest(self, number: int, seed: int) -> Parameters:
        """Ask for a candidate."""
        self._settle_refused()
        try:
            candidate = self._ask(seed)
        except (ArithmeticError, AssertionError, RecursionError, TimeoutError, TypeError, ValueError):
            # covariances that degenerate on flat or discrete losses, inner models that a newer NumPy broke: methods of
            # this kind are meant to be restarted
            self._optimizer = self._make(self._workers)
            candidate = self._chance(seed)
        values = {name: axis.decode(float(candidate.value[name])) for name, axis in self._axes.items()}
        point = {name: values[name] for name in self._problem.space.active(values)}
        self._asked.append((candidate, point))
        return point

    def pend(self, number: int, parameters: Parameters) -> None:
        """Keep the candidate that the point comes from, or make one for it."""
        asked = next((candidate for candidate, point in self._asked if point == parameters), None)
        self._asked = [(candidate, point) for candidate, point in self._asked if candidate is not asked]
        self._settle_refused()
        self._candidates[number] = self._candidate(parameters) if asked is None else asked
        self._points[number] = _key(parameters)

    def observe(self, number: int, losses: Sequence[float] | None) -> None:
        """Tell the candidate's loss."""
        if not self._has_learnt:
            self._count_workers()
        candidate, point = self._candidates.pop(number), self._points.pop(number)
        if losses is None:
            self._failed.append(candidate)
        else:
            self._known[point] = losses
            self._worst = list(map(max, losses, self._worst or losses))
            self._tell(candidate, losses)
        self._tell_failed()

    def _settle_refused(self) -> None:
        """Tell what is known of candidates that did not become points: they are known already, or not allowed."""
        for candidate, point in self._asked:
            if (losses := self._known.get(_key(point))) is not None:
                self._tell(candidate, losses)
            else:
                self._failed.append(candidate)
        self._asked.clear()
        self._tell_failed()

    def _tell_failed(self) -> None:
        """Tell of what is no good, if there is a loss yet that can be called the worst."""
        if self._worst:
            for candidate in self._failed:
                self._tell(candidate, self._worst)
            self._failed.clear()

    def _ask(self, seed: int) -> Any:
        with quietly(seed):
            self._optimizer.parametrization.random_state.seed(seed)
            if self._untold and _has_sequential_part(self._optimizer):
                return self._chance(seed)  # it would wait for the result, for ever
            candidate = _ask_apart(self._optimizer)
        if not all(math.isfinite(value) for value in candidate.value.values()):
            raise ValueError("it proposed what is no number")
        self._untold.add(candidate.uid)
        return candidate

    def _chance(self, seed: int) -> Any:
        with quietly(seed):
            self._optimizer.parametrization.random_state.seed(seed)
            return self._optimizer.parametrization.sample()

    def _tell(self, candidate: Any, losses: Sequence[float]) -> None:
        with quietly(len(self._known)):
            try:
                self._optimizer.tell(candidate, losses[0] if len(losses) == 1 else list(losses))
                self._untold.discard(candidate.uid)
            except self._nevergrad.errors.TellNotAskedNotSupportedError:
                pass  # it goes on without what it did not propose

    def _count_workers(self) -> None:
        """Start again for as many workers as there are, now that they have shown."""
        self._has_learnt = True
        workers = len(self._candidates)
        if workers > 1 and "num_workers" not in self._options:
            self._workers = workers
            self._optimizer = self._make(workers)
            self._candidates = {number: self._spawn(each.value) for number, each in self._candidates.items()}

    def _make(self, workers: int) -> Any:
        self._untold.clear()
        budget = self._options.get("budget", self._problem.budget or _BUDGET)
        with quietly(self._problem.seed):
            variables = {name: self._variable(axis) for name, axis in self._axes.items()}
            if len(variables) == 1:  # several methods want a library that is not there when there is but one dimension
                variables[_FILLER] = self._nevergrad.p.Scalar(lower=0.0, upper=1.0)
            parametrization = self._nevergrad.p.Dict(**variables)
            parametrization.random_state.seed(self._problem.seed)
            method = self._nevergrad.optimizers.registry[self.algorithm]
            workers = 1 if method.no_parallelization else workers
            return method(parametrization, budget=max(budget, workers), num_workers=workers)

    def _variable(self, axis: Axis) -> Any:
        p = self._nevergrad.p
        if isinstance(axis, Real):
            return p.Scalar(lower=0.0, upper=1.0)
        if isinstance(axis, Choice):
            return p.Choice(range(axis.n))
        # half a place beyond both ends, or the ends would be drawn half as often as the others
        return p.Scalar(lower=-0.5, upper=axis.n - 0.5).set_integer_casting()

    def _candidate(self, parameters: Parameters) -> Any:
        value = {name: middle(axis) for name, axis in self._axes.items()}
        value.update({name: self._axes[name].encode(given) for name, given in parameters.items()})
        if len(value) == 1:
            value[_FILLER] = 0.5
        return self._spawn(value)

    def _spawn(self, value: Mapping[str, float]) -> Any:
        with quietly(0):
            return self._optimizer.parametrization.spawn_child(new_value=dict(value))


def _ask_apart(method: Any) -> Any:
    """Ask in a thread of its own, so that threads which the method starts end with the process, as this one does."""
    answer: Future[Any] = Future()

    def ask() -> None:
        try:
            answer.set_result(method.ask())
        except Exception as error:  # noqa: BLE001 - raised again where the answer is read
            answer.set_exception(error)

    threading.Thread(target=ask, daemon=True).start()
    return answer.result(timeout=_PATIENCE)


def _has_sequential_part(optimizer: Any) -> bool:
    """Whether the method, or one that it has chosen for itself, must be told before it is asked again."""
    from nevergrad.optimization.base import Optimizer as Method
    from nevergrad.optimization.recaster import SequentialRecastOptimizer

    getattr(optimizer, "optim", None)  # some choose only when they are looked at
    held = [each for value in vars(optimizer).values() for each in (value if isinstance(value, list) else [value])]
    inner = [each for each in held if isinstance(each, Method) and each is not optimizer]
    return isinstance(optimizer, SequentialRecastOptimizer) or any(map(_has_sequential_part, inner))


def _key(point: Parameters) -> str:
    return repr(sorted(point.items()))


@functools.cache
def registry() -> frozenset[str]:
    """All names in the registry of the Nevergrad that is installed.

    A process of its own reads them, since the import takes seconds and memory that a web process must not pay.
    """
    code = "import json, warnings; warnings.simplefilter('ignore'); import nevergrad as ng;"
    code += "print(json.dumps(sorted(ng.optimizers.registry)))"
    out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    return frozenset(json.loads(out.splitlines()[-1]))


@contextmanager
def quietly(seed: int) -> Iterator[None]:
    """Nevergrad's own random numbers, and its advice on how it could be called kept from the log."""
    with seeded(seed), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
