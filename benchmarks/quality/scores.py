"""From results to scores: normalised regret, ranks, and how sure one can be of both.

A *cell* is one problem, seed and mode: what all contenders were given alike. Only cells that every contender has
finished count. Confidence intervals are of the mean over these problems: seeds are drawn anew within each problem,
problems are not.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np
from numpy.typing import NDArray

from .runs import Row

#: Regret is cut there: a failure on one problem must not outweigh all successes.
MOST_REGRET = 2.0
_N_RESAMPLES = 2000

Cell = tuple[str, int, str]  #: Problem, seed and mode.
Numbers = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean with its 95 % confidence interval."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:.2f} [{self.low:.2f}, {self.high:.2f}]"


@dataclass(frozen=True, slots=True)
class Scores:
    """Every contender's score in every cell.

    Attributes:
        labels: The contenders.
        cells: The cells that all of them have finished.
        regret: Normalised regret, shape ``(n_labels, n_cells)``: 0 is the optimum, 1 the median of random search.
        rank: Rank among the contenders from 1, ties shared, of the same shape.
        n_dropped: How many cells were left out, because somebody has not finished them.
    """

    labels: Sequence[str]
    cells: Sequence[Cell]
    regret: Numbers
    rank: Numbers
    n_dropped: int = 0

    def interval(self, scores: Numbers, cells: Sequence[int]) -> Interval:
        """The mean of one contender's scores over some cells."""
        return bootstrap([scores[i] for i in cells], [self.cells[i][0] for i in cells])

    def where(self, problems: Iterable[str], modes: Iterable[str]) -> list[int]:
        """The cells of these problems and modes."""
        wanted = set(problems), set(modes)
        return [i for i, (problem, _, mode) in enumerate(self.cells) if problem in wanted[0] and mode in wanted[1]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """An algorithm by us against its library alone.

    Attributes:
        difference: Our normalised regret less the library's; below 0 we are better.
        n_won: In how many cells we were better.
        n_lost: In how many worse.
        p: Of Wilcoxon's signed-rank test, two-sided; 1 if nothing differs.
    """

    algorithm: str
    difference: Interval
    n_won: int
    n_lost: int
    p: float

    @property
    def verdict(self) -> str:
        """What it amounts to, at a level of 5 % and without correction for many comparisons."""
        if self.p >= 0.05:
            return "no significant difference"
        return "gain" if self.difference.mean < 0 else "loss"


def score(rows: Sequence[Row], optima: Mapping[str, float], *, half: bool = False) -> Scores:
    """Score all contenders that are in the rows, at the end or at half of the budget.

    Args:
        rows: Random search must be among them, at the budget of all.
        optima: The best losses known, for problems that do not know themselves.
        half: At half of the budget instead.
    """
    best = {(row.label, cell_of(row)): row.half if half else row.best for row in rows}
    optimum = {cell_of(row): optima[row.problem] if row.optimum is None else row.optimum for row in rows}
    labels = sorted({row.label for row in rows})
    complete = [cell for cell in sorted(optimum) if all((label, cell) in best for label in labels)]
    gap = {cell: best["random", cell] - optimum[cell] for cell in complete}
    scale = {(problem, mode): _median_gap(gap, problem, mode) for problem, _, mode in complete}
    regret = [
        [normalise(best[label, cell] - optimum[cell], scale[cell[0], cell[2]]) for cell in complete] for label in labels
    ]
    losses = np.array([[best[label, cell] for cell in complete] for label in labels])
    return Scores(labels, complete, np.array(regret), ranks(losses), len(optimum) - len(complete))


def cell_of(row: Row) -> Cell:
    """The cell that a row belongs to."""
    return row.problem, row.seed, row.mode


def normalise(regret: float, scale: float) -> float:
    """Regret in units of random search's, between 0 and the most.

    >>> normalise(3.0, 6.0), normalise(-1e-9, 6.0), normalise(50.0, 6.0), normalise(0.0, 0.0)
    (0.5, 0.0, 2.0, 0.0)
    """
    if regret <= 0:
        return 0.0
    return min(regret / scale, MOST_REGRET) if scale > 0 else MOST_REGRET


def ranks(losses: Numbers) -> Numbers:
    """Ranks from 1 in every column, ties shared."""
    lower = (losses[None, :, :] < losses[:, None, :]).sum(axis=1)
    equal = (losses[None, :, :] == losses[:, None, :]).sum(axis=1)
    return np.asarray(lower + (equal + 1) / 2, dtype=float)


def bootstrap(values: Sequence[float], groups: Sequence[str]) -> Interval:
    """The mean of values, each group drawn anew from itself."""
    rng = np.random.default_rng(0)
    sums = np.zeros(_N_RESAMPLES)
    for group in sorted(set(groups)):
        own = np.array([value for value, its in zip(values, groups, strict=True) if its == group])
        sums += rng.choice(own, (_N_RESAMPLES, len(own))).sum(axis=1)
    low, high = np.percentile(sums / len(values), [2.5, 97.5])
    return Interval(float(np.mean(values)), float(low), float(high))


def compare(scores: Scores, modes: Iterable[str]) -> list[Comparison]:
    """Each algorithm that is there both ways, by us against alone."""
    cells = scores.where({problem for problem, _, _ in scores.cells}, modes)
    comparisons = []
    for label in scores.labels:
        if f"{label} alone" in scores.labels and cells:
            ours, alone = (scores.regret[scores.labels.index(each), cells] for each in (label, f"{label} alone"))
            comparisons.append(_comparison(label, ours - alone, [scores.cells[i][0] for i in cells]))
    return comparisons


def _comparison(label: str, differences: Numbers, groups: Sequence[str]) -> Comparison:
    return Comparison(
        algorithm=label,
        difference=bootstrap(differences.tolist(), groups),
        n_won=int((differences < 0).sum()),
        n_lost=int((differences > 0).sum()),
        p=_signed_rank(differences),
    )


def _signed_rank(differences: Numbers) -> float:
    from scipy.stats import wilcoxon

    return float(wilcoxon(differences).pvalue) if differences.any() else 1.0


def _median_gap(gap: Mapping[Cell, float], problem: str, mode: str) -> float:
    return median(value for (its, _, its_mode), value in gap.items() if (its, its_mode) == (problem, mode))
