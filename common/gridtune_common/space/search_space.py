"""The search space: parameters in their declared order, and which of them exist in a point."""

from __future__ import annotations

import math
import random
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Optional

from gridtune_common.errors import Flaw
from gridtune_common.protocol import Parameters
from gridtune_common.space.conditions import Condition
from gridtune_common.space.normal import Normal
from gridtune_common.space.parameters import Categorical, Float, Int, Ordinal, Parameter
from gridtune_common.space.parsing import parse_parameters
from gridtune_common.space.reading import Checked, Flaws, did_you_mean, identity, join, show

#: Counting the points of a conditional space gives up after so many combinations of what others depend on.
_MAX_COMBINATIONS: Final = 100_000


@dataclass(frozen=True)
class SearchSpace(Checked):
    """All parameters of a task. A point gives a value to each active parameter and to no other.

    Iterating gives the parameters in declared order.
    """

    parameters: tuple[Parameter, ...]
    _by_name: dict[str, Parameter] = field(init=False, repr=False, compare=False)
    _parents_first: tuple[Parameter, ...] = field(init=False, repr=False, compare=False)

    @classmethod
    def parse(cls, document: Any, path: str = "space") -> SearchSpace:
        """Read a space from the form that a task file gives it.

        Raises:
            InvalidDocument: It cannot be used; names every flaw, with paths below *path*.
        """
        flaws = Flaws()
        read = parse_parameters(document, path, flaws)
        parameters = tuple(parameter for parameter in read.values() if parameter is not None)
        unreadable = [str(name) for name, parameter in read.items() if parameter is None]
        flaws.adopt(path, _check_relations(parameters, unreadable))
        flaws.raise_if_any()
        return cls(parameters)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all parameters, in declared order."""
        return tuple(self._by_name)

    @property
    def is_finite(self) -> bool:
        """Whether there is a finite number of points."""
        return all(parameter.n_values is not None for parameter in self.parameters)

    @property
    def size(self) -> Optional[int]:
        """How many different points there are; None if there is no end to them, or no telling."""
        if not self.is_finite:
            return None
        sizes = [_count(group) for group in _independent_groups(self._parents_first)]
        return math.prod(size for size in sizes if size is not None) if None not in sizes else None

    def __iter__(self) -> Iterator[Parameter]:
        return iter(self.parameters)

    def __len__(self) -> int:
        return len(self.parameters)

    def __getitem__(self, name: str) -> Parameter:
        return self._by_name[name]

    def to_json(self) -> dict[str, Any]:
        """The space in the form that a task file gives it, every default written out."""
        return {parameter.name: parameter.to_json() for parameter in self.parameters}

    def active(self, point: Mapping[str, Any]) -> tuple[str, ...]:
        """The names of the parameters that exist, given the values of those that they depend on.

        Other values may be missing, and values of inactive parameters present: they count for nothing.
        """
        active: set[str] = set()
        for parameter in self._parents_first:
            if _is_active(parameter, point, active):
                active.add(parameter.name)
        return tuple(name for name in self._by_name if name in active)

    def sample(self, rng: random.Random) -> Parameters:
        """Draw a point: the active parameters, in declared order."""
        point: Parameters = {}
        for parameter in self._parents_first:
            if _is_active(parameter, point, point):
                point[parameter.name] = parameter.sample(rng)
        return {name: point[name] for name in self._by_name if name in point}

    def contains(self, point: Mapping[str, Any]) -> bool:
        """Whether the point has a possible value for each active parameter, and no other."""
        return not any(self._problems(point))

    def explain(self, point: Mapping[str, Any]) -> str:
        """What is wrong with a point and what to do about it; empty if nothing is."""
        return "; ".join(self._problems(point))

    def _problems(self, point: Any) -> Iterator[str]:
        if not isinstance(point, Mapping):
            yield f"{show(point)} is no point; write one as an object of parameter names and values"
            return
        for name in point:
            if name not in self._by_name:
                yield f"{name}: the space has no such parameter; {did_you_mean(name, self._by_name)}"
        active = self.active(point)
        for parameter in self.parameters:
            if parameter.name in active:
                yield from _problems_of_active(parameter, point)
            elif parameter.name in point:
                needs = " and ".join(map(str, parameter.conditions))
                yield f"{parameter.name}: is not used in this point, for it needs {needs}; leave it out"

    def _subject(self) -> str:
        return ""

    def _flaws(self) -> Iterator[Flaw]:
        if not self.parameters:
            yield Flaw("", "the space is empty; give it at least one parameter")
        names: set[str] = set()
        for parameter in self.parameters:
            if not isinstance(parameter, (Float, Int, Normal, Categorical, Ordinal)):
                yield Flaw("", f"{parameter!r} is no parameter")
                return
            if parameter.name in names:
                yield Flaw(parameter.name, "is the name of two parameters; rename one")
            names.add(parameter.name)
        yield from _check_relations(self.parameters)

    def _settle(self) -> None:
        self._set("parameters", tuple(self.parameters))
        self._set("_by_name", {parameter.name: parameter for parameter in self.parameters})
        self._set("_parents_first", _parents_first(self._by_name))


def _is_active(parameter: Parameter, point: Mapping[str, Any], active: Collection[str]) -> bool:
    return all(condition.parent in active and condition.holds(point) for condition in parameter.conditions)


def _problems_of_active(parameter: Parameter, point: Mapping[str, Any]) -> Iterator[str]:
    if parameter.name not in point:
        yield f"{parameter.name}: is missing; give {parameter.describe()}"
    elif not parameter.contains(point[parameter.name]):
        value = show(point[parameter.name])
        yield f"{parameter.name}: {value} is not possible; give {parameter.describe()}"


# --- conditions between parameters --------------------------------------------------------------------------


def _check_relations(parameters: Sequence[Parameter], unreadable: Collection[str] = ()) -> Iterator[Flaw]:
    """Every condition must name a parameter that can decide it, and none may lead back to itself."""
    by_name = {parameter.name: parameter for parameter in parameters}
    for parameter in parameters:
        for condition in parameter.conditions:
            if condition.parent not in unreadable:
                path = join(join(parameter.name, "when"), condition.parent)
                yield from _check_condition(path, condition, by_name)
    yield from _check_cycles(by_name)


def _check_condition(path: str, condition: Condition, by_name: Mapping[str, Parameter]) -> Iterator[Flaw]:
    parent = by_name.get(condition.parent)
    if parent is None:
        yield Flaw(path, f"there is no parameter of this name; {did_you_mean(condition.parent, by_name)}")
    elif isinstance(parent, (Float, Normal)):
        yield Flaw(path, f"{parent.name} is a {parent.kind}; depend on a categorical, an ordinal or an int instead")
    else:
        for value in condition.values:
            if not parent.contains(value):
                yield Flaw(path, f"{show(value)} is no value of {parent.name}; write {parent.describe()}")


def _check_cycles(by_name: Mapping[str, Parameter]) -> Iterator[Flaw]:
    known: set[str] = set()
    for name in by_name:
        cycle = _cycle_from(name, by_name)
        if cycle and known.isdisjoint(cycle):
            known.update(cycle)
            way = " → ".join([*cycle, name])
            yield Flaw(join(name, "when"), f"{name} depends on itself ({way}); remove one of these conditions")


def _cycle_from(start: str, by_name: Mapping[str, Parameter]) -> list[str]:
    """The shortest way over conditions from a parameter back to itself, less its last step; empty if none."""
    ways = [[start]]
    seen: set[str] = set()
    for way in ways:
        for parent in _parents(way[-1], by_name):
            if parent == start:
                return way
            if parent not in seen:
                seen.add(parent)
                ways.append([*way, parent])
    return []


def _parents(name: str, by_name: Mapping[str, Parameter]) -> list[str]:
    return [condition.parent for condition in by_name[name].conditions if condition.parent in by_name]


def _parents_first(by_name: Mapping[str, Parameter]) -> tuple[Parameter, ...]:
    ordered: dict[str, Parameter] = {}
    while len(ordered) < len(by_name):
        for name, parameter in by_name.items():
            if name not in ordered and all(parent in ordered for parent in _parents(name, by_name)):
                ordered[name] = parameter
    return tuple(ordered.values())


# --- counting -----------------------------------------------------------------------------------------------


def _independent_groups(parents_first: Sequence[Parameter]) -> list[list[Parameter]]:
    """Parameters that depend on each other together, each group with parents first."""
    groups: list[list[Parameter]] = []
    for parameter in parents_first:
        parents = {condition.parent for condition in parameter.conditions}
        related = [group for group in groups if any(member.name in parents for member in group)]
        groups = [group for group in groups if group not in related]
        groups.append([*(member for group in related for member in group), parameter])
    return groups


def _count(parents_first: Sequence[Parameter]) -> Optional[int]:
    """How many points a group of finite parameters has; None if there are too many cases to count."""
    mentioned: dict[str, dict[Any, Any]] = {}
    for parameter in parents_first:
        for condition in parameter.conditions:
            values = {identity(value): value for value in condition.values}
            mentioned.setdefault(condition.parent, {}).update(values)
    cases: list[tuple[dict[str, Any], int]] = [({}, 1)]  # values of parents, and how many points have them
    for parameter in parents_first:
        cases = [
            (case, total * weight)
            for point, total in cases
            for case, weight in _cases_of(parameter, point, mentioned.get(parameter.name))
        ]
        if len(cases) > _MAX_COMBINATIONS:
            return None
    return sum(total for _, total in cases)


def _cases_of(
    parameter: Parameter, point: dict[str, Any], mentioned: Optional[dict[Any, Any]]
) -> Iterator[tuple[dict[str, Any], int]]:
    """How a point goes on with one more parameter; values that no condition mentions are one case."""
    size = parameter.n_values or 0
    if not _is_active(parameter, point, point):
        yield point, 1
    elif mentioned is None:
        yield point, size
    else:
        for value in mentioned.values():
            yield {**point, parameter.name: value}, 1
        if size > len(mentioned):
            yield {**point, parameter.name: _OTHER}, size - len(mentioned)


_OTHER: Final = object()
