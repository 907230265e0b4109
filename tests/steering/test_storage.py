"""Checkpoints and logs: begun, committed, handed on, given up, collected."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

import pytest

from gridtune_common.client import new_request_id
from gridtune_common.protocol import (
    BeginUpload,
    CheckpointBase,
    CommitUpload,
    EvaluationState,
    Lease,
    ObjectKind,
    Outcome,
    PointState,
    ReportDamage,
    Scope,
    StoredObject,
)
from gridtune_steering.bookkeeping import objects as bookkeeping
from gridtune_steering.objectstore.port import StoreAway
from gridtune_steering.services import collecting, records, storage, tasks
from gridtune_steering.services.access import Caller
from gridtune_steering.services.errors import Conflict, NotFound, QuotaExceeded, RequestIdReused, Unusable
from gridtune_steering.testing import MemoryStore
from service_bench import OPERATOR, Bench

pytestmark = pytest.mark.usefixtures("store")
CONTENT = b"weights"


def begin(content: bytes = CONTENT, **more: Any) -> BeginUpload:
    """The message that begins the upload of a checkpoint at epoch 1."""
    values: dict[str, Any] = {"epoch": 1, "kind": ObjectKind.CHECKPOINT, "format": "tar", **more}
    return BeginUpload(new_request_id(), size=len(content), sha256=hashlib.sha256(content).hexdigest(), **values)


def store_of(bench: Bench) -> MemoryStore:
    """The store in memory."""
    assert isinstance(bench.steering.store, MemoryStore)
    return bench.steering.store


def commit(bench: Bench, lease: Lease, object_: str, **more: Any) -> Outcome:
    """Commit an upload."""
    message = CommitUpload(new_request_id(), more.pop("epoch", lease.epoch))
    return storage.commit(bench.steering, OPERATOR, lease.evaluation, object_, message)


def save(bench: Bench, lease: Lease, step: int | None = None, content: bytes = CONTENT, **more: Any) -> str:
    """Upload and commit a checkpoint; returns its id."""
    message = begin(content, epoch=lease.epoch, step=step, **more)
    upload = storage.begin(bench.steering, OPERATOR, lease.evaluation, message)
    store_of(bench).put(upload.urls[0], content)
    assert commit(bench, lease, upload.id).accepted
    return upload.id


def save_delta(bench: Bench, lease: Lease, base: str, step: int | None = None) -> str:
    """Upload and commit a checkpoint that leans on another one; returns its id."""
    return save(bench, lease, step, format="delta.tar", base=base)


def wanted(bench: Bench, task: str) -> list[str]:
    """The objects of a point that are not doomed, oldest first."""
    return [id_ for id_, stored in objects(bench, task).items() if stored.doomed_at is None]


def objects(bench: Bench, task: str, point: int = 0) -> dict[str, StoredObject]:
    """What is known of a point's objects."""
    detail = records.point_detail(bench.steering, OPERATOR, task, point)
    return {stored.id: stored for stored in detail.objects}


def lose(bench: Bench) -> None:
    """Let all leases expire, with the service awake, and let the host notice."""
    for _ in range(25):
        bench.clock.advance(3.0)
        bench.work()


def test_the_next_evaluation_goes_on_from_the_newest_committed_checkpoint(bench: Bench) -> None:
    """Newest first, with what is needed to check it; and the bookkeeping says what was resumed from."""
    task = bench.submit()
    first = bench.lease(task)
    old, new = save(bench, first, 3), save(bench, first, 5, b"more weights")
    bench.release(first)

    second = bench.lease(task, "w2")

    assert [(c.id, c.step) for c in second.checkpoints] == [(new, 5), (old, 3)]
    assert second.checkpoints[0].sha256 == hashlib.sha256(b"more weights").hexdigest()
    address = storage.download(bench.steering, OPERATOR, second.evaluation, new)
    assert store_of(bench).get(address.url) == b"more weights"
    detail = records.point_detail(bench.steering, OPERATOR, task, 0)
    assert [e.resumed_from for e in detail.evaluations] == [None, new]


