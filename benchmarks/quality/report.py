"""The tables and the chart of a benchmark."""

from __future__ import annotations

import os
import platform
import shlex
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from statistics import fmean

from .instances import REAL, SYNTHETIC
from .runs import Row
from .scores import MOST_REGRET, Comparison, Interval, Scores, compare, score

_MODES = ("sequential", "parallel")
_BLOCKS = [(block, mode) for block in (SYNTHETIC, REAL) for mode in _MODES]
#: The chart's measures, in pixels.
_ROW, _LEFT, _PANEL, _GAP, _TOP = 20, 190, 190, 20, 60


def write(rows: Sequence[Row], optima: dict[str, float], folder: Path, command: Sequence[str]) -> str:
    """Write ``quality.md`` and ``quality.svg``; return the text."""
    scores, half = score(rows, optima), score(rows, optima, half=True)
    if not scores.cells:
        raise SystemExit("there is no problem and seed that all of these have finished: choose fewer --algorithms")
    text = "\n".join(_page(rows, scores, half, command)) + "\n"
    (folder / "quality.md").write_text(text, encoding="utf-8")
    (folder / "quality.svg").write_text(_chart(rows, scores), encoding="utf-8")
    return text


def _page(rows: Sequence[Row], scores: Scores, half: Scores, command: Sequence[str]) -> Iterator[str]:
    yield "# Quality of the optimizers"
    yield ""
    yield from _circumstances(rows, scores, command)
    yield from _overview(rows, scores, half)
    yield from _by_problem(rows, scores)
    for modes in (["sequential"], ["parallel"], list(_MODES)):
        if comparisons := compare(scores, modes):
            yield from _adapters(comparisons, " and ".join(modes))
    yield "![Normalised regret](quality.svg)"


def _circumstances(rows: Sequence[Row], scores: Scores, command: Sequence[str]) -> Iterator[str]:
    problems = {problem for problem, _, _ in scores.cells}
    versions = sorted({version for row in rows for version in row.versions.split()})
    yield f"`{shlex.join(command)}`"
    yield ""
    yield (
        f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores, {platform.machine()}, "
        f"Python {platform.python_version()}, {', '.join(versions)}."
    )
    yield ""
    yield (
        f"{rows[0].budget} evaluations each, {len(problems)} problems, "
        f"{len(scores.cells)} cells of a problem, a seed and a mode (`parallel` is 16 workers); "
        f"{scores.n_dropped} cells are left out, because somebody has not finished them."
    )
    yield ""
    yield (
        "Regret is the best loss found less the best there is, divided by the median of what random search left; "
        f"0 is the optimum, 1 is as good as random, and {MOST_REGRET:g} the most that counts. Ranks are among all rows "
        "of the table, 1 is the best. Smaller is better. In brackets: 95 % confidence (bootstrap over seeds within "
        "each problem). `alone` is the library without gridtune, `*4` has four times the budget. "
        "A run that crashed or hung has the most regret."
    )
    yield ""


def _overview(rows: Sequence[Row], scores: Scores, half: Scores) -> Iterator[str]:
    blocks = [block for block in _BLOCKS if _cells(rows, scores, *block)]
    yield "## Regret and rank"
    yield ""
    regrets = " | ".join(f"{block}, {mode}" for block, mode in blocks)
    ranks = " | ".join(f"rank {block}, {mode}" for block, mode in blocks)
    others = "regret at half budget | ms per point | repeats | failed"
    yield f"| algorithm | rank overall | regret overall | {regrets} | {ranks} | {others} |"
    yield "|---" * (7 + 2 * len(blocks)) + "|"
    everything = list(range(len(scores.cells)))
    for index in _order(scores):
        regret, rank = scores.regret[index], scores.rank[index]
        columns = [scores.interval(rank, everything), scores.interval(regret, everything)]
        columns += [scores.interval(regret, _cells(rows, scores, *block)) for block in blocks]
        numbers = [f"{fmean(rank[_cells(rows, scores, *block)].tolist()):.1f}" for block in blocks]
        own = [row for row in rows if row.label == scores.labels[index]]
        points = max(sum(row.n_points for row in own), 1)
        numbers += [
            f"{fmean(half.regret[half.labels.index(scores.labels[index])].tolist()):.2f}",
            f"{1000 * sum(row.seconds for row in own) / points:.1f}",
            f"{100 * sum(row.n_repeats for row in own) / points:.0f} %",
            f"{sum(row.has_failed for row in own)}",
        ]
        yield f"| {scores.labels[index]} | {' | '.join(map(str, [*columns, *numbers]))} |"
    yield ""


