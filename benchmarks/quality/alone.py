"""The libraries without us: each in its own idiom, with the search space that its documentation would have one write.

What a library has no word for is left as it is: Hyperopt, Optuna and scikit-optimize know no ordinals, so these are
choices without an order; scikit-optimize has no conditions, so it is told values that count for nothing. Nobody sees
to it that a point is proposed only once.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from gridtune_common.protocol import Parameters
from gridtune_common.space import Categorical, Int, Normal, Ordinal, Parameter, SearchSpace
from gridtune_steering.optimizers.skopt_models import boosted_trees

from .drivers import Driver
from .instances import nearest


class HyperoptAlone:
    """Hyperopt with the trials that ``fmin`` keeps; those that still run are among them."""

    def __init__(self, algorithm: str, space: SearchSpace, budget: int, workers: int, seed: int) -> None:
        import hyperopt

        self._hyperopt = hyperopt
        self._space = space
        self._native = _nested(space, self._distribution, lambda name, cases: hyperopt.hp.choice(name, cases), dict)
        self._domain = hyperopt.Domain(None, self._native)
        self._trials = hyperopt.Trials()
        self._rng = np.random.default_rng(seed)
        tpe = functools.partial(hyperopt.tpe.suggest, verbose=False)
        self._suggest = {"tpe": tpe, "anneal": hyperopt.anneal.suggest}[algorithm]

    def ask(self) -> tuple[Any, Parameters]:
        """What ``fmin`` does for a new trial."""
        seed = int(self._rng.integers(2**31 - 1))
        self._trials.insert_trial_docs(self._suggest(self._trials.new_trial_ids(1), self._domain, self._trials, seed))
        self._trials.refresh()
        trial = self._trials.trials[-1]
        trial["state"] = self._hyperopt.JOB_STATE_RUNNING
        chosen = {name: values[0] for name, values in trial["misc"]["vals"].items() if values}
        return trial, _settled(self._space, _flat(self._hyperopt.space_eval(self._native, chosen)))

    def tell(self, token: Any, loss: float) -> None:
        """What ``fmin`` does with a result."""
        token["state"] = self._hyperopt.JOB_STATE_DONE
        token["result"] = {"status": self._hyperopt.STATUS_OK, "loss": loss}
        self._trials.refresh()

    def _distribution(self, parameter: Parameter) -> Any:
        hp, name = self._hyperopt.hp, parameter.name
        if isinstance(parameter, (Categorical, Ordinal)):
            return hp.choice(name, list(parameter.choices))
        assert not isinstance(parameter, Normal)  # no problem here has one
        low, high = parameter.low, parameter.high
        if isinstance(parameter, Int):
            if parameter.log:
                return hp.qloguniform(name, math.log(low), math.log(high), 1)
            return (
                hp.uniformint(name, low, high) if parameter.step == 1 else hp.quniform(name, low, high, parameter.step)
            )
        if parameter.step is not None:
            return hp.quniform(name, low, high, parameter.step)
        return hp.loguniform(name, math.log(low), math.log(high)) if parameter.log else hp.uniform(name, low, high)


class OptunaAlone:
    """Optuna's ask and tell, defined by run."""

    def __init__(self, algorithm: str, space: SearchSpace, budget: int, workers: int, seed: int) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._space = space
        samplers: dict[str, Callable[[], Any]] = {
            "tpe": lambda: optuna.samplers.TPESampler(seed=seed),
            "cmaes": lambda: optuna.samplers.CmaEsSampler(seed=seed, warn_independent_sampling=False),
        }
        self._study = optuna.create_study(sampler=samplers[algorithm]())

    def ask(self) -> tuple[Any, Parameters]:
        """Run through the parameters, parents first."""
        trial = self._study.ask()
        point: Parameters = {}
        for parameter in self._space:
            if all(condition.holds(point) for condition in parameter.conditions):
                point[parameter.name] = suggest(trial, parameter)
        return trial, _settled(self._space, point)

    def tell(self, token: Any, loss: float) -> None:
        """Tell the study."""
        self._study.tell(token, loss)


def suggest(trial: Any, parameter: Parameter) -> Any:
    """A parameter's value for a trial of Optuna's."""
    if isinstance(parameter, (Categorical, Ordinal)):
        return trial.suggest_categorical(parameter.name, list(parameter.choices))
    draw = trial.suggest_int if isinstance(parameter, Int) else trial.suggest_float
    return draw(parameter.name, parameter.low, parameter.high, step=parameter.step, log=parameter.log)