def test_what_is_not_committed_is_not_handed_out(bench: Bench) -> None:
    """An upload without its commit is nothing."""
    task = bench.submit()
    first = bench.lease(task)
    upload = storage.begin(bench.steering, OPERATOR, first.evaluation, begin())
    store_of(bench).put(upload.urls[0], CONTENT)
    bench.release(first)

    assert bench.lease(task, "w2").checkpoints == []


def test_a_commit_without_all_parts_is_refused_and_can_be_repeated(bench: Bench) -> None:
    """What is missing can be sent afterwards."""
    task = bench.submit()
    lease = bench.lease(task)
    upload = storage.begin(bench.steering, OPERATOR, lease.evaluation, begin())

    with pytest.raises(Conflict, match="not complete"):
        commit(bench, lease, upload.id)
    store_of(bench).put(upload.urls[0], CONTENT)

    assert commit(bench, lease, upload.id).accepted


def test_large_objects_have_several_parts(bench: Bench) -> None:
    """Each but the last of the same size, which is told."""
    task = bench.submit()
    lease = bench.lease(task)
    size = 3 * 2**30 + 1
    message = replace(begin(), size=size)

    upload = storage.begin(bench.steering, OPERATOR, lease.evaluation, message)

    assert (len(upload.urls) - 1) * upload.part_size < size <= len(upload.urls) * upload.part_size
    assert len(upload.urls) <= 1000


def test_the_same_begin_again_is_the_same_upload(bench: Bench) -> None:
    """And leaves no second one in the store."""
    task = bench.submit()
    lease = bench.lease(task)
    message = begin()

    first = storage.begin(bench.steering, OPERATOR, lease.evaluation, message)
    again = storage.begin(bench.steering, OPERATOR, lease.evaluation, message)

    assert (again.id, again.urls) == (first.id, first.urls)
    assert len(store_of(bench).uploads) == 1
    with pytest.raises(RequestIdReused):
        storage.begin(bench.steering, OPERATOR, lease.evaluation, replace(message, size=1))


def test_a_worker_that_lost_its_point_cannot_commit(bench: Bench) -> None:
    """What it uploads is refused and doomed; the newer worker's checkpoint stays the newest."""
    task = bench.submit()
    first = bench.lease(task, "w1")
    late = storage.begin(bench.steering, OPERATOR, first.evaluation, begin(step=9))
    store_of(bench).put(late.urls[0], CONTENT)
    lose(bench)
    second = bench.lease(task, "w2")
    newer = save(bench, second, 2)

    outcome = commit(bench, first, late.id)

    assert not outcome.accepted
    assert "lost" in outcome.reason
    assert objects(bench, task)[late.id].doomed_at is not None
    bench.release(second)
    assert [c.id for c in bench.lease(task, "w3").checkpoints] == [newer]
    with pytest.raises(Conflict):
        storage.begin(bench.steering, OPERATOR, second.evaluation, begin(epoch=second.epoch))


def test_a_silent_worker_comes_back_with_its_commit(bench: Bench) -> None:
    """A commit is a sign of life, as good as a heartbeat, while nobody took the point."""
    task = bench.submit()
    lease = bench.lease(task)
    upload = storage.begin(bench.steering, OPERATOR, lease.evaluation, begin())
    store_of(bench).put(upload.urls[0], CONTENT)
    lose(bench)

    assert commit(bench, lease, upload.id).accepted

    detail = records.point_detail(bench.steering, OPERATOR, task, 0)
    assert detail.evaluations[0].state is EvaluationState.RUNNING


