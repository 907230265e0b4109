"""What a task requires of its workers beyond amounts: ``gpu.memory >= 40GiB``, ``site in CERN, DESY``.

A requirement names a fact about a worker. Some names are known; any other is a label, which the site gives its workers.
What a worker does not say of itself meets no requirement, not even ``!=``.

===================================================  ========================  ===================================
names                                                operators                 values
===================================================  ========================  ===================================
``site host arch gpu.model runtime``                 ``= != ~ in``             texts
``cpus gpus``                                        ``= != < <= > >= in``     numbers
``memory gpu.memory``                                ``= != < <= > >= in``     sizes with their unit
any other                                            all                       texts; numbers, if both sides are
===================================================  ========================  ===================================
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Optional, Union

from gridtune_common import units
from gridtune_common.errors import Flaw
from gridtune_common.space.reading import Checked, Flaws, Invalid, is_number, join, show
from gridtune_common.taskfile.command import as_text

#: What is known of a worker, by name: a text or number, or several texts of which each is true; none if unknown.
Facts = Mapping[str, tuple[Union[str, int, float], ...]]

TEXTS: Final = ("site", "host", "arch", "gpu.model", "runtime")
COUNTS: Final = ("cpus", "gpus")
SIZES: Final = ("memory", "gpu.memory")
#: Nobody needs more of them, and they are checked at every ask.
MAX_REQUIREMENTS: Final = 50

_MAX_LENGTH: Final = 400
_ORDERS: Final[Mapping[str, Callable[[Any, Any], bool]]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_CONTAINS: Final = "~"
_OPERATORS: Final = ("=", "!=", *_ORDERS, _CONTAINS, "in")
_LABEL: Final = r"[A-Za-z][A-Za-z0-9_.-]*"
_REQUIREMENT: Final = re.compile(
    rf"(?P<name>{_LABEL})(?:\s*(?P<sign><=|>=|!=|==|=|<|>|~)|\s+(?P<word>in)\s)\s*(?P<value>.*)", re.ASCII
)
_NUMBER: Final = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?", re.ASCII)
_EXAMPLE: Final = "gpu.memory >= 40GiB"
#: What is probably meant by names that would otherwise be labels.
_HINTS: Final[Mapping[str, str]] = {
    "cpu": "cpus",
    "cores": "cpus",
    "gpu": "gpus",
    "gpu_memory": "gpu.memory",
    "gpu-memory": "gpu.memory",
    "gpu_model": "gpu.model",
    "gpu-model": "gpu.model",
    "mem": "memory",
    "ram": "memory",
    "architecture": "arch",
    "hostname": "host",
}


@dataclass(frozen=True)
class Requirement(Checked):
    """One fact about a worker that has to be so.

    Attributes:
        operator: ``=``, ``!=``, ``<``, ``<=``, ``>``, ``>=``, ``~`` (contains, in upper or lower case) or ``in``.
        values: As they are written; several after ``in`` only.
    """

    name: str
    operator: str
    values: tuple[str, ...]
    _amounts: tuple[Optional[float], ...] = field(init=False, repr=False, compare=False, default=())

    @classmethod
    def parse(cls, text: str) -> Requirement:
        """Read a requirement.

        Raises:
            Invalid: It is none; says what to write instead.

        >>> str(Requirement.parse("site in CERN,DESY"))
        'site in CERN, DESY'
        """
        match = _REQUIREMENT.fullmatch(text.strip()) if len(text) <= _MAX_LENGTH else None
        if match is None:
            fix = f"write a name, one of {' '.join(_OPERATORS)}, and a value, such as {_EXAMPLE}"
            raise Invalid([Flaw("", f"{show(text)} is no requirement; {fix}")])
        sign, value = match["sign"] or match["word"], match["value"]
        values = value.split(",") if sign == "in" else [value]
        return cls(match["name"], "=" if sign == "==" else sign, tuple(value.strip() for value in values))

    def __str__(self) -> str:
        return f"{self.name} {self.operator} {', '.join(self.values)}"

    def holds(self, facts: Facts) -> bool:
        """Whether it is so with a worker of which these facts are known."""
        known = facts.get(self.name, ())
        if self.operator == "!=":
            return bool(known) and not any(self._equals(fact, 0) for fact in known)
        return any(self._is_met(fact, index) for fact in known for index in range(len(self.values)))

    def _is_met(self, fact: Union[str, int, float], index: int) -> bool:
        if self.operator == _CONTAINS:
            return self.values[index].lower() in str(fact).lower()
        if self.operator not in _ORDERS:
            return self._equals(fact, index)
        amount, wanted = self._amount_of(fact), self._amounts[index]
        return amount is not None and wanted is not None and _ORDERS[self.operator](amount, wanted)

    def _equals(self, fact: Union[str, int, float], index: int) -> bool:
        amount, wanted = self._amount_of(fact), self._amounts[index]
        if amount is None or wanted is None:
            return str(fact) == self.values[index]
        return amount == wanted

    def _amount_of(self, fact: Union[str, int, float]) -> Optional[float]:
        return float(fact) if is_number(fact) else _number(str(fact))

    def _flaws(self) -> Iterator[Flaw]:
        flaws = list(self._operator_flaws())
        yield from flaws
        if not flaws:
            for value in self.values:
                yield from self._value_flaws(value)

    def _operator_flaws(self) -> Iterator[Flaw]:
        if self.operator not in _OPERATORS:
            yield Flaw("", f"{show(self.operator)} is no operator; write one of {' '.join(_OPERATORS)}")
        if (self.operator != "in" and len(self.values) != 1) or not self.values:
            yield Flaw("", f"has {len(self.values)} values; write one, or several behind in")
        if self.name in _HINTS:
            yield Flaw("", f"{self.name} would be taken for a label; write {_HINTS[self.name]}")
        if self.name in TEXTS and self.operator in _ORDERS:
            yield Flaw("", f"{self.name} is a text, which has no order; write =, !=, ~ or in")
        if self.name in (*COUNTS, *SIZES) and self.operator == _CONTAINS:
            yield Flaw("", f"{self.name} is a number; write =, !=, <, <=, >, >= or in")

    def _value_flaws(self, value: str) -> Iterator[Flaw]:
        if not value or not value.isprintable():
            example = ", such as in CERN, DESY" if self.operator == "in" else ""
            yield Flaw("", f"{show(value)} is no value; write one behind {self.operator}{example}")
        elif "," in value and self.operator == "in":
            yield Flaw("", f"{show(value)} has a comma in it, which parts values; write ~ and a piece without one")
        elif self.name in SIZES and _size(value) is None:
            yield Flaw("", f"{show(value)} is no size; write it with its unit, such as 40GiB")
        elif self.name not in SIZES and (self.name in COUNTS or self.operator in _ORDERS) and _number(value) is None:
            yield Flaw("", f"{show(value)} is no number, and {self.name} {self.operator} needs one, such as 4")

    def _settle(self) -> None:
        read = _size if self.name in SIZES else _no_number if self.name in TEXTS else _number
        self._set("_amounts", tuple(read(value) for value in self.values))


def read_requirements(document: Any, path: str, flaws: Flaws) -> tuple[Requirement, ...]:
    """Read what a task requires: a list of requirements, one alone, or a mapping of names to what they must equal.

    Args:
        document: What is written at *path*.
        path: Where, for the flaws.
        flaws: Takes what is wrong.
    """
    if isinstance(document, str):
        document = [document]
    if isinstance(document, Mapping):
        read = [_equality(name, value, join(path, str(name)), flaws) for name, value in document.items()]
    elif isinstance(document, (list, tuple)):
        read = [_requirement(text, f"{path}[{index}]", flaws) for index, text in enumerate(document)]
    else:
        flaws.add(path, f"{show(document)} is no list of requirements; write one, such as [{_EXAMPLE}]")
        return ()
    return tuple(requirement for requirement in read if requirement is not None)


def _requirement(text: Any, path: str, flaws: Flaws) -> Optional[Requirement]:
    if not isinstance(text, str):
        flaws.add(path, f"{show(text)} is no requirement; write a text, such as {_EXAMPLE}")
        return None
    return flaws.build(path, Requirement.parse, text=text)


def _equality(name: Any, value: Any, path: str, flaws: Flaws) -> Optional[Requirement]:
    """The short form: a name with the one value that it must have, or a list of those that it may have."""
    values = value if isinstance(value, (list, tuple)) else [value]
    if not re.fullmatch(_LABEL, str(name), re.ASCII):
        flaws.add(path, f"{show(name)} is no name; write one, such as site or interconnect")
        return None
    if not values or not all(isinstance(item, (str, bool)) or is_number(item) for item in values):
        flaws.add(path, f"{show(value)} is no value; write a text, a number, or a list of some")
        return None
    texts = tuple(as_text(item).strip() for item in values)
    if any(text.startswith(("<", ">", "=", "!", _CONTAINS)) for text in texts):
        flaws.add(path, f"a mapping is for equality; write a list of requirements, such as ['{name} {texts[0]}']")
        return None
    return flaws.build(path, Requirement, name=str(name), operator="=" if len(texts) == 1 else "in", values=texts)


def _size(text: str) -> Optional[float]:
    try:
        return float(units.n_bytes(text))
    except (ValueError, OverflowError):
        return None


def _number(text: str) -> Optional[float]:
    return float(text) if _NUMBER.fullmatch(text) else None


def _no_number(text: str) -> Optional[float]:
    """Names stay names, even those that look like numbers."""
    return None