class SkoptAlone:
    """Scikit-optimize's ask and tell; with several workers it lies about pending points, as ``cl_max`` does."""

    def __init__(self, algorithm: str, space: SearchSpace, budget: int, workers: int, seed: int) -> None:
        self._algorithm = algorithm
        self._space = space
        self._rng = np.random.RandomState(seed)
        self._optimizer = self._make()
        self._is_parallel = workers > 1
        self._pending: dict[int, Any] = {}
        self._n_asked = 0

    def ask(self) -> tuple[Any, Parameters]:
        """Ask the optimizer, or one of the same knowledge that believes the worst of pending points."""
        optimizer = self._liar() if self._pending else self._optimizer
        row = optimizer.ask()
        self._n_asked += 1
        self._pending[self._n_asked] = row
        values = {p.name: self._value(p, x) for p, x in zip(self._space, row, strict=True)}
        point = _settled(self._space, values)
        return self._n_asked, {name: point[name] for name in self._space.active(point)}

    def tell(self, token: Any, loss: float) -> None:
        """Tell the optimizer; with several workers it is the liars that fit models."""
        self._optimizer.tell(self._pending.pop(token), loss, fit=not self._is_parallel)

    def _liar(self) -> Any:
        liar = self._make()
        rows, losses = list(self._optimizer.Xi), list(self._optimizer.yi)
        lies = [max(losses, default=0.0)] * len(self._pending)
        liar.tell(rows + list(self._pending.values()), losses + lies)
        return liar

    def _make(self) -> Any:
        import skopt

        return skopt.Optimizer(
            [self._dimension(parameter) for parameter in self._space],
            base_estimator=boosted_trees() if self._algorithm == "gbrt" else self._algorithm,
            n_initial_points=10,
            acq_func="EI",
            random_state=self._rng.randint(2**31 - 1),
        )

    def _dimension(self, parameter: Parameter) -> Any:
        from skopt.space import Categorical as Choices
        from skopt.space import Integer, Real

        if isinstance(parameter, (Categorical, Ordinal)):
            return Choices(list(parameter.choices), name=parameter.name)
        prior = "log-uniform" if parameter.log else "uniform"
        if parameter.step not in (None, 1):
            return Integer(0, parameter.grid_size - 1, name=parameter.name)
        dimension = Integer if isinstance(parameter, Int) else Real
        return dimension(parameter.low, parameter.high, prior=prior, name=parameter.name)

    def _value(self, parameter: Parameter, x: Any) -> Any:
        if isinstance(parameter, (Categorical, Ordinal)) or parameter.step in (None, 1):
            return x
        return parameter.grid_value(int(x))


class NevergradAlone:
    """Nevergrad's ask and tell, knowing budget and workers."""

    def __init__(self, algorithm: str, space: SearchSpace, budget: int, workers: int, seed: int) -> None:
        import nevergrad

        self._p = nevergrad.p
        self._space = space
        parametrization = _nested(space, self._variable, lambda name, cases: self._p.Choice(cases), self._dict)
        parametrization.random_state.seed(seed)
        self._optimizer = nevergrad.optimizers.registry[algorithm](parametrization, budget=budget, num_workers=workers)

    def ask(self) -> tuple[Any, Parameters]:
        """Ask for a candidate."""
        candidate = self._optimizer.ask()
        return candidate, _settled(self._space, _flat(candidate.value))

    def tell(self, token: Any, loss: float) -> None:
        """Tell its loss."""
        self._optimizer.tell(token, loss)

    def _dict(self, variables: Mapping[str, Any]) -> Any:
        return self._p.Dict(**variables)

    def _variable(self, parameter: Parameter) -> Any:
        if isinstance(parameter, Categorical):
            return self._p.Choice(list(parameter.choices))
        if isinstance(parameter, Ordinal):
            return self._p.TransitionChoice(list(parameter.choices))
        kind = self._p.Log if parameter.log else self._p.Scalar
        variable = kind(lower=parameter.low, upper=parameter.high)
        return variable.set_integer_casting() if isinstance(parameter, Int) else variable


def alone(name: str, space: SearchSpace, budget: int, workers: int, seed: int) -> Driver:
    """The library called *name* by the table of optimizers, alone.

    Libraries that draw from NumPy's global generator are seeded through it: a process plays one game at a time.
    """
    library, _, algorithm = name.partition("/")
    np.random.seed(seed)
    driver: Driver = LIBRARIES[library](algorithm, space, budget, workers, seed)
    return driver


def can_be_alone(name: str) -> bool:
    """Whether there is a way to drive the algorithm without us."""
    library, _, algorithm = name.partition("/")
    return library in LIBRARIES and algorithm in ALGORITHMS.get(library, (algorithm,))


LIBRARIES: Mapping[str, Any] = {
    "hyperopt": HyperoptAlone,
    "optuna": OptunaAlone,
    "skopt": SkoptAlone,
    "nevergrad": NevergradAlone,
}
#: Those that are written down here; of Nevergrad, all.
ALGORITHMS = {"hyperopt": ("tpe", "anneal"), "optuna": ("tpe", "cmaes"), "skopt": ("gp", "rf", "et", "gbrt")}


def _nested(space: SearchSpace, leaf: Any, choice: Any, group: Any) -> Any:
    """The space as groups in choices: what depends on a choice's value stands in the group of that value."""
    leaves = {parameter.name: leaf(parameter) for parameter in space}
    parents = {condition.parent for parameter in space for condition in parameter.conditions}
    top: dict[str, Any] = {}
    for parameter in space:
        if parameter.name in parents:
            cases = [group(_case(space, leaves, parameter, value)) for value in _choices(parameter)]
            top[parameter.name] = choice(parameter.name, cases)
        elif not parameter.conditions:
            top[parameter.name] = leaves[parameter.name]
    return group(top)


def _case(space: SearchSpace, leaves: Mapping[str, Any], parent: Parameter, value: Any) -> dict[str, Any]:
    point = {parent.name: value}
    children = [p for p in space if p.conditions and all(condition.holds(point) for condition in p.conditions)]
    return {parent.name: value, **{child.name: leaves[child.name] for child in children}}


def _choices(parameter: Parameter) -> tuple[Any, ...]:
    if not isinstance(parameter, Categorical) or parameter.conditions:
        raise NotImplementedError(f"{parameter.name}: only categoricals of the first level have dependants here")
    return parameter.choices


def _flat(values: Mapping[str, Any]) -> Parameters:
    flat: Parameters = {}
    for name, value in values.items():
        flat.update(_flat(value) if isinstance(value, Mapping) else {name: value})
    return flat


def _settled(space: SearchSpace, point: Mapping[str, Any]) -> Parameters:
    """What a training script makes of what it gets: plain numbers, whole where they must be, inside the bounds."""
    plain = {name: value.item() if isinstance(value, np.generic) else value for name, value in point.items()}
    return {name: nearest(space[name], plain[name]) for name in space.names if name in plain}