def test_only_the_last_few_are_kept(bench: Bench) -> None:
    """As many as the task says; older ones go after a time of grace, in which a running download can end."""
    rule = {"paths": ["model"], "keep": 3}
    task = bench.submit(payload={"command": "true", "checkpoint": rule})
    lease = bench.lease(task)
    ids = [save(bench, lease, step) for step in range(5)]

    found = objects(bench, task)

    assert [found[id_].doomed_at is not None for id_ in ids] == [True, True, False, False, False]
    collecting.collect(bench.steering)
    assert len(store_of(bench).objects) == 5
    bench.clock.advance(bench.steering.settings.storage_grace_seconds + 1)
    collecting.collect(bench.steering)
    assert sorted(objects(bench, task)) == sorted(ids[2:])
    assert len(store_of(bench).objects) == 3


def test_a_checkpoint_after_which_the_training_failed_is_mistrusted(bench: Bench) -> None:
    """The next attempt goes on from the one before, and at last begins anew."""
    task = bench.submit()
    first = bench.lease(task)
    old, new = save(bench, first, 1), save(bench, first, 2)
    bench.release(first)
    bench.fail(bench.lease(task, "w2"))

    third = bench.lease(task, "w3")
    assert [c.id for c in third.checkpoints] == [old]
    bench.fail(third)

    assert objects(bench, task)[new].doom == "the evaluation that went on from it failed"
    assert bench.lease(task, "w4").checkpoints == []


def test_a_failure_after_a_newer_checkpoint_blames_nothing(bench: Bench) -> None:
    """It had worked well enough to get further."""
    task = bench.submit()
    first = bench.lease(task)
    old = save(bench, first, 1)
    bench.release(first)
    second = bench.lease(task, "w2")
    new = save(bench, second, 2)
    bench.fail(second)

    assert [c.id for c in bench.lease(task, "w3").checkpoints] == [new, old]


def test_a_damaged_checkpoint_is_not_handed_out_again(bench: Bench) -> None:
    """Who could not restore it says so, and the log shows it."""
    task = bench.submit()
    first = bench.lease(task)
    old, new = save(bench, first, 1), save(bench, first, 2)
    bench.release(first)
    second = bench.lease(task, "w2")
    message = ReportDamage(new_request_id(), second.epoch, "SHA-256 differs")

    storage.report_damage(bench.steering, OPERATOR, second.evaluation, new, message)
    bench.release(second)

    assert [c.id for c in bench.lease(task, "w3").checkpoints] == [old]
    kinds = [e.kind for e in records.export(bench.steering, OPERATOR, task).events]
    assert kinds.count("checkpoint.damaged") == 1


def test_logs_may_come_after_the_end(bench: Bench) -> None:
    """The result does not wait for them."""
    task = bench.submit()
    lease = bench.lease(task)
    bench.tell(lease)

    log = save(bench, lease, kind=ObjectKind.LOG, format="gz")

    address = storage.fetch(bench.steering, OPERATOR, task, log)
    assert store_of(bench).get(address.url) == CONTENT


def test_checkpoints_of_finished_points_go_and_logs_stay(bench: Bench) -> None:
    """After the time that the settings give them."""
    task = bench.submit()
    lease = bench.lease(task)
    save(bench, lease, 1)
    log = save(bench, lease, kind=ObjectKind.LOG, format="gz")
    bench.tell(lease)
    collecting.collect(bench.steering)
    assert len(objects(bench, task)) == 2

    bench.clock.advance(bench.steering.settings.storage_keep_seconds + 1)
    collecting.collect(bench.steering)

    assert list(objects(bench, task)) == [log]


def test_nothing_is_left_of_a_deleted_task(bench: Bench) -> None:
    """Its objects are collected after the time of grace."""
    task = bench.submit(points=1)
    lease = bench.lease(task)
    save(bench, lease, 1)
    save(bench, lease, kind=ObjectKind.LOG, format="gz")
    bench.tell(lease)
    bench.work()
    tasks.delete(bench.steering, OPERATOR, task, new_request_id())
    collecting.collect(bench.steering)
    assert len(store_of(bench).objects) == 2

    bench.clock.advance(bench.steering.settings.storage_grace_seconds + 1)
    collecting.collect(bench.steering)

    assert store_of(bench).objects == {}
    assert storage.use(bench.steering, OPERATOR).items == []


