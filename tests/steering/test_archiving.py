"""Ended tasks that leave the database: what stays of them, who can read it, and what no crash can break."""

from __future__ import annotations

import base64
import gzip
import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from gridtune_common import wire
from gridtune_common.client import new_request_id
from gridtune_common.protocol import (
    ChangeTask,
    CreateToken,
    Export,
    Scope,
    ShippedFile,
    SubmitTask,
    TaskAction,
    TaskState,
    Tell,
)
from gridtune_steering.bookkeeping import archives, events, objects
from gridtune_steering.bookkeeping.schema import metadata
from gridtune_steering.objectstore.port import StoreAway, StoreError
from gridtune_steering.services import archiving, collecting, records, storage, submission, tasks, tokens
from gridtune_steering.services import results as results_service
from gridtune_steering.services.access import Caller
from gridtune_steering.services.errors import Conflict, NotAllowed, NotFound, TaskArchived, Unusable
from gridtune_steering.testing import MemoryStore
from service_bench import OPERATOR, Bench, document

DAY = 86_400.0
pytestmark = pytest.mark.usefixtures("store")
ANN = Caller(user="ann", scope=Scope.USER, token="t1")
#: Tables in which an archived task leaves nothing.
EMPTIED = "tasks task_files points wishes known_results evaluations reports waiting askers snapshots outputs".split()


def finished(bench: Bench, *, caller: Caller = OPERATOR, points: int = 2, **more: Any) -> str:
    """A task that has come to its end, with a file, a failure and a result for each point."""
    file = ShippedFile("train.py", base64.b64encode(b"print()").decode(), executable=True)
    payload = {"command": "./train.py", "files": ["train.py"]}
    message = SubmitTask(new_request_id(), document(points=points, payload=payload, **more), files=[file])
    task = submission.submit(bench.steering, caller, message).summary.id
    bench.fail(bench.lease(task))
    for _ in range(points):
        bench.tell(bench.lease(task))
    bench.work()
    assert tasks.get(bench.steering, OPERATOR, task).summary.state is TaskState.FINISHED
    return task


def rows_of(bench: Bench, name: str) -> int:
    """How many rows a table has."""
    with bench.steering.database.read() as connection:
        return connection.execute(sa.select(sa.func.count()).select_from(metadata.tables[name])).scalar_one()


def kinds_of_events(bench: Bench, task: str) -> list[str]:
    """What the log in the database still says of a task."""
    with bench.steering.database.read() as connection:
        return [row.kind for row in events.page(connection, task, kind=None, after=0, limit=1000)]


def set_up(bench: Bench, **settings: Any) -> None:
    """Change the service's settings."""
    bench.steering = replace(bench.steering, settings=replace(bench.steering.settings, **settings))


def test_an_archived_task_keeps_its_export_and_its_place(bench: Bench, store: MemoryStore) -> None:
    """The same export as before, with its files; in the database there are three slim rows of it."""
    task = finished(bench)
    other = bench.submit()
    before = records.export(bench.steering, OPERATOR, task)
    listed = tasks.get(bench.steering, OPERATOR, task).summary

    summary = archiving.archive(bench.steering, OPERATOR, task)

    after = archiving.export(bench.steering, OPERATOR, task)
    assert (after.points, after.evaluations, after.events) == (before.points, before.evaluations, before.events)
    assert replace(after.task.summary, archived_at=None) == listed
    assert [(file.path, base64.b64decode(file.content), file.executable) for file in after.files] == [
        ("train.py", b"print()", True)
    ]
    [content] = store.objects.values()
    assert wire.decode(Export, json.loads(gzip.decompress(content))) == after
    assert {name: rows_of(bench, name) for name in EMPTIED} == dict.fromkeys(EMPTIED, 0) | {"tasks": 1}
    assert kinds_of_events(bench, task) == ["task.archived"]
    page = tasks.listing(bench.steering, OPERATOR, state=None, name=None, owner=None, after=None, limit=10)
    assert {item.id: item.archived_at is not None for item in page.items} == {task: True, other: False}
    assert summary in page.items


