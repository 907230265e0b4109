"""The user's own points with real processes: wishes and imports between kills, and a task that starts warm."""

from __future__ import annotations

from typing import Any

from gridtune_common.client import new_request_id
from gridtune_common.protocol import AddPoints, ImportResults, KnownResult, OwnPoint, PointOrigin, TaskState
from real_service import RealService, wait_for

PAYLOAD = """echo '{"loss": {x}}' > output.json"""


def task_document(command: str = PAYLOAD, **more: Any) -> dict[str, Any]:
    """A task of six points on a line."""
    return {
        "name": "line",
        "space": {"x": {"type": "float", "low": 0.0, "high": 1.0}},
        "objective": {"metric": "loss", "goal": "minimize"},
        "algorithm": {"name": "hyperopt/tpe", "seed": 1},
        "payload": {"command": command},
        "stop": {"points": 6},
        **more,
    }


def ended(service: RealService, task: str) -> bool:
    """Whether a task is finished."""
    with service.client() as client:
        return client.task(task).summary.state is TaskState.FINISHED


def test_a_wish_is_next_though_everything_is_killed(service: RealService) -> None:
    """While a point is evaluated the user adds one, the service is killed, and the wish comes next, once."""
    gate = service.folder / "go"
    slow = f"while test ! -e {gate}; do sleep 0.1; done; {PAYLOAD}"
    task = service.submit(task_document(slow))
    service.start_agent(task)
    with service.client() as client:
        wait_for("a running point", lambda: client.task(task).summary.counts.running)
        wish = AddPoints(new_request_id(), [OwnPoint({"x": 0.25})])
        results = ImportResults(new_request_id(), [KnownResult({"x": 0.5}, {"loss": 0.5})], "elsewhere")
        client.add_points(task, wish)
        client.import_results(task, results)
    service.kill()
    service.start()
    with service.client() as client:
        again = client.add_points(task, wish), client.import_results(task, results)
    gate.touch()

    wait_for("the end", lambda: ended(service, task))

    exported = service.export(task)
    assert (again[0].added, again[1].taken) == (1, 1)
    assert [point.parameters for point in exported.points if point.origin is PointOrigin.USER] == [{"x": 0.25}]
    assert exported.points[1].origin is PointOrigin.USER
    assert [(known.source, known.observed) for known in exported.known] == [("elsewhere", 0)]
    assert len(exported.points) == 6


def test_a_task_starts_warm_from_another_by_its_name(service: RealService) -> None:
    """The client looks the name up, and the service copies what was found."""
    first = service.submit(task_document())
    service.start_agent(first)
    wait_for("the end", lambda: ended(service, first))

    second = service.submit(task_document(name="again", warm_start="line"))

    exported = service.export(second)
    assert exported.task.document["warm_start"] == [first]
    assert len(exported.known) == 6