def test_uploads_that_were_given_up_are_collected(bench: Bench) -> None:
    """But not while their evaluation runs."""
    task = bench.submit()
    lease = bench.lease(task)
    storage.begin(bench.steering, OPERATOR, lease.evaluation, begin())
    bench.clock.advance(bench.steering.settings.storage_abandon_seconds + 1)
    collecting.collect(bench.steering)
    assert len(store_of(bench).uploads) == 1
    bench.release(lease)

    collecting.collect(bench.steering)

    assert store_of(bench).uploads == {}
    assert objects(bench, task) == {}


def test_what_the_bookkeeping_does_not_know_is_deleted(bench: Bench) -> None:
    """Strays of killed processes go when they are old; what belongs to a task of another service stays."""
    task = bench.submit()
    lease = bench.lease(task)
    known = save(bench, lease)
    store = store_of(bench)
    store.write(f"tasks/{task}/0/e/stray", b"?")
    store.begin(f"tasks/{task}/0/e/begun", 1, 1)
    store.write("tasks/another/0/e/theirs", b"!")
    assert collecting.search(bench.steering) == 0

    bench.clock.advance(bench.steering.settings.storage_abandon_seconds + 1)

    assert collecting.search(bench.steering) == 2
    assert sorted(key.rpartition("/")[2] for key in store.objects) == sorted([known, "theirs"])


def test_the_duty_is_done_now_and_then_by_one_host(bench: Bench) -> None:
    """Not by all of them, and not all the time."""
    assert collecting.do_duty(bench.steering, "h1") is not None
    assert collecting.do_duty(bench.steering, "h1") is None
    bench.clock.advance(120)
    assert collecting.do_duty(bench.steering, "h1") is not None
    assert collecting.do_duty(bench.steering, "h2") is None


def test_a_store_that_is_away_stops_nothing_else(bench: Bench) -> None:
    """Uploads wait, points go on."""
    task = bench.submit()
    lease = bench.lease(task)
    store_of(bench).is_away = True

    with pytest.raises(StoreAway):
        storage.begin(bench.steering, OPERATOR, lease.evaluation, begin())

    assert bench.tell(lease).accepted


@pytest.mark.parametrize("quota", ["storage_task_quota", "storage_user_quota"])
def test_quotas_are_kept(bench: Bench, quota: str) -> None:
    """What does not fit is refused before it is sent, with the numbers."""
    steering = replace(bench.steering, settings=replace(bench.steering.settings, **{quota: 10}))  # type: ignore[arg-type]
    task = bench.submit()
    lease = bench.lease(task)
    save(bench, lease)

    with pytest.raises(QuotaExceeded, match=r"7 B of 10 B are used"):
        storage.begin(steering, OPERATOR, lease.evaluation, begin())

    assert len(store_of(bench).uploads) == 0


@pytest.mark.parametrize(
    ("flaw", "path"),
    [({"size": -1}, "size"), ({"sha256": "ABC"}, "sha256"), ({"format": "zip"}, "format")],
)
def test_senseless_uploads_are_refused(bench: Bench, flaw: dict[str, Any], path: str) -> None:
    """With the field that is wrong."""
    task = bench.submit()
    lease = bench.lease(task)

    with pytest.raises(Unusable) as refusal:
        storage.begin(bench.steering, OPERATOR, lease.evaluation, replace(begin(), **flaw))

    assert [found.path for found in refusal.value.flaws] == [path]


