"""Points and results that people wrote down: on the command line, in CSV and in JSON files."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from gridtune_common.cli.loading import InvalidFile
from gridtune_common.errors import Flaw, InvalidDocument
from gridtune_common.foreign import settle, settle_value
from gridtune_common.protocol import KnownResult, Metrics, Parameters
from gridtune_common.space import Parameter, SearchSpace
from gridtune_common.space.reading import Flaws, is_number, show
from gridtune_common.taskfile import parse_text
from gridtune_common.taskfile.loading import FORMS

#: What an export's CSV says of a point besides its parameters and metrics.
_BOOKKEEPING: Final = frozenset(
    "number state value attempts worker site created_at started_at ended_at on_front message origin "
    "wall_seconds cpu_seconds peak_memory_bytes gpu_seconds runtime image".split()
)
_PARAMETER, _METRIC, _DONE = "param.", "metric.", "done"
#: As Python writes what JSON calls true and false.
_BOOLEANS: Final = {"True": True, "False": False}
_MOST_FLAWS: Final = 20


@dataclass(frozen=True)
class Found:
    """What a file of results holds.

    Attributes:
        results: Results with a point of the space and all objectives.
        places: Where in the file each of them is.
        n_unfinished: How many points without a result an export had besides.
        ignored: Columns, or names of values, that mean nothing to the task.
    """

    results: list[KnownResult] = field(default_factory=list)
    places: list[str] = field(default_factory=list)
    n_unfinished: int = 0
    ignored: tuple[str, ...] = ()


@dataclass(frozen=True)
class Wanted:
    """What a task asks of a result."""

    space: SearchSpace
    objectives: tuple[str, ...]

    @classmethod
    def by(cls, document: Mapping[str, Any]) -> Wanted:
        """What the task with this canonical document asks."""
        objectives = document["objective"]
        named = objectives if isinstance(objectives, list) else [objectives]
        return cls(SearchSpace.parse(document["space"]), tuple(objective["metric"] for objective in named))


def read_results(path: Path, wanted: Wanted) -> Found:
    """Read results from a CSV or JSON file, also from what ``gridtune export`` wrote.

    Raises:
        InvalidDocument: It cannot be used; names the file and each place where something is wrong.
    """
    form = path.suffix.lower()
    if form not in (".csv", ".json"):
        raise InvalidDocument([Flaw(str(path), "is no file of results by its name; call it *.csv or *.json")])
    flaws = Flaws()
    text = _text_of(path)
    try:
        found = _Table(wanted, flaws).read(text) if form == ".csv" else _read_json(text, wanted, flaws)
        flaws.raise_if_any()
    except InvalidDocument as invalid:
        raise InvalidFile(path, _first(invalid.flaws)) from invalid
    return found


def read_points(path: Path, space: SearchSpace) -> list[Parameters]:
    """Read points from a JSON or YAML file: a list of them, or one.

    Raises:
        InvalidDocument: It cannot be used; names the file and each place where something is wrong.
    """
    if path.suffix.lower() not in FORMS:
        raise InvalidDocument([Flaw(str(path), f"is no file of points by its name; call it *{', *'.join(FORMS)}")])
    text = _text_of(path)
    try:
        document = parse_text(text, FORMS[path.suffix.lower()])
        points = [document] if isinstance(document, Mapping) else document
        if not isinstance(points, list) or not points:
            raise InvalidDocument([Flaw("", "holds no points; write a list of them, each with a value per parameter")])
        complaints = {index: _complaint(space, point) for index, point in enumerate(points)}
        flaws = [Flaw(f"[{index}]", complaint) for index, complaint in complaints.items() if complaint]
        if flaws:
            raise InvalidDocument(flaws)
    except InvalidDocument as invalid:
        raise InvalidFile(path, _first(invalid.flaws)) from invalid
    return [settle(space, point) for point in points]


def read_value(parameter: Parameter | None, word: str) -> Any:
    """The value that a word stands for: JSON if it is some, text otherwise, whichever the parameter has.

    >>> read_value(None, "0.5"), read_value(None, "adam"), read_value(None, "True")
    (0.5, 'adam', True)
    """
    plain = _BOOLEANS[word] if word in _BOOLEANS else _json_or_text(word)
    if parameter is None:
        return plain
    forms = [settle_value(parameter, plain), word]
    return next((form for form in forms if parameter.contains(form)), plain)


def _json_or_text(word: str) -> Any:
    try:
        return json.loads(word, parse_constant=lambda _: word)
    except (ValueError, RecursionError):
        return word


def _text_of(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise InvalidDocument(
            [Flaw(str(path), f"cannot be read: {error.strerror or error}; check the path")]
        ) from error
    except UnicodeDecodeError as error:
        raise InvalidDocument([Flaw(str(path), "is not UTF-8 text; save it as UTF-8")]) from error


def _first(flaws: Sequence[Flaw]) -> list[Flaw]:
    """A table can have the same flaw in every line."""
    rest = len(flaws) - _MOST_FLAWS
    return [*flaws[:_MOST_FLAWS], *([Flaw("", f"and {rest} more of this kind")] if rest > 0 else [])]


def _complaint(space: SearchSpace, point: Any) -> str:
    return space.explain(settle(space, point) if isinstance(point, Mapping) else point)


# --- CSV ----------------------------------------------------------------------------------------------------


class _Table:
    """Reads a table with a column per parameter and per metric, and a header that names them.

    Args:
        wanted: What is to be found.
        flaws: Takes what is wrong.
    """

    def __init__(self, wanted: Wanted, flaws: Flaws) -> None:
        self._wanted = wanted
        self._flaws = flaws
        self._names: list[str] = []
        self._parameters: dict[int, Parameter] = {}
        self._metrics: dict[int, str] = {}
        self._state: int | None = None
        self._ignored: list[str] = []

    def read(self, text: str) -> Found:
        """All results; what is wrong is noted by line and column."""
        results: list[KnownResult] = []
        places: list[str] = []
        n_unfinished = 0
        for line, cells in self._rows(text):
            if not self._names:
                self._read_header(cells)
                if len(self._flaws):
                    break
            elif len(cells) != len(self._names):
                self._flaws.add(f"line {line}", f"has {len(cells)} cells, and the header {len(self._names)}")
            elif self._state is not None and cells[self._state] != _DONE:
                n_unfinished += 1
            else:
                results.append(KnownResult(self._point(line, cells), self._values(line, cells)))
                places.append(f"line {line}")
        if not self._names:
            self._flaws.add("line 1", "there is no header; write the names of parameters and metrics there")
        return Found(results, places, n_unfinished, tuple(self._ignored))

    def _rows(self, text: str) -> Iterator[tuple[int, list[str]]]:
        """Rows that have something in them, each with the line on which it begins."""
        reader = csv.reader(io.StringIO(text, newline=""), strict=True)
        line = 1
        try:
            for row in reader:
                cells = [cell.strip() for cell in row]
                if any(cells):
                    yield line, cells
                line = reader.line_num + 1
        except csv.Error as error:
            self._flaws.add(f"line {reader.line_num}", f"{error}; correct the CSV there")

    def _read_header(self, names: list[str]) -> None:
        self._names = names
        is_export = any(name.startswith(_PARAMETER) for name in names)
        for index, name in enumerate(names):
            if name and name in names[:index]:
                self._flaws.add("line 1", f"the column {name} is there twice; keep one")
            self._place(index, name, is_export)
        there = f"columns are: {', '.join(names)}"
        mapped = {parameter.name for parameter in self._parameters.values()}
        for parameter in self._wanted.space:
            if parameter.name not in mapped and not parameter.conditions:
                self._flaws.add("line 1", f"there is no column for the parameter {parameter.name}; {there}")
        for objective in self._wanted.objectives:
            if objective not in self._metrics.values():
                self._flaws.add("line 1", f"there is no column for the objective {objective}; {there}")

    def _place(self, index: int, name: str, is_export: bool) -> None:
        """Give a column its meaning. An export prefixes its names, for there a parameter may be called 'state'."""
        own = {parameter.name: parameter for parameter in self._wanted.space}
        bare = name[len(_PARAMETER) :] if name.startswith(_PARAMETER) else "" if is_export else name
        if bare in own:
            self._parameters[index] = own[bare]
        elif name.startswith(_METRIC):
            self._metrics[index] = name[len(_METRIC) :]
        elif not is_export and name in self._wanted.objectives:
            self._metrics[index] = name
        elif is_export and name == "state":
            self._state = index
        elif not (is_export and name in _BOOKKEEPING):
            self._ignored.append(name or f"column {index + 1}")

    def _point(self, line: int, cells: list[str]) -> Parameters:
        space = self._wanted.space
        given: Parameters = {
            parameter.name: read_value(parameter, cells[index])
            for index, parameter in self._parameters.items()
            if cells[index]
        }
        # an empty cell is an inactive parameter, or the choice null
        filled = {parameter.name: None for parameter in space if parameter.contains(None)} | given
        point = settle(space, {name: filled[name] for name in filled if name in given or name in space.active(filled)})
        n_before = len(self._flaws)
        for index, parameter in self._parameters.items():
            value = point.get(parameter.name)
            if parameter.name in given and not parameter.contains(value):
                place = f"line {line}, column {self._names[index]}"
                self._flaws.add(place, f"{show(value)} is not possible; give {parameter.describe()}")
        if len(self._flaws) == n_before and (complaint := space.explain(point)):
            self._flaws.add(f"line {line}", complaint)
        return point

    def _values(self, line: int, cells: list[str]) -> Metrics:
        values: Metrics = {}
        for index, name in self._metrics.items():
            number = _number(cells[index])
            if number is None and name in self._wanted.objectives:
                there = f"{cells[index]!r} is none" if cells[index] else "the cell is empty"
                place = f"line {line}, column {self._names[index]}"
                self._flaws.add(place, f"the objective needs a finite number, and {there}")
            if cells[index]:
                values[name] = number
        return values


def _number(cell: str) -> float | None:
    try:
        number = float(cell)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


# --- JSON ---------------------------------------------------------------------------------------------------


def _read_json(text: str, wanted: Wanted, flaws: Flaws) -> Found:
    document = parse_text(text, "json")
    is_export = isinstance(document, Mapping)
    entries = document.get("points") if isinstance(document, Mapping) else document
    if not isinstance(entries, list):
        flaws.add("", "holds no results; write a list of {parameters: …, metrics: …}, or give what an export wrote")
        return Found()
    results: list[KnownResult] = []
    places: list[str] = []
    ignored: dict[str, None] = {}
    n_unfinished = 0
    for index, entry in enumerate(entries):
        if is_export and isinstance(entry, Mapping) and entry.get("state", _DONE) != _DONE:
            n_unfinished += 1
            continue
        place = f"points[{index}]" if is_export else f"[{index}]"
        result = _read_entry(entry, wanted, place, flaws)
        if result is not None:
            ignored.update(dict.fromkeys(name for name in entry["parameters"] if name not in wanted.space.names))
            results.append(result)
            places.append(place)
    return Found(results, places, n_unfinished, tuple(ignored))


def _read_entry(entry: Any, wanted: Wanted, place: str, flaws: Flaws) -> KnownResult | None:
    parts = [entry.get(part) if isinstance(entry, Mapping) else None for part in ("parameters", "metrics")]
    parameters, metrics = parts
    if not isinstance(parameters, Mapping) or not isinstance(metrics, Mapping):
        flaws.add(place, f"{show(entry)} is no result; write {{parameters: {{…}}, metrics: {{…}}}}")
        return None
    point = settle(wanted.space, {name: parameters[name] for name in wanted.space.names if name in parameters})
    if complaint := wanted.space.explain(point):
        flaws.add(f"{place}.parameters", complaint)
    values = {name: _finite(value) for name, value in metrics.items()}
    for objective in wanted.objectives:
        if values.get(objective) is None:
            message = f"the objective needs a finite number, and {show(metrics.get(objective))} is none"
            flaws.add(f"{place}.metrics.{objective}", message)
    return KnownResult(point, values)


def _finite(value: Any) -> float | None:
    return _number(str(value)) if is_number(value) else None
