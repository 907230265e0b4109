"""Have points of your own tried next, ahead of what the algorithm proposes.

    gridtune add-point digits learning_rate=0.01 layers=3 optimizer=adam
    gridtune add-point digits --file points.json

A value is read as JSON if it is some, and as text otherwise. A file holds a list of points, each an object with
a value for each parameter. The points take their places in the task's budget.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from gridtune_common import protocol
from gridtune_common.cli import change, connection, output, text
from gridtune_common.client import new_request_id
from gridtune_common.errors import ConfigurationError

if TYPE_CHECKING:
    from gridtune_common.space import SearchSpace


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    connection.add_task(parser)
    parser.add_argument("values", nargs="*", metavar="NAME=VALUE", help="a parameter of one point and its value")
    parser.add_argument("--file", type=Path, metavar="FILE", help="many points: a list of objects, JSON or YAML")
    connection.add_json(parser)
    connection.add_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Queue points."""
    from gridtune_common.cli import foreign  # with the search space, only when there is a point to read
    from gridtune_common.space import SearchSpace

    if bool(arguments.values) == (arguments.file is not None):
        raise ConfigurationError("give either the values of one point, NAME=VALUE …, or a --file with points")
    words = [_split(word) for word in arguments.values]
    with connection.opened(arguments) as client:
        task = client.task(arguments.task)
        space = SearchSpace.parse(task.document["space"])
        points = foreign.read_points(arguments.file, space) if arguments.file else [_point(words, space)]
        message = protocol.AddPoints(new_request_id(), [protocol.OwnPoint(point) for point in points])
        added = client.add_points(arguments.task, message)
    if arguments.json:
        output.emit(added)
        return 0
    output.say(f"{change.name(task)} tries next{_queue(added)}:")
    for point in points:
        output.say(f"  {text.pairs(point)}")
    return 0


def _split(word: str) -> tuple[str, str]:
    name, sign, value = word.partition("=")
    if not sign or not name:
        raise ConfigurationError(f"{word!r} is no NAME=VALUE")
    return name, value


def _point(words: list[tuple[str, str]], space: SearchSpace) -> protocol.Parameters:
    from gridtune_common.cli import foreign

    names = [name for name, _ in words]
    for name in names:
        if names.count(name) > 1:
            raise ConfigurationError(f"{name} is given twice; one command adds one point, or those of a --file")
    return {name: foreign.read_value(space[name] if name in space.names else None, word) for name, word in words}


def _queue(added: protocol.AddedPoints) -> str:
    before = added.waiting - added.added
    return f", after {before} that wait already" if before else ""
