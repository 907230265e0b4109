"""Checkpoints of running payloads: taken, stored beside the training, restored elsewhere."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest

from gridtune_common import protocol
from gridtune_common.errors import Refused
from gridtune_common.protocol import Advice, Fail, FailureCause, ObjectKind, Release, ReleaseCause, Tell
from gridtune_evaluation import archive
from gridtune_evaluation.slot import End
from gridtune_evaluation.testing import FakeCarrier, FakeSteering, make_lease, make_payload
from payload_scripts import agent_running, python, run_agent

#: Counts steps in a file that it replaces as a whole, goes on from it, and leaves at SIGTERM between two steps.
TRAIN = """
import json, os, pathlib, signal, sys, time
leaving = []
signal.signal(signal.SIGTERM, lambda *_: leaving.append(1))
state = pathlib.Path("state")
step = int(state.read_text()) if state.exists() else 0
first = step
reports = open(os.environ["GRIDTUNE_DIR"] + "/reports.jsonl", "a", buffering=1)
while step < {steps}:
    time.sleep({pause})
    step += 1
    pathlib.Path("draft").write_text(str(step))
    os.replace("draft", "state")
    print(json.dumps({{"step": step, "loss": step}}), file=reports)
    if leaving:
        sys.exit(0)
resumed = int(os.environ.get("GRIDTUNE_RESUME_STEP", "-1"))
json.dump({{"loss": step, "first": first, "resumed": resumed}}, open("output.json", "w"))
"""
RULE = {"paths": ["state"], "interval": "100s"}


def training(steps: int = 30, pause: float = 0.1, **document: Any) -> protocol.Payload:
    """A payload that runs `TRAIN`."""
    code = textwrap.dedent(TRAIN.format(steps=steps, pause=pause))
    return make_payload(python(code), **{"checkpoint": RULE, "grace": "5s", **document})


def resuming(lease: protocol.Lease, fake: FakeSteering, carrier: FakeCarrier) -> protocol.Lease:
    """A lease that goes on from all checkpoints that were committed, newest first."""
    messages = {id_: fake.uploads[int(id_[1:]) - 1][1] for id_ in fake.commits}
    saved = [
        protocol.Checkpoint(
            id_,
            message.size,
            message.sha256,
            message.format,
            message.step,
            None if message.base is None else _base(message.base, messages[message.base]),
        )
        for id_, message in reversed(messages.items())
        if message.kind is ObjectKind.CHECKPOINT
    ]
    return dataclasses.replace(lease, checkpoints=saved)


def _base(id_: str, message: protocol.BeginUpload) -> protocol.CheckpointBase:
    assert message.base is None
    return protocol.CheckpointBase(id_, message.size, message.sha256, message.format)


def first_stretch(work: Path, carrier: FakeCarrier, payload: protocol.Payload, **settings: Any) -> FakeSteering:
    """Run an agent that is asked to end after two steps."""
    fake = FakeSteering(payload, [make_lease()])
    with agent_running(fake, work, carrier=carrier, **settings):
        fake.wait_until(lambda fake: len(fake.reported) >= 2)
    return fake


def test_the_last_checkpoint_is_stored_before_the_point_goes_back(tmp_path: Path) -> None:
    """When the agent is asked to end; and the next one goes on from there."""
    carrier = FakeCarrier()
    first = first_stretch(tmp_path / "a", carrier, training())

    [(_, word)] = first.ends
    [(_, message)] = first.uploads
    assert isinstance(word, Release)
    assert (word.cause, first.commits) == (ReleaseCause.SHUTDOWN, ["o1"])
    assert (message.kind, message.interrupted) == (ObjectKind.CHECKPOINT, True)
    assert message.step is not None
    assert 2 <= message.step < 30

    lease = resuming(make_lease(epoch=2), first, carrier)
    second = FakeSteering(training(), [lease])
    run_agent(second, tmp_path / "b", carrier=carrier)

    [(_, word)] = second.ends
    assert isinstance(word, Tell)
    assert word.metrics == {"loss": 30.0, "first": message.step, "resumed": message.step}


def test_checkpoints_are_taken_now_and_then(tmp_path: Path) -> None:
    """Every interval, while the training runs; one whose files did not change is not sent again."""
    carrier = FakeCarrier()
    code = "import time; open('state', 'w').write('x'); time.sleep(1); open('output.json', 'w').write('{\"loss\": 1}')"
    payload = make_payload(python(code), checkpoint={"paths": ["state"], "interval": "0.2s"})
    fake = FakeSteering(payload, [make_lease()])

    run_agent(fake, tmp_path, carrier=carrier)

    assert fake.commits == ["o1"]
    assert isinstance(fake.ends[0][1], Tell)


def test_the_payload_may_ask_for_a_checkpoint(tmp_path: Path) -> None:
    """`gridtune.save` returns when the files were read; what is in the folder for checkpoints is part of it."""
    carrier = FakeCarrier()
    code = """
    import gridtune, time
    folder = gridtune.checkpoint_dir()
    (folder / "weights").write_text("good")
    gridtune.save(step=7)
    (folder / "weights").write_text("bad")
    time.sleep(1)
    gridtune.result(loss=1)
    """
    fake = FakeSteering(make_payload(python(textwrap.dedent(code)), checkpoint=RULE), [make_lease()])
    run_agent(fake, tmp_path / "a", carrier=carrier)
    [(_, message)] = fake.uploads
    assert message.step == 7

    look = "import gridtune; gridtune.result(loss=1 + ((gridtune.checkpoint_dir() / 'weights').read_text() == 'good'))"
    second = FakeSteering(make_payload(python(look)), [resuming(make_lease(epoch=2), fake, carrier)])
    run_agent(second, tmp_path / "b", carrier=carrier)

    [(_, word)] = second.ends
    assert isinstance(word, Tell)
    assert word.metrics == {"loss": 2.0}


def test_a_store_that_is_away_never_holds_a_training_up(tmp_path: Path) -> None:
    """The result comes without its checkpoints."""
    carrier = FakeCarrier()
    carrier.is_away = True
    payload = training(steps=5, pause=0.1, checkpoint={"paths": ["state"], "interval": "0.1s"})
    fake = FakeSteering(payload, [make_lease()])
    started = time.monotonic()

    run_agent(fake, tmp_path, carrier=carrier)

    [(_, word)] = fake.ends
    assert isinstance(word, Tell)
    assert fake.commits == []
    assert time.monotonic() - started < 10


def test_a_refused_checkpoint_is_no_failure(tmp_path: Path) -> None:
    """A quota that is used up, say."""
    fake = FakeSteering(training(steps=5, checkpoint={"paths": ["state"], "interval": "0.1s"}), [make_lease()])
    fake.refuse("begin_upload", 413, "quota", times=100)

    run_agent(fake, tmp_path, carrier=FakeCarrier())

    assert isinstance(fake.ends[0][1], Tell)


def test_a_damaged_checkpoint_gives_way_to_the_one_before(tmp_path: Path) -> None:
    """It is reported, and does not stop the point."""
    carrier = FakeCarrier()
    first = first_stretch(tmp_path / "a", carrier, training())
    [old] = resuming(make_lease(), first, carrier).checkpoints
    new = dataclasses.replace(old, id="o2")
    carrier.objects["o2"] = carrier.objects["o1"][:-1] + b"!"
    lease = dataclasses.replace(make_lease(epoch=2), checkpoints=[new, old])
    second = FakeSteering(training(), [lease])

    run_agent(second, tmp_path / "b", carrier=carrier)

    [(_, word)] = second.ends
    assert isinstance(word, Tell)
    assert word.metrics["first"] == old.step
    assert second.damaged == ["o2"]


def test_a_checkpoint_that_is_gone_gives_way_to_the_one_before(tmp_path: Path) -> None:
    """No other node would find it: waiting for one would fail the point for good."""
    carrier = FakeCarrier()
    first = first_stretch(tmp_path / "a", carrier, training())
    [old] = resuming(make_lease(), first, carrier).checkpoints
    lease = dataclasses.replace(make_lease(epoch=2), checkpoints=[dataclasses.replace(old, id="o2"), old])
    second = FakeSteering(training(), [lease])

    run_agent(second, tmp_path / "b", carrier=carrier)

    [(_, word)] = second.ends
    assert isinstance(word, Tell)
    assert word.metrics["first"] == old.step
    assert second.damaged == ["o2"]


def test_without_any_whole_checkpoint_the_training_begins_anew(tmp_path: Path) -> None:
    """Late, but not never."""
    carrier = FakeCarrier()
    carrier.objects["o9"] = b"no archive"
    bad = protocol.Checkpoint("o9", 10, hashlib.sha256(b"no archive").hexdigest(), "tar", 4)
    fake = FakeSteering(training(steps=2), [dataclasses.replace(make_lease(), checkpoints=[bad])])

    run_agent(fake, tmp_path, carrier=carrier)

    [(_, word)] = fake.ends
    assert isinstance(word, Tell)
    assert (word.metrics["first"], fake.damaged) == (0.0, ["o9"])


def test_an_agent_that_waits_for_a_checkpoint_can_be_ended(tmp_path: Path) -> None:
    """It gives the point back, and starts nothing."""
    carrier = FakeCarrier()
    carrier.is_away = True
    saved = protocol.Checkpoint("o1", 1, "0" * 64, "tar", 4)
    fake = FakeSteering(training(), [dataclasses.replace(make_lease(), checkpoints=[saved])])

    with agent_running(fake, tmp_path, carrier=carrier):
        fake.wait_until(lambda fake: bool(fake.asks))
        time.sleep(0.3)

    [(_, word)] = fake.ends
    assert isinstance(word, Release)
    assert word.cause is ReleaseCause.SHUTDOWN


def test_a_checkpoint_that_cannot_be_fetched_is_infrastructure(tmp_path: Path) -> None:
    """Another node may be luckier; the training must not begin anew for that."""
    saved = protocol.Checkpoint("o1", 1, "0" * 64, "tar", 4)
    fake = FakeSteering(training(), [dataclasses.replace(make_lease(), checkpoints=[saved])])
    fake.refuse("download", 403, "not for you", times=9)

    run_agent(fake, tmp_path, carrier=FakeCarrier())

    [(_, word)] = fake.ends
    assert isinstance(word, Fail)
    assert word.cause is FailureCause.INFRASTRUCTURE


def test_shortly_before_the_walltime_the_payload_is_saved_and_given_back(tmp_path: Path) -> None:
    """Then the slot ends: there is no time for another point."""
    carrier = FakeCarrier()
    payload = training(steps=1000, pause=0.02, grace="1s")
    fake = FakeSteering(payload, [make_lease(), make_lease(1)])
    started = time.monotonic()

    end = run_agent(fake, tmp_path, carrier=carrier, walltime_seconds=5.0)

    [(_, word)] = fake.ends
    assert isinstance(word, Release)
    assert (word.cause, word.leaving, end) == (ReleaseCause.WALLTIME, True, End.WALLTIME)
    assert fake.commits == ["o1"]
    assert time.monotonic() - started < 5


@pytest.mark.slow
def test_short_stretches_in_a_row_make_progress(tmp_path: Path) -> None:
    """Ten steps of more than half a second, by workers that live for a few."""
    carrier, commits = FakeCarrier(), 0
    payload = training(steps=10, pause=0.7, grace="1s")
    fake = FakeSteering(payload, [make_lease()])
    trained = 0
    for epoch in range(1, 12):
        lease = make_lease(epoch=epoch)
        before = fake
        fake = FakeSteering(payload, [resuming(lease, before, carrier) if epoch > 1 else lease])
        fake.uploads, fake.commits = list(before.uploads), list(before.commits)
        run_agent(fake, tmp_path / str(epoch), carrier=carrier, walltime_seconds=6.0)
        trained += len(fake.reported)
        [(_, word)] = fake.ends
        if isinstance(word, Tell):
            break
        assert len(fake.commits) > commits
        commits = len(fake.commits)

    assert isinstance(word, Tell)
    assert word.metrics["loss"] == 10.0
    assert epoch > 1
    assert trained == 10  # no step twice


def test_a_worker_with_too_little_time_does_not_ask(tmp_path: Path) -> None:
    """Nor does it stay when the service says that its time is too short."""
    fake = FakeSteering(training(), [make_lease()])
    assert run_agent(fake, tmp_path / "a", walltime_seconds=0.5) is End.WALLTIME
    assert fake.asks == []

    refusal = Refused(409, {"type": "urn:gridtune:problem:TooLittleTime", "detail": "about 1h; 5m are left"})
    fake.refuse_with("ask", refusal)
    assert run_agent(fake, tmp_path / "b", walltime_seconds=300.0) is End.WALLTIME
    assert fake.asks == []


def test_what_is_left_of_the_time_is_told(tmp_path: Path) -> None:
    """Less what leaving takes."""
    fake = FakeSteering(training(steps=1), [make_lease()])

    run_agent(fake, tmp_path, walltime_seconds=300.0)

    assert all(ask.remaining_seconds is not None and 200 < ask.remaining_seconds < 295 for ask in fake.asks)


def test_a_killed_payloads_files_are_only_saved_at_rest(tmp_path: Path) -> None:
    """Who writes until SIGKILL may have left half a file."""
    code = """
    import signal, time, os
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    open(os.environ["GRIDTUNE_DIR"] + "/reports.jsonl", "a").write('{"step": 1, "loss": 1}\\n')
    while True:
        open("state", "a").write("x")
        time.sleep(0.01)
    """
    fake = FakeSteering(make_payload(python(textwrap.dedent(code)), checkpoint=RULE, grace="0.5s"), [make_lease()])
    with agent_running(fake, tmp_path, carrier=FakeCarrier()):
        fake.wait_until(lambda fake: bool(fake.reported))

    assert isinstance(fake.ends[0][1], Release)
    assert fake.commits == []


def test_after_a_long_silence_the_agent_parts(tmp_path: Path) -> None:
    """The payload is ended, and what there is to say waits for the next agent."""
    payload = training(steps=10_000, pause=0.02)
    fake = FakeSteering(payload, [make_lease(heartbeat_seconds=0.1)])
    with agent_running(fake, tmp_path, carrier=FakeCarrier(), give_up_seconds=0.5) as agent:
        fake.wait_until(lambda fake: bool(fake.reports))
        fake.go_away()
        assert agent.join() is End.GAVE_UP
    assert fake.ends == []

    fake.come_back()
    run_agent(fake, tmp_path)

    [(_, word)] = fake.ends
    assert isinstance(word, Release)
    assert word.cause is ReleaseCause.PARTED


def test_what_killed_agents_left_is_swept(tmp_path: Path) -> None:
    """By the next one; what belongs to a living one stays."""
    fake = FakeSteering(training(steps=10_000, pause=0.02), [make_lease()])
    left = tmp_path / "t1" / "7-1-dead"
    left.mkdir(parents=True, mode=0o700)
    (left / "huge").write_text("x")
    left.with_name(left.name + ".lock").touch()
    with agent_running(fake, tmp_path, carrier=FakeCarrier()):
        fake.wait_until(lambda fake: bool(fake.reports))
        run_agent(FakeSteering(training(steps=1)), tmp_path)

        rooms = sorted(path.name for path in (tmp_path / "t1").iterdir())

    assert rooms == ["0-1-e0-1", "0-1-e0-1.aside", "0-1-e0-1.lock", "files", "logs"]


def test_a_watched_payloads_output_is_sent(tmp_path: Path) -> None:
    """While it is watched, line by line."""
    code = "import time; print('one', flush=True); time.sleep(1.5); print('two', flush=True); time.sleep(60)"
    fake = FakeSteering(make_payload(python(code)), [make_lease(heartbeat_seconds=0.2)])
    fake.advise(Advice.CONTINUE, watched=True)
    with agent_running(fake, tmp_path):
        fake.wait_until(lambda fake: len(fake.outputs) >= 2)

    assert [(message.start, message.end, message.text) for _, message in fake.outputs][:2] == [
        (0, 4, "one\n"),
        (4, 8, "two\n"),
    ]


@pytest.mark.parametrize("content", ["", "nonsense", json.dumps({"step": "x"}), json.dumps([1])])
def test_any_request_file_asks_for_a_checkpoint(tmp_path: Path, content: str) -> None:
    """What is in it may be missing or wrong: then the last reported step counts."""
    code = f"""
    import os, pathlib, time
    control = pathlib.Path(os.environ["GRIDTUNE_DIR"])
    pathlib.Path("state").write_text("x")
    (control / "reports.jsonl").write_text('{{"step": 3, "loss": 1}}\\n')
    time.sleep(0.7)
    (control / "checkpoint").write_text({content!r})
    while (control / "checkpoint").exists():
        time.sleep(0.01)
    time.sleep(0.5)
    """
    fake = FakeSteering(make_payload(python(textwrap.dedent(code)), checkpoint=RULE), [make_lease()])

    run_agent(fake, tmp_path, carrier=FakeCarrier())

    assert [message.step for _, message in fake.uploads] == [3]


def test_a_checkpoint_that_the_service_does_not_know_gives_way_to_the_one_before(tmp_path: Path) -> None:
    """A database that is older than its store may know of such."""
    carrier = FakeCarrier()
    first = first_stretch(tmp_path / "a", carrier, training())
    [old] = resuming(make_lease(), first, carrier).checkpoints
    lease = dataclasses.replace(make_lease(epoch=2), checkpoints=[dataclasses.replace(old, id="o2"), old])
    second = FakeSteering(training(), [lease])
    second.refuse("download", 404, "there is no object 'o2' here")

    run_agent(second, tmp_path / "b", carrier=carrier)

    [(_, word)] = second.ends
    assert isinstance(word, Tell)
    assert (word.metrics["first"], second.damaged) == (old.step, ["o2"])


def test_the_whole_directory_may_be_saved(tmp_path: Path) -> None:
    """What belongs to one evaluation alone is left out: its request to stop, its reports, its input and output."""
    carrier = FakeCarrier()
    payload = training(checkpoint={"paths": ["."], "interval": "100s"})
    first = first_stretch(tmp_path / "a", carrier, payload)
    second = FakeSteering(payload, [resuming(make_lease(epoch=2), first, carrier)])

    run_agent(second, tmp_path / "b", carrier=carrier)

    [(_, word)] = second.ends
    [(_, message)] = first.uploads
    assert isinstance(word, Tell)
    assert word.metrics["first"] == message.step
    assert message.step is not None
    assert min(report.step for report in second.reported) == message.step + 1


def test_a_program_that_dies_of_the_signal_may_leave_halves(tmp_path: Path) -> None:
    """So what it has touched in its last moments is not saved."""
    code = """
    import os, time
    open(os.environ["GRIDTUNE_DIR"] + "/reports.jsonl", "a").write('{"step": 1, "loss": 1}\\n')
    while True:
        open("state", "a").write("x")
        time.sleep(0.01)
    """
    fake = FakeSteering(make_payload(python(textwrap.dedent(code)), checkpoint=RULE), [make_lease()])
    with agent_running(fake, tmp_path, carrier=FakeCarrier()):
        fake.wait_until(lambda fake: bool(fake.reported))

    assert isinstance(fake.ends[0][1], Release)
    assert fake.commits == []


def test_a_second_signal_does_not_wait_for_the_store(tmp_path: Path) -> None:
    """The point goes back at once, without its last checkpoint."""
    carrier = FakeCarrier()
    fake = FakeSteering(training(steps=1000), [make_lease()])
    with agent_running(fake, tmp_path, carrier=carrier) as agent:
        fake.wait_until(lambda fake: bool(fake.reported))
        carrier.is_away = True
        agent.shutdown.request()
        time.sleep(1.5)
        assert fake.ends == []
        agent.shutdown.request()
        fake.wait_until(lambda fake: bool(fake.ends), 5.0)

    assert isinstance(fake.ends[0][1], Release)


def test_no_word_outlives_the_walltime(tmp_path: Path) -> None:
    """If the service is away at the end, what there is to say waits in the spool."""
    fake = FakeSteering(training(steps=1000, grace="1s"), [make_lease()])
    started = time.monotonic()
    with agent_running(fake, tmp_path, carrier=FakeCarrier(), walltime_seconds=8.0) as agent:
        fake.wait_until(lambda fake: bool(fake.reported))
        fake.go_away()
        agent.join()

    assert time.monotonic() - started < 14  # a busy machine takes its time to end; whoever waits, waits for longer
    assert len(list((tmp_path / "spool").glob("*.json"))) == 1


def test_a_service_that_is_away_at_the_end_of_the_time_is_no_trouble(tmp_path: Path) -> None:
    """There would have been no point any more."""
    fake = FakeSteering(training(steps=1), [make_lease()])
    fake.refuse("ask", 503, times=1000)

    assert run_agent(fake, tmp_path, walltime_seconds=4.0) is End.WALLTIME


# --- what did not change is not sent again

#: A large file that stays, small ones that come and go, one that changes once; goes on if all are as they were left.
FROZEN = """
import hashlib, json, os, signal, sys, time
import gridtune
leaving = []
signal.signal(signal.SIGTERM, lambda *_: leaving.append(1))
folder = gridtune.checkpoint_dir()
frozen, state = folder / "frozen", folder / "state"
if not state.exists():
    frozen.write_bytes(os.urandom(2**24))
    state.write_text(json.dumps([0, hashlib.sha256(frozen.read_bytes()).hexdigest()]))
    (folder / "epoch-0").write_text("0")
    (folder / "late").write_text("0")
