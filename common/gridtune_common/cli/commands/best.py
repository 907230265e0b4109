"""Show the best point of a task so far, beside the median of all done points.

With several objectives, all points are shown that no other point beats: the Pareto front.
"""

from __future__ import annotations

import argparse
import sys

from gridtune_common import protocol
from gridtune_common.cli import connection, metrics, output, text

#: A gain of more than so many medians says more about the median than about the gain.
_LARGEST_SHARE = 10


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    connection.add_task(parser)
    connection.add_json(parser)
    connection.add_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Show the best point."""
    with connection.opened(arguments) as client:
        best = client.best(arguments.task)
    if arguments.json:
        output.emit(best)
        return 0
    for line in lines(best):
        output.say(line)
    if best.front and (hidden := metrics.left_out(metrics.names(best.front, best), best)):
        output.note(hidden)
    return 0


def lines(best: protocol.Best, most: int | None = None) -> list[str]:
    """The best point for people, or the front; of a long one the first *most* points.

    >>> lines(protocol.Best(goal="minimize", objective="loss"))
    ['no point is done yet']
    """
    point = best.point
    if point is None:
        return ["no point is done yet"]
    if best.front is not None:
        return _front(best, best.front, most)
    objective = text.one_line(best.objective)
    others = {name: metric for name, metric in point.metrics.items() if name != best.objective}
    return [
        f"best {objective} {text.value(point.value)} at point {point.number} ({best.goal})",
        *(f"  {line}" for line in text.facts((name, text.value(item)) for name, item in point.parameters.items())),
        *([f"other metrics: {text.pairs(others)}"] if others else []),
        *([median(best)] if best.median is not None else []),
    ]


def _front(best: protocol.Best, front: list[protocol.Point], most: int | None) -> list[str]:
    columns = metrics.shown(metrics.names(front, best), best)
    header = ["point", *map(text.one_line, columns), "parameters"]
    rows = [
        [str(point.number), *metrics.cells(point, columns, best), text.pairs(point.parameters)]
        for point in front[:most]
    ]
    points = "point" if len(front) == 1 else "points"
    more = [f"and {len(front) - len(rows)} more"] if len(front) > len(rows) else []
    return [
        f"front of {len(front)} {points} among {best.n_done} done ({metrics.in_words(best)})",
        *text.table(header, rows, width=output.width_of(sys.stdout), style=output.style_of(sys.stdout)),
        *more,
    ]


def median(best: protocol.Best) -> str:
    """The median, and what the best point gains over it.

    >>> point = protocol.Point(7, protocol.PointState.DONE, {}, {}, 1, "", value=0.2)
    >>> median(protocol.Best("minimize", "loss", point, median=0.5, n_done=20))
    'median 0.5 over 20 done points; the best is 0.3 lower (60 %)'
    """
    middle = f"median {text.value(best.median)} over {best.n_done} done points"
    if best.point is None or best.point.value is None or best.median is None:
        return middle
    gain = abs(best.median - best.point.value)
    if not gain:
        return middle
    word = "lower" if best.point.value < best.median else "higher"
    is_comparable = best.median * best.point.value > 0 and gain < _LARGEST_SHARE * abs(best.median)
    share = f" ({100 * gain / abs(best.median):.3g} %)" if is_comparable else ""
    return f"{middle}; the best is {text.value(gain)} {word}{share}"