def test_other_people_and_other_points_are_out_of_reach(bench: Bench) -> None:
    """A stranger finds nothing; an evaluation finds its own point's checkpoints only."""
    stranger = Caller(user="eve", scope=Scope.USER, token="t9")
    task = bench.submit()
    lease, other = bench.lease(task, "w1"), bench.lease(task, "w2")
    saved = save(bench, lease)

    with pytest.raises(NotFound):
        storage.begin(bench.steering, stranger, lease.evaluation, begin())
    with pytest.raises(NotFound):
        storage.fetch(bench.steering, stranger, task, saved)
    with pytest.raises(NotFound):
        storage.download(bench.steering, OPERATOR, other.evaluation, saved)
    with pytest.raises(NotFound):
        commit(bench, other, saved)
    assert storage.use(bench.steering, stranger).items == []


def test_what_is_stored_is_told(bench: Bench) -> None:
    """Committed, pending and doomed bytes by task."""
    task = bench.submit()
    lease = bench.lease(task)
    for step in range(3):
        save(bench, lease, step)
    storage.begin(bench.steering, OPERATOR, lease.evaluation, begin())

    [item] = storage.use(bench.steering, OPERATOR).items

    assert (item.task, item.name, item.n_objects) == (task, "bench", 4)
    assert (item.committed_bytes, item.pending_bytes, item.doomed_bytes) == (21, 7, 7)


def test_an_upload_that_was_given_up_does_not_use_the_quota_up(bench: Bench) -> None:
    """An evaluation sends one checkpoint after the other: the next one takes the place of one that did not arrive."""
    steering = replace(bench.steering, settings=replace(bench.steering.settings, storage_task_quota=10))
    task = bench.submit()
    lease = bench.lease(task)

    for _ in range(3):
        upload = storage.begin(steering, OPERATOR, lease.evaluation, begin())

    store_of(bench).put(upload.urls[0], CONTENT)
    assert commit(bench, lease, upload.id).accepted


def test_a_training_that_gets_on_may_lose_any_number_of_workers(bench: Bench) -> None:
    """Those count that were lost since the last checkpoint."""
    task = bench.submit(retry={"lost": 2})
    for step in range(5):
        save(bench, bench.lease(task, f"w{step}"), step)
        lose(bench)
    assert records.point_detail(bench.steering, OPERATOR, task, 0).point.state is PointState.READY

    bench.lease(task, "last")
    lose(bench)

    assert records.point_detail(bench.steering, OPERATOR, task, 0).point.state is PointState.FAILED


# --- checkpoints that lean on another one


def test_a_delta_is_handed_out_with_its_base(bench: Bench) -> None:
    """With all that is needed to fetch and to check both; the base is also good for itself."""
    task = bench.submit()
    first = bench.lease(task)
    base = save(bench, first, 1, b"all of it")
    delta = save_delta(bench, first, base, 2)
    bench.release(first)

    second = bench.lease(task, "w2", takes_deltas=True)

    newest, older = second.checkpoints
    checksum = hashlib.sha256(b"all of it").hexdigest()
    assert (newest.id, newest.format, newest.step) == (delta, "delta.tar", 2)
    assert newest.base == CheckpointBase(base, 9, checksum, "tar")
    assert (older.id, older.base) == (base, None)
    assert store_of(bench).get(storage.download(bench.steering, OPERATOR, second.evaluation, base).url) == b"all of it"
    assert objects(bench, task)[delta].base == base


def test_who_knows_no_deltas_gets_whole_checkpoints(bench: Bench) -> None:
    """An agent of an older version would restore a part and think that it is all."""
    task = bench.submit()
    first = bench.lease(task)
    base = save(bench, first, 1)
    for step in range(2, 6):
        save_delta(bench, first, base, step)
    bench.release(first)

    second = bench.lease(task, "w2")

    assert [(c.id, c.step, c.base) for c in second.checkpoints] == [(base, 1, None)]