def test_listings_are_paged_across_both(bench: Bench) -> None:
    """Newest first, each once, whether archived or not; by name, owner and state as ever."""
    made = []
    for number in range(6):
        made.append(finished(bench, points=1, caller=ANN if number % 2 else OPERATOR))
        bench.clock.advance(1)
    for task in made[1:5:2] + made[:1]:
        archiving.archive(bench.steering, OPERATOR, task)

    found, after = [], None
    for _ in range(3):
        page = tasks.listing(bench.steering, OPERATOR, state=None, name="bench", owner=None, after=after, limit=2)
        found += [item.id for item in page.items]
        after = page.next
    anns = tasks.listing(
        bench.steering, ANN, state=TaskState.FINISHED, name=None, owner=None, after=None, limit=10
    ).items
    running = tasks.listing(
        bench.steering, OPERATOR, state=TaskState.RUNNING, name=None, owner=None, after=None, limit=10
    ).items

    assert (found, after) == (made[::-1], None)
    assert [item.id for item in anns] == made[5::-2]
    assert running == []


def test_nobody_else_reads_it(bench: Bench) -> None:
    """An archived task is its owner's, as before; others do not hear that it exists."""
    task = finished(bench, caller=ANN)
    archiving.archive(bench.steering, OPERATOR, task)
    bob = Caller(user="bob", scope=Scope.USER, token="t2")

    assert archiving.export(bench.steering, ANN, task).task.summary.owner == "ann"
    for call in (archiving.export, tasks.get):
        with pytest.raises(NotFound):
            call(bench.steering, bob, task)
    with pytest.raises(NotFound):
        tasks.delete(bench.steering, bob, task, new_request_id())
    with pytest.raises(NotAllowed):
        archiving.archive(bench.steering, ANN, task)


def test_everything_else_says_that_it_is_archived(bench: Bench) -> None:
    """And how to read it; agents that come late hear that the task is over."""
    task = finished(bench)
    archiving.archive(bench.steering, OPERATOR, task)
    change = ChangeTask(new_request_id(), TaskAction.EXTEND, 5)

    for call in (
        lambda: tasks.get(bench.steering, OPERATOR, task),
        lambda: records.point_detail(bench.steering, OPERATOR, task, 0),
        lambda: tasks.change(bench.steering, OPERATOR, task, change),
        lambda: bench.ask(task),
    ):
        with pytest.raises(TaskArchived, match=f"gridtune export {task}"):
            call()
    with pytest.raises(Unusable) as refused:
        bench.submit(warm_start=[task])
    assert "import its results" in refused.value.flaws[0].message


def test_only_ended_tasks_are_archived(bench: Bench, store: MemoryStore) -> None:
    """Nothing is written of one that runs or is paused, or of none."""
    task = bench.submit()

    with pytest.raises(Conflict, match="only ended tasks"):
        archiving.archive(bench.steering, OPERATOR, task)
    with pytest.raises(NotFound):
        archiving.archive(bench.steering, OPERATOR, "x2x2x2x2")

    assert store.objects == {}


def test_twice_is_once(bench: Bench, store: MemoryStore) -> None:
    """The same answer, and one object."""
    task = finished(bench)

    first, second = (archiving.archive(bench.steering, OPERATOR, task) for _ in range(2))

    assert first == second
    assert len(store.objects) == 1


def test_a_store_that_is_away_leaves_the_task_as_it_is(bench: Bench, store: MemoryStore) -> None:
    """The next try works."""
    task = finished(bench)
    store.is_away = True
    with pytest.raises(StoreAway):
        archiving.archive(bench.steering, OPERATOR, task)
    assert tasks.get(bench.steering, OPERATOR, task).summary.archived_at is None

    store.is_away = False

    assert archiving.archive(bench.steering, OPERATOR, task).archived_at is not None


