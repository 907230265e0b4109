"""What `gridtune.minimize` found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gridtune_common.errors import MissingExtra
from gridtune_common.protocol import Parameters, Point, PointState

if TYPE_CHECKING:
    from pandas import DataFrame


@dataclass(frozen=True)
class Result:
    """A finished task.

    Attributes:
        task: Its id.
        metric: The name of the objective.
        goal: ``minimize`` or ``maximize``.
        best: The best point; None if none is done.
        points: All points, by number.
    """

    task: str
    metric: str
    goal: str
    best: Point | None
    points: list[Point]

    @property
    def best_params(self) -> Parameters:
        """The parameters of the best point; empty if none is done."""
        return dict(self.best.parameters) if self.best is not None else {}

    @property
    def best_value(self) -> float | None:
        """The objective at the best point."""
        return self.best.value if self.best is not None else None

    def dataframe(self) -> DataFrame:
        """All points as a table: number, state, value, parameters, metrics, times.

        A metric that is called like a parameter gets ``metric_`` before its name.

        Raises:
            MissingExtra: pandas is not installed.
        """
        try:
            import pandas
        except ImportError as error:
            raise MissingExtra("pandas", "notebook") from error
        return pandas.DataFrame([_row(point) for point in self.points])

    def __repr__(self) -> str:
        n_done = sum(point.state is PointState.DONE for point in self.points)
        head = f"Result of task {self.task}: {n_done} of {len(self.points)} points done"
        if self.best is None or self.best.value is None:
            return head
        values = ", ".join(f"{name}={_short(value)}" for name, value in self.best.parameters.items())
        return f"{head}, best {self.metric} {self.best.value:.6g} at point {self.best.number}: {values}"


def _row(point: Point) -> dict[str, Any]:
    head = {"number": point.number, "state": point.state.value, "value": point.value}
    times = {"created_at": point.created_at, "started_at": point.started_at, "ended_at": point.ended_at}
    row: dict[str, Any] = {**head, **point.parameters}
    for name, value in point.metrics.items():
        row[f"metric_{name}" if name in row else name] = value
    return {**row, **times}


def _short(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else repr(value)