step, digest = json.loads(state.read_text())
assert hashlib.sha256(frozen.read_bytes()).hexdigest() == digest
assert sorted(os.listdir(folder)) == [f"epoch-{step}", "frozen", "late", "state"], os.listdir(folder)
assert (folder / "late").read_text() == ("3" if step >= 3 else "0")
while not leaving and not os.path.exists("../finish"):
    step += 1
    (folder / f"epoch-{step}").write_text(str(step))
    (folder / f"epoch-{step - 1}").unlink()
    if step == 3:
        (folder / "late").write_text("3")
    (folder / "draft").write_text(json.dumps([step, digest]))
    os.replace(folder / "draft", state)
    gridtune.report(step, loss=step)
    time.sleep(0.3)
if not leaving:
    gridtune.result(loss=step)
"""
MIB = 2**20


def frozen_training(interval: str = "0.2s") -> protocol.Payload:
    """A payload that runs `FROZEN` until it is asked to leave, or until there is a file ``finish``."""
    rule = {"paths": ["state"], "interval": interval}
    return make_payload(python(textwrap.dedent(FROZEN)), checkpoint=rule, grace="5s")


def sent(fake: FakeSteering) -> list[protocol.BeginUpload]:
    """The checkpoints that were begun."""
    return [message for _, message in fake.uploads if message.kind is ObjectKind.CHECKPOINT]


def test_a_large_file_that_stays_is_sent_once(tmp_path: Path) -> None:
    """By the agent that has first saved it, and by none that goes on elsewhere."""
    carrier = FakeCarrier()
    first = FakeSteering(frozen_training(), [make_lease()])
    with agent_running(first, tmp_path / "a", carrier=carrier):
        first.wait_until(lambda fake: len(fake.commits) >= 4, 30.0)

    assert sent(first)[0].size > 16 * MIB
    assert all(message.size < MIB for message in sent(first)[-2:])
    assert all(message.base in first.commits for message in sent(first)[-2:])

    before, n_before = first, len(first.uploads)
    for epoch in (2, 3):
        again = FakeSteering(frozen_training(), [resuming(make_lease(epoch=epoch), before, carrier)])
        again.uploads, again.commits = list(before.uploads), list(before.commits)
        with agent_running(again, tmp_path / str(epoch), carrier=carrier):
            again.wait_until(lambda fake: len(fake.commits) >= len(before.commits) + 2, 30.0)  # noqa: B023 - waits here
        before = again

    assert all(message.size < MIB for message in sent(before)[n_before:])
    assert all(isinstance(word, Release) for _, word in before.ends)
    steps = [message.step or 0 for message in sent(before)]
    assert steps == sorted(steps)
    (tmp_path / "last" / "t1").mkdir(parents=True)
    (tmp_path / "last" / "t1" / "finish").touch()
    last = FakeSteering(frozen_training(), [resuming(make_lease(epoch=4), before, carrier)])
    run_agent(last, tmp_path / "last", carrier=carrier)

    [(_, word)] = last.ends
    assert isinstance(word, Tell)
    assert word.metrics["loss"] in (steps[-1], steps[-1] + 1)  # a step's files may be there before its report
    assert last.damaged == []


@pytest.mark.parametrize("refusal", [409, 422, "declined"])
def test_a_refused_delta_is_followed_by_a_whole_checkpoint(tmp_path: Path, refusal: int | str) -> None:
    """At once if it was the last of its stretch: the base may be gone, or the service may not know any."""
    carrier = FakeCarrier()
    fake = FakeSteering(frozen_training("100s"), [make_lease()])
    with agent_running(fake, tmp_path, carrier=carrier) as agent:
        fake.wait_until(lambda fake: bool(fake.reported), 30.0)
        [control] = (tmp_path / "t1").glob("*/.gridtune")
        (control / "checkpoint").touch()
        fake.wait_until(lambda fake: bool(fake.commits), 30.0)
        if isinstance(refusal, int):
            fake.refuse("begin_upload", refusal, "that base is not kept any more; send a whole checkpoint")
        else:
            fake.decline("its base is given up")
        n_reported = len(fake.reported)
        fake.wait_until(lambda fake: len(fake.reported) > n_reported)
        agent.shutdown.request()
        fake.wait_until(lambda fake: bool(fake.ends), 30.0)

    last = sent(fake)[-1]
    assert (last.base, last.interrupted, last.size > 16 * MIB) == (None, True, True)
    assert fake.commits[-1] == f"o{len(fake.uploads)}"


def stored_delta(folder: Path, carrier: FakeCarrier) -> list[protocol.Checkpoint]:
    """What a lease offers: a delta of step 3, its base of step 2, and an older checkpoint of step 1."""
    room = folder / "room"
    room.mkdir()
    (room / "large").write_text("L" * 1000)
    made: list[protocol.Checkpoint] = []
    entries = None
    for step, name in ((1, "old"), (2, "base"), (3, "delta")):
        (room / "state").write_text(str(step))
        packed = archive.pack(room, ["*"], folder / name, base=entries, small=0, form=protocol.ArchiveFormat.TAR)
        assert isinstance(packed, archive.Packed)
        carrier.objects[name] = (folder / name).read_bytes()
        made.append(protocol.Checkpoint(name, packed.size, packed.sha256, packed.format.value, step))
        entries = packed.at_rest if name == "base" else None
    old, base, delta = made
    return [dataclasses.replace(delta, base=protocol.CheckpointBase(base.id, base.size, base.sha256, "tar")), base, old]


@pytest.mark.parametrize(
    ("harmed", "first"),
    [([], 3), (["delta"], 2), (["base"], 1), (["delta", "base"], 1), (["delta", "base", "old"], 0)],
    ids=["none", "the delta", "the base", "both", "all"],
)
@pytest.mark.parametrize("harm", ["damaged", "gone"])
def test_what_leans_on_a_bad_base_is_passed_over(tmp_path: Path, harm: str, harmed: list[str], first: int) -> None:
    """The base is reported, not what needs it; a base outlives a bad delta."""
    carrier = FakeCarrier()
    lease = dataclasses.replace(make_lease(epoch=2), checkpoints=stored_delta(tmp_path, carrier))
    for name in harmed:
        if harm == "gone":
            del carrier.objects[name]
        else:
            carrier.objects[name] = carrier.objects[name][:-1] + b"!"
    fake = FakeSteering(training(steps=5), [lease])

    run_agent(fake, tmp_path / "work", carrier=carrier)

    [(_, word)] = fake.ends
    assert isinstance(word, Tell)
    assert word.metrics["first"] == first
    assert fake.damaged == harmed
    assert fake.asks[0].takes_deltas


def test_a_checkpoint_of_a_later_version_waits_for_another_node(tmp_path: Path) -> None:
    """What this agent cannot read is not damaged, and must not be restored by half."""
    carrier = FakeCarrier()
    newest, *older = stored_delta(tmp_path, carrier)
    lease = dataclasses.replace(make_lease(), checkpoints=[dataclasses.replace(newest, format="delta2.tar"), *older])
    fake = FakeSteering(training(steps=5), [lease])

    run_agent(fake, tmp_path / "work", carrier=carrier)

    [(_, word)] = fake.ends
    assert isinstance(word, Fail)
    assert (word.cause, fake.damaged) == (FailureCause.INFRASTRUCTURE, [])
    assert "update gridtune" in word.message