def test_a_base_is_kept_while_one_of_the_newest_leans_on_it(bench: Bench) -> None:
    """And goes with the last of these."""
    task = bench.submit(payload={"command": "true", "checkpoint": {"paths": ["model"], "keep": 2}})
    lease = bench.lease(task)
    base = save(bench, lease, 0)
    deltas = [save_delta(bench, lease, base, step) for step in range(1, 5)]
    assert wanted(bench, task) == [base, *deltas[-2:]]

    next_base = save(bench, lease, 5)
    assert wanted(bench, task) == [base, deltas[-1], next_base]
    newest = save_delta(bench, lease, next_base, 6)

    assert wanted(bench, task) == [next_base, newest]
    bench.clock.advance(bench.steering.settings.storage_grace_seconds + 1)
    collecting.collect(bench.steering)
    assert sorted(objects(bench, task)) == sorted([next_base, newest])
    assert len(store_of(bench).objects) == 2


def test_one_checkpoint_and_its_base_are_kept_at_least(bench: Bench) -> None:
    """`keep: 1` means one to go on from."""
    task = bench.submit(payload={"command": "true", "checkpoint": {"paths": ["model"], "keep": 1}})
    lease = bench.lease(task)
    base = save(bench, lease, 0)

    deltas = [save_delta(bench, lease, base, step) for step in range(1, 4)]

    assert wanted(bench, task) == [base, deltas[-1]]


def refused(bench: Bench, lease: Lease, base: str) -> str:
    """What is said to a delta that cannot be."""
    message = begin(epoch=lease.epoch, format="delta.tar", base=base)
    with pytest.raises(Conflict, match="send a whole checkpoint") as refusal:
        storage.begin(bench.steering, OPERATOR, lease.evaluation, message)
    return str(refusal.value)


def test_only_a_whole_checkpoint_of_the_same_point_is_a_base(bench: Bench) -> None:
    """Committed, and not doomed; the refusal says what is wrong, and leaves nothing in the store."""
    task = bench.submit(payload={"command": "true", "checkpoint": {"paths": ["model"], "keep": 1}})
    lease, other = bench.lease(task, "w1"), bench.lease(task, "w2")
    doomed, base = save(bench, lease, 1), save(bench, lease, 2)
    delta = save_delta(bench, lease, base, 3)
    foreign = save(bench, other, 1)
    log = save(bench, lease, kind=ObjectKind.LOG, format="gz")

    assert "is not kept any more: there are newer ones" in refused(bench, lease, doomed)
    assert "no whole checkpoint" in refused(bench, lease, delta)
    assert "no checkpoint" in refused(bench, lease, foreign)
    assert "no checkpoint" in refused(bench, lease, "nonsense")
    assert "no whole checkpoint" in refused(bench, lease, log)
    pending = storage.begin(bench.steering, OPERATOR, lease.evaluation, begin())
    assert "not committed" in refused(bench, lease, pending.id)
    assert len(store_of(bench).uploads) == 1


@pytest.mark.parametrize("flaw", [{"base": "x"}, {"format": "delta.tar"}, {"kind": ObjectKind.LOG, "base": "x"}])
def test_deltas_and_bases_belong_together(bench: Bench, flaw: dict[str, Any]) -> None:
    """A delta without a base is nothing, and who has a base is no whole checkpoint."""
    task = bench.submit()
    lease = bench.lease(task)

    with pytest.raises(Unusable) as refusal:
        storage.begin(bench.steering, OPERATOR, lease.evaluation, replace(begin(), **flaw))

    assert "base" in [found.path for found in refusal.value.flaws]


