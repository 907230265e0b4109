"""The optimizers: a table of names, each loaded on use.

To add one: write one module with one class that keeps the treaty in `port.py`, and add its row here. The contract
tests read this table.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from importlib import import_module
from importlib.metadata import distributions, version
from typing import Any, Final

from gridtune_common.errors import Flaw, InvalidDocument, MissingExtra
from gridtune_common.space import Normal, Parameter
from gridtune_steering.optimizers.port import Optimizer, Problem

#: ``library/algorithm`` -> where its class is; ``library/*`` for a library that lists its own.
OPTIMIZERS: Final[Mapping[str, str]] = {
    "auto": "gridtune_steering.optimizers.auto:Auto",
    "random": "gridtune_steering.optimizers.uniform:UniformRandom",
    "sobol": "gridtune_steering.optimizers.sobol:Sobol",
    "grid": "gridtune_steering.optimizers.grid:Grid",
    "gp": "gridtune_steering.optimizers.gaussian_process:GaussianProcess",
    "hyperopt/tpe": "gridtune_steering.optimizers.hyperopt_tpe:HyperoptTpe",
    "hyperopt/anneal": "gridtune_steering.optimizers.hyperopt_algorithms:HyperoptAnneal",
    "hyperopt/rand": "gridtune_steering.optimizers.hyperopt_algorithms:HyperoptRandom",
    "nevergrad/*": "gridtune_steering.optimizers.nevergrad_registry:Nevergrad",
    "optuna/tpe": "gridtune_steering.optimizers.optuna_samplers:OptunaTpe",
    "optuna/cmaes": "gridtune_steering.optimizers.optuna_samplers:OptunaCmaEs",
    "optuna/gp": "gridtune_steering.optimizers.optuna_samplers:OptunaGp",
    "optuna/nsga2": "gridtune_steering.optimizers.optuna_samplers:OptunaNsga2",
    "optuna/nsga3": "gridtune_steering.optimizers.optuna_samplers:OptunaNsga3",
    "optuna/qmc": "gridtune_steering.optimizers.optuna_samplers:OptunaQmc",
    "skopt/gp": "gridtune_steering.optimizers.skopt_models:SkoptGp",
    "skopt/rf": "gridtune_steering.optimizers.skopt_models:SkoptRandomForest",
    "skopt/et": "gridtune_steering.optimizers.skopt_models:SkoptExtraTrees",
    "skopt/gbrt": "gridtune_steering.optimizers.skopt_models:SkoptBoostedTrees",
}


def create(name: str, problem: Problem, options: Mapping[str, Any]) -> Optimizer:
    """Make the optimizer called *name* for a problem.

    Raises:
        InvalidDocument: No such optimizer or option, or it cannot do what the task asks.
        MissingExtra: Its library is not installed.
    """
    kind = load(name)
    check(kind, name, problem, options)
    return kind(problem, dict(options))


def load(name: str) -> type[Optimizer]:
    """The class of the optimizer called *name*; its library is not imported before the first instance is made.

    Raises:
        InvalidDocument: There is no such optimizer.
        MissingExtra: Its library is not installed.
    """
    check_name(name)
    library, _, algorithm = name.partition("/")
    row = OPTIMIZERS.get(name) or OPTIMIZERS[f"{library}/*"]
    module, _, attribute = row.partition(":")
    kind: type[Optimizer] = getattr(import_module(module), attribute)
    for distribution in kind.libraries:
        if not list(distributions(name=distribution)):
            raise MissingExtra(f"{distribution} (for {name})", kind.extra)
    return kind if name in OPTIMIZERS else kind.named(algorithm)


def check_name(name: str) -> None:
    """Refuse an optimizer that is not in the table, naming those that are; imports nothing.

    Raises:
        InvalidDocument: There is no such optimizer.
    """
    library, _, algorithm = name.partition("/")
    if (name not in OPTIMIZERS and not (algorithm and f"{library}/*" in OPTIMIZERS)) or algorithm == "*":
        hint = _did_you_mean(name, OPTIMIZERS)
        message = f"{name!r} is no algorithm here{hint}; there are: {', '.join(sorted(OPTIMIZERS))}"
        raise InvalidDocument([Flaw("algorithm.name", message)])


def check(kind: type[Optimizer], name: str, problem: Problem, options: Mapping[str, Any]) -> None:
    """Refuse options that the optimizer does not have, and spaces and objectives that it cannot handle.

    Raises:
        InvalidDocument: With every flaw.
    """
    flaws = []
    for key, value in options.items():
        if key not in kind.options:
            known = ", ".join(sorted(kind.options)) or "none"
            hint = _did_you_mean(key, kind.options)
            message = f"{name} has no such option{hint}; it has: {known}"
            flaws.append(Flaw(f"algorithm.options.{key}", message))
        elif (complaint := kind.options[key].complaint(value)) is not None:
            flaws.append(Flaw(f"algorithm.options.{key}", complaint))
    if problem.n_objectives > 1 and not kind.several_objectives:
        flaws.append(Flaw("objective", f"{name} takes one objective, this task has {problem.n_objectives}"))
    if kind.finite_spaces_only and not problem.space.is_finite:
        flaws += [
            Flaw(f"space.{each.name}", f"has endless values, which {name} cannot try all; give it {_ends(each)}")
            for each in problem.space
            if each.n_values is None
        ]
    if flaws:
        raise InvalidDocument(flaws)


def _ends(parameter: Parameter) -> str:
    """What makes a parameter finite."""
    return "low, high and step" if isinstance(parameter, Normal) else "a step"


def library_versions(name: str) -> dict[str, str]:
    """The versions of the libraries that the optimizer called *name* stands on, for provenance."""
    return {library: version(library) for library in load(name).libraries}


def _did_you_mean(name: str, known: Mapping[str, Any]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""