def _by_problem(rows: Sequence[Row], scores: Scores) -> Iterator[str]:
    blocks = {row.problem: row.block for row in rows}
    for mode in _MODES:
        problems = sorted({p for p, _, its in scores.cells if its == mode}, key=lambda p: (blocks[p] == REAL, p))
        if not problems:
            continue
        yield f"## Regret by problem, {mode}"
        yield ""
        yield f"| algorithm | {' | '.join(problems)} |"
        yield "|---" * (1 + len(problems)) + "|"
        for index in _order(scores):
            means = [fmean(scores.regret[index, scores.where([problem], [mode])].tolist()) for problem in problems]
            yield f"| {scores.labels[index]} | {' | '.join(f'{mean:.2f}' for mean in means)} |"
        yield ""


def _adapters(comparisons: Sequence[Comparison], modes: str) -> Iterator[str]:
    yield f"## By gridtune against alone, {modes}"
    yield ""
    yield "Our regret less the library's, cell by cell: below 0, gridtune is better; p by Wilcoxon's signed-rank test."
    yield ""
    yield "| algorithm | difference | better in | worse in | p | |"
    yield "|---|---|---|---|---|---|"
    for each in comparisons:
        yield f"| {each.algorithm} | {each.difference} | {each.n_won} | {each.n_lost} | {each.p:.3f} | {each.verdict} |"
    yield ""


def _order(scores: Scores) -> list[int]:
    """The contenders, best overall rank first."""
    return sorted(range(len(scores.labels)), key=lambda index: float(scores.rank[index].mean()))


def _cells(rows: Sequence[Row], scores: Scores, block: str, mode: str) -> list[int]:
    return scores.where({row.problem for row in rows if row.block == block}, [mode])


def _chart(rows: Sequence[Row], scores: Scores) -> str:
    """A panel for each block: a dot for the mean regret, a line for its confidence interval."""
    blocks = [block for block in _BLOCKS if _cells(rows, scores, *block)]
    width = _LEFT + len(blocks) * (_PANEL + _GAP)
    height = _TOP + _ROW * len(scores.labels) + 30
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
            'font-family="sans-serif" font-size="12">',
            f'<rect width="{width}" height="{height}" fill="white"/>',
            '<text x="8" y="20" font-size="14">Normalised regret: 0 is the optimum, 1 is random search</text>',
            *_names(scores),
            *(line for i, block in enumerate(blocks) for line in _panel(rows, scores, block, i)),
            "</svg>",
            "",
        ]
    )


def _names(scores: Scores) -> Iterator[str]:
    for place, index in enumerate(_order(scores)):
        yield f'<text x="{_LEFT - 12}" y="{_y(place) + 4}" text-anchor="end">{escape(scores.labels[index])}</text>'


def _panel(rows: Sequence[Row], scores: Scores, block: tuple[str, str], place: int) -> Iterator[str]:
    left, bottom = _LEFT + place * (_PANEL + _GAP), _y(len(scores.labels)) - 8
    cells = _cells(rows, scores, *block)
    intervals = [scores.interval(scores.regret[index], cells) for index in _order(scores)]
    most = max(1.2, *(each.high for each in intervals))
    yield f'<text x="{left}" y="{_TOP - 18}" font-weight="bold">{", ".join(block)}</text>'
    for tick in (0, 0.5, 1):
        x = left + _PANEL * tick / most
        yield f'<line x1="{x:.1f}" y1="{_TOP - 10}" x2="{x:.1f}" y2="{bottom}" stroke="#ddd"/>'
        yield f'<text x="{x:.1f}" y="{bottom + 16}" text-anchor="middle" fill="#555">{tick:g}</text>'
    for row, interval in enumerate(intervals):
        colour = "#888" if scores.labels[_order(scores)[row]].endswith(" alone") else "#1f5fa8"
        yield _bar(left, _PANEL / most, _y(row), interval, colour)


def _bar(left: int, pixels: float, y: int, interval: Interval, colour: str) -> str:
    low, mean, high = (left + pixels * number for number in (interval.low, interval.mean, interval.high))
    line = f'<line x1="{low:.1f}" y1="{y}" x2="{high:.1f}" y2="{y}" stroke="{colour}" stroke-width="2"/>'
    return f'{line}<circle cx="{mean:.1f}" cy="{y}" r="4" fill="{colour}"/>'


def _y(place: int) -> int:
    return _TOP + _ROW * place