def test_what_the_store_garbles_is_not_relied_on(
    bench: Bench, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is read again before the rows go; and one that is damaged later is not handed out."""
    task = finished(bench)
    with monkeypatch.context() as garbling:
        garbling.setattr(store, "read", lambda _key, _limit: b"something else")
        with pytest.raises(StoreError, match="does not give back"):
            archiving.archive(bench.steering, OPERATOR, task)
    assert len(records.export(bench.steering, OPERATOR, task).points) == 2
    archiving.archive(bench.steering, OPERATOR, task)
    with bench.steering.database.read() as connection:
        kept = archives.find(connection, task)
    assert kept is not None

    [key] = [key for key in store.objects if key.endswith(kept.object_id)]
    store.objects[key] = store.objects[key][:-1] + b"?"
    with pytest.raises(StoreError, match="damaged"):
        archiving.export(bench.steering, OPERATOR, task)
    del store.objects[key]
    with pytest.raises(StoreError, match="not in the store"):
        archiving.export(bench.steering, OPERATOR, task)


def test_a_death_between_object_and_rows_costs_nothing(
    bench: Bench, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The task is still there, a repetition works, and the forgotten object is found and deleted."""
    task = finished(bench)
    with monkeypatch.context() as dying:
        dying.setattr(archives, "insert", lambda *_a, **_k: (_ for _ in ()).throw(SystemExit))
        with pytest.raises(SystemExit):
            archiving.archive(bench.steering, OPERATOR, task)
    [stray] = store.objects
    assert len(records.export(bench.steering, OPERATOR, task).points) == 2

    archiving.archive(bench.steering, OPERATOR, task)
    bench.clock.advance(2 * DAY)
    collecting.collect(bench.steering)

    assert collecting.search(bench.steering) == 1
    assert stray not in store.objects
    assert len(archiving.export(bench.steering, OPERATOR, task).points) == 2


def test_a_change_meanwhile_is_not_lost(bench: Bench, store: MemoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A task that is extended while its export is on its way stays where it is, and goes on."""
    task = finished(bench)
    write = store.write

    def write_slowly(key: str, content: bytes) -> None:
        write(key, content)
        tasks.change(bench.steering, OPERATOR, task, ChangeTask("r1", TaskAction.EXTEND, 1))

    monkeypatch.setattr(store, "write", write_slowly)
    with pytest.raises(Conflict):
        archiving.archive(bench.steering, OPERATOR, task)

    assert tasks.get(bench.steering, OPERATOR, task).summary.state is TaskState.RUNNING
    assert store.objects == {}
    bench.tell(bench.lease(task))


def test_a_line_in_the_log_that_comes_meanwhile_is_not_lost(
    bench: Bench, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is noted in the log of an ended task, such as a token, is not left out of its archive."""
    task = finished(bench)
    write = store.write

    def write_slowly(key: str, content: bytes) -> None:
        write(key, content)
        tokens.create(bench.steering, OPERATOR, CreateToken(new_request_id(), Scope.TASK, task=task))

    with monkeypatch.context() as slow:
        slow.setattr(store, "write", write_slowly)
        with pytest.raises(Conflict, match="changed while it was archived"):
            archiving.archive(bench.steering, OPERATOR, task)

    archiving.archive(bench.steering, OPERATOR, task)
    assert archiving.export(bench.steering, OPERATOR, task).events[-1].kind == "token.created"


def test_collecting_spares_archives_and_takes_the_rest(bench: Bench, store: MemoryStore) -> None:
    """For years; the stored logs of its trainings go after their time of grace."""
    task = finished(bench)
    evaluation = records.export(bench.steering, OPERATOR, task).evaluations[0]
    store.write("tasks/log", b"log")
    with bench.steering.database.write() as connection:
        now = bench.clock()
        values: dict[str, Any] = {"size": 3, "sha256": "0" * 64, "part_size": 3, "interrupted": False, "upload": ""}
        names = {"id": "o1", "kind": "log", "format": "gz", "task_id": task, "owner": "operator", "doom": ""}
        place = {"point": 0, "evaluation_id": evaluation.id, "key": "tasks/log"}
        objects.insert(connection, **values, **names, **place, created_at=now, committed_at=now)
    archiving.archive(bench.steering, OPERATOR, task)

    for _ in range(3):
        bench.clock.advance(365 * DAY)
        collecting.collect(bench.steering)
        collecting.search(bench.steering)

    [key] = store.objects
    assert key.startswith(f"tasks/{task}/archive/")
    assert len(archiving.export(bench.steering, OPERATOR, task).points) == 2
    [use] = storage.use(bench.steering, OPERATOR).items
    assert (use.task, use.name, use.doomed_bytes) == (task, "bench", 0)


def test_a_deleted_archive_is_collected(bench: Bench, store: MemoryStore) -> None:
    """Its owner deletes it like any other task; its line in the log stays."""
    task = finished(bench, caller=ANN)
    archiving.archive(bench.steering, OPERATOR, task)

    tasks.delete(bench.steering, ANN, task, new_request_id())
    collecting.collect(bench.steering)
    bench.clock.advance(2 * DAY)
    collecting.collect(bench.steering)

    assert store.objects == {}
    with pytest.raises(NotFound):
        archiving.export(bench.steering, ANN, task)
    assert kinds_of_events(bench, task) == ["task.archived", "task.deleted"]
    assert rows_of(bench, "archives") == 0


def test_archives_count_for_no_quota(bench: Bench, store: MemoryStore) -> None:
    """Their owner did not ask for them."""
    set_up(bench, storage_user_quota=10)
    task = finished(bench)
    archiving.archive(bench.steering, OPERATOR, task)

    assert sum(map(len, store.objects.values())) > 10
    with bench.steering.database.read() as connection:
        assert objects.total_size(connection, owner="operator") == 0


def test_the_service_archives_by_itself(bench: Bench) -> None:
    """What has ended long enough ago, and nothing else; only if it is told to."""
    old = finished(bench)
    bench.clock.advance(10 * DAY)
    young = finished(bench)
    running = bench.submit()
    assert archiving.do_duty(bench.steering, "h1") == 0
    set_up(bench, archive_after_seconds=5 * DAY)

    done = [archiving.do_duty(bench.steering, host) for host in ("h1", "h2")]

    assert done == [1, 0]
    page = tasks.listing(bench.steering, OPERATOR, state=None, name=None, owner=None, after=None, limit=10)
    assert {item.id for item in page.items if item.archived_at} == {old}
    assert {item.id for item in page.items} == {old, young, running}


def test_many_old_tasks_go_bit_by_bit(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A round has its limit, and the next one goes on, oldest first."""
    made = [finished(bench, points=1) for _ in range(5)]
    monkeypatch.setattr(archiving, "_BATCH", 2)
    set_up(bench, archive_after_seconds=DAY)
    bench.clock.advance(2 * DAY)

    done = []
    for _ in range(4):
        done.append(archiving.do_duty(bench.steering, "h1"))
        bench.clock.advance(61)

    assert done == [2, 2, 1, 0]
    assert all(archiving.export(bench.steering, OPERATOR, task).points for task in made)


def test_the_log_of_deleted_tasks_is_bounded_if_wanted(bench: Bench) -> None:
    """By default it stays; with a memory its last word stays, and what live tasks have is never touched."""
    gone, alive = finished(bench), finished(bench)
    tasks.delete(bench.steering, OPERATOR, gone, new_request_id())
    n_alive = len(kinds_of_events(bench, alive))
    bench.clock.advance(400 * DAY)
    archiving.forget(bench.steering)
    assert len(kinds_of_events(bench, gone)) > 5

    set_up(bench, event_memory_seconds=365 * DAY)
    archiving.forget(bench.steering)

    assert kinds_of_events(bench, gone) == ["task.deleted"]
    assert len(kinds_of_events(bench, alive)) == n_alive


def test_tokens_that_open_nothing_are_forgotten(bench: Bench) -> None:
    """Long after they ended, or if their task is gone; those that open something stay for ever."""
    kept, gone = finished(bench), finished(bench)
    short = tokens.create(
        bench.steering, OPERATOR, CreateToken(new_request_id(), Scope.USER, user="ann", lifetime_seconds=60)
    ).token
    revoked = tokens.create(bench.steering, OPERATOR, CreateToken(new_request_id(), Scope.USER, user="ann")).token
    tokens.revoke(bench.steering, OPERATOR, revoked.id)
    lasting = tokens.create(bench.steering, OPERATOR, CreateToken(new_request_id(), Scope.USER, user="ann")).token
    of_tasks = [
        tokens.create(bench.steering, OPERATOR, CreateToken(new_request_id(), Scope.TASK, task=task)).token
        for task in (kept, gone)
    ]
    tasks.delete(bench.steering, OPERATOR, gone, new_request_id())

    def known() -> set[str]:
        archiving.forget(bench.steering)
        return {token.id for token in tokens.listing(bench.steering, OPERATOR).items}

    bench.clock.advance(80 * DAY)
    assert known() == {short.id, revoked.id, lasting.id, *(token.id for token in of_tasks)}
    bench.clock.advance(20 * DAY)
    assert known() == {lasting.id, of_tasks[0].id}


def test_a_result_that_comes_too_late_finds_nothing(bench: Bench) -> None:
    """A tell that comes after the switch finds no evaluation, which agents take for what it is."""
    task = bench.submit(points=2)
    late = bench.lease(task, "late")
    tasks.change(bench.steering, OPERATOR, task, ChangeTask(new_request_id(), TaskAction.CANCEL))
    archiving.archive(bench.steering, OPERATOR, task)

    with pytest.raises(NotFound):
        results_service.tell(
            bench.steering, OPERATOR, late.evaluation, Tell(new_request_id(), late.epoch, {"loss": 1.0})
        )


def test_times_are_told(bench: Bench) -> None:
    """When it was archived is in the listing, in the export, and in what other routes say."""
    task = finished(bench)
    bench.clock.advance(timedelta(days=3).total_seconds())

    at = archiving.archive(bench.steering, OPERATOR, task).archived_at

    assert at is not None
    assert at.startswith("2030-01-04")
    assert archiving.export(bench.steering, OPERATOR, task).task.summary.archived_at == at
    with pytest.raises(TaskArchived, match=at):
        tasks.get(bench.steering, OPERATOR, task)