@pytest.mark.parametrize("harm", ["damaged", "mistrusted"])
def test_a_bad_base_takes_its_deltas_with_it(bench: Bench, harm: str) -> None:
    """Whether somebody saw the damage, or a training failed on it."""
    task = bench.submit()
    first = bench.lease(task)
    old, base = save(bench, first, 1), save(bench, first, 2)
    delta = save_delta(bench, first, base, 3)
    bench.release(first)
    second = bench.lease(task, "w2")  # which knows no deltas
    if harm == "damaged":
        message = ReportDamage(new_request_id(), second.epoch, "SHA-256 differs")
        storage.report_damage(bench.steering, OPERATOR, second.evaluation, base, message)
        bench.release(second)
    else:
        bench.fail(second)

    assert bench.lease(task, "w3", takes_deltas=True).checkpoints == []
    found = objects(bench, task)
    assert found[delta].doom.startswith("its base is given up: ")
    assert found[old].doom == "there are newer ones"
    assert found[base].doomed_at is not None
    bench.clock.advance(bench.steering.settings.storage_grace_seconds + 1)
    collecting.collect(bench.steering)
    assert store_of(bench).objects == {}


def test_a_bad_delta_leaves_its_base(bench: Bench) -> None:
    """The training goes on from the delta before, then from the base, and at last begins anew."""
    task = bench.submit()
    lease = bench.lease(task)
    base = save(bench, lease, 1)
    deltas = [save_delta(bench, lease, base, step) for step in (2, 3)]
    bench.release(lease)
    offered = []
    for worker in ("w1", "w2", "w3", "w4"):
        lease = bench.lease(task, worker, takes_deltas=True)
        offered.append([checkpoint.id for checkpoint in lease.checkpoints])
        if lease.checkpoints:
            bench.fail(lease)

    assert offered == [[deltas[1], deltas[0], base], [deltas[0], base], [base], []]


def test_a_delta_whose_base_was_doomed_meanwhile_is_not_taken(bench: Bench) -> None:
    """Its commit says why, and a whole one is welcome."""
    task = bench.submit()
    first = bench.lease(task)
    base = save(bench, first, 1)
    bench.release(first)
    second = bench.lease(task, "w2", takes_deltas=True)
    message = begin(epoch=second.epoch, format="delta.tar", base=base)
    upload = storage.begin(bench.steering, OPERATOR, second.evaluation, message)
    store_of(bench).put(upload.urls[0], CONTENT)
    damage = ReportDamage(new_request_id(), second.epoch, "gone")
    storage.report_damage(bench.steering, OPERATOR, second.evaluation, base, damage)

    outcome = commit(bench, second, upload.id)

    assert (outcome.accepted, outcome.reason) == (False, "its base is given up: it is damaged")
    whole = save(bench, second, 2)
    bench.release(second)
    assert [c.id for c in bench.lease(task, "w3", takes_deltas=True).checkpoints] == [whole]


def test_a_delta_is_not_taken_if_its_base_alone_is_doomed(bench: Bench) -> None:
    """Whoever doomed it, and however: what is committed can be restored."""
    task = bench.submit()
    lease = bench.lease(task)
    base = save(bench, lease, 1)
    upload = storage.begin(bench.steering, OPERATOR, lease.evaluation, begin(format="delta.tar", base=base))
    store_of(bench).put(upload.urls[0], CONTENT)
    with bench.steering.database.write() as connection:
        bookkeeping.doom(connection, [base], at=bench.clock(), why="a test")

    outcome = commit(bench, lease, upload.id)

    assert (outcome.accepted, outcome.reason) == (False, f"{base!r} is not kept any more: a test")
    assert objects(bench, task)[upload.id].doomed_at is not None


def test_a_finished_point_leaves_neither_base_nor_delta(bench: Bench) -> None:
    """Both go at the same time."""
    task = bench.submit()
    lease = bench.lease(task)
    save_delta(bench, lease, save(bench, lease, 1), 2)
    bench.tell(lease)
    collecting.collect(bench.steering)
    bench.clock.advance(bench.steering.settings.storage_keep_seconds + 1)

    collecting.collect(bench.steering)

    assert store_of(bench).objects == {}
    assert collecting.search(bench.steering) == 0
