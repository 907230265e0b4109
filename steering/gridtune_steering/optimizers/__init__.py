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
from gridtune_common.space import Normal, Parameter, SearchSpace
from gridtune_steering.optimizers.port import Optimizer, OptimizerClass

#: ``library/algorithm`` -> where its class is.
OPTIMIZERS: Final[Mapping[str, str]] = {
    "random": "gridtune_steering.optimizers.uniform:UniformRandom",
    "sobol": "gridtune_steering.optimizers.sobol:Sobol",
    "grid": "gridtune_steering.optimizers.grid:Grid",
    "optuna/tpe": "gridtune_steering.optimizers.optuna_tpe:OptunaTpe",
    "hyperopt/tpe": "gridtune_steering.optimizers.hyperopt_tpe:HyperoptTpe",
}


def create(name: str, space: SearchSpace, *, n_objectives: int, options: Mapping[str, Any], seed: int) -> Optimizer:
    """Make the optimizer called *name* for a search space.

    Raises:
        InvalidDocument: No such optimizer or option, or it cannot do what the task asks.
        MissingExtra: Its library is not installed.
    """
    kind = load(name)
    check(kind, name, space, n_objectives=n_objectives, options=options)
    return kind(space, dict(options), n_objectives=n_objectives, seed=seed)


def load(name: str) -> OptimizerClass:
    """The class of the optimizer called *name*; its library is not imported before the first instance is made.

    Raises:
        InvalidDocument: There is no such optimizer.
        MissingExtra: Its library is not installed.
    """
    check_name(name)
    module, _, attribute = OPTIMIZERS[name].partition(":")
    kind: OptimizerClass = getattr(import_module(module), attribute)
    for library in kind.libraries:
        if not list(distributions(name=library)):
            raise MissingExtra(f"{library} (for {name})", name.partition("/")[0])
    return kind


def check_name(name: str) -> None:
    """Refuse an optimizer that is not in the table, naming those that are; imports nothing.

    Raises:
        InvalidDocument: There is no such optimizer.
    """
    if name not in OPTIMIZERS:
        hint = _did_you_mean(name, OPTIMIZERS)
        message = f"{name!r} is no algorithm here{hint}; there are: {', '.join(sorted(OPTIMIZERS))}"
        raise InvalidDocument([Flaw("algorithm.name", message)])


def check(
    kind: OptimizerClass, name: str, space: SearchSpace, *, n_objectives: int, options: Mapping[str, Any]
) -> None:
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
    if n_objectives > 1 and not kind.several_objectives:
        flaws.append(Flaw("objective", f"{name} takes one objective, this task has {n_objectives}"))
    if kind.finite_spaces_only and not space.is_finite:
        flaws += [
            Flaw(f"space.{each.name}", f"has endless values, which {name} cannot try all; give it {_ends(each)}")
            for each in space
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
