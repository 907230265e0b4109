"""No last word is lost: outages, shutdowns, dead agents, shared work folders."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gridtune_common import protocol
from gridtune_common.protocol import Fail, Tell
from gridtune_evaluation.delivery import deliver_leftovers
from gridtune_evaluation.slot import End
from gridtune_evaluation.spool import Letter, Spool
from gridtune_evaluation.testing import FakeSteering, make_lease, make_payload
from payload_scripts import SERVER, agent_running, result, run_agent, steps


def letter(server: str = SERVER, request_id: str = "r1") -> Letter:
    """A result to deliver."""
    return Letter(server, "t1", "e0-1", protocol.Tell(request_id, 1, {"loss": 0.5}))


def letters(work: Path) -> list[str]:
    """The names of the undelivered letters."""
    return sorted(path.name for path in (work / "spool").glob("*.json"))


def left_behind(work: Path, **changes: str) -> None:
    """Write a letter as an agent does that is killed before it delivers."""
    Spool(work).put(letter(**changes)).left()


def test_result_survives_an_outage(tmp_path: Path) -> None:
    """A result whose delivery fails is repeated, with the same request id, until the service is back."""
    fake = FakeSteering(make_payload(steps("sleep 0.3", result(loss=1))), [make_lease()])

    with agent_running(fake, tmp_path):
        fake.wait_until(lambda fake: bool(fake.asks))
        fake.go_away()
        fake.wait_until(lambda fake: fake.n_calls >= 4)
        waiting = letters(tmp_path)
        fake.come_back()
        fake.wait_until(lambda fake: bool(fake.ends))

    [(_, word)] = fake.ends
    assert isinstance(word, Tell)
    assert waiting == [f"{word.request_id}.json"]
    assert letters(tmp_path) == []


def test_undelivered_result_waits_for_the_next_agent(tmp_path: Path) -> None:
    """An agent asked to end during an outage leaves the result on disk, and the next one delivers it."""
    away = FakeSteering(make_payload(steps("sleep 0.3", result(loss=1))), [make_lease()])
    with agent_running(away, tmp_path) as agent:
        away.wait_until(lambda fake: bool(fake.asks))
        away.go_away()
        away.wait_until(lambda fake: fake.n_calls >= 3)
    back = FakeSteering()

    end = run_agent(back, tmp_path)

    assert (agent.end, end) == (End.UNDELIVERED, End.TASK_ENDED)
    assert [type(word) for _, word in back.ends] == [Tell]
    assert letters(tmp_path) == []


def test_spooled_letter_has_no_token(tmp_path: Path) -> None:
    """A letter says where it belongs and what it says, nothing more, and only its owner can read it."""
    left_behind(tmp_path)

    path = tmp_path / "spool" / "r1.json"
    assert set(json.loads(path.read_text())) == {"server", "task", "evaluation", "kind", "message"}
    assert path.stat().st_mode & 0o077 == 0


def test_letters_to_other_services_stay(tmp_path: Path) -> None:
    """An agent delivers leftovers to its own service alone."""
    left_behind(tmp_path, server="https://other.example.org")
    fake = FakeSteering()

    deliver_leftovers(fake, Spool(tmp_path), SERVER)

    assert (fake.ends, letters(tmp_path)) == ([], ["r1.json"])


@pytest.mark.parametrize("status", [401, 403, 404, 500])
def test_leftovers_that_are_not_permitted_stay(tmp_path: Path, status: int) -> None:
    """What this agent may not deliver, or not now, is left for another one."""
    left_behind(tmp_path)
    fake = FakeSteering()
    fake.refuse("tell", status)

    deliver_leftovers(fake, Spool(tmp_path), SERVER)

    assert letters(tmp_path) == ["r1.json"]


def test_refused_letters_are_put_aside(tmp_path: Path) -> None:
    """What the service will never take is kept with its reason, out of the way."""
    left_behind(tmp_path)
    fake = FakeSteering()
    fake.refuse("tell", 409, "the epoch is from the future")

    deliver_leftovers(fake, Spool(tmp_path), SERVER)

    aside = json.loads((tmp_path / "spool" / "refused" / "r1.json").read_text())
    assert (letters(tmp_path), aside["refusal"]) == ([], "the epoch is from the future")


def test_slot_goes_on_after_a_refusal(tmp_path: Path) -> None:
    """A refused last word is put aside, and the next point begins."""
    fake = FakeSteering(make_payload(result(loss=1)), [make_lease(0), make_lease(1)])
    fake.refuse("tell", 409, "no")

    end = run_agent(fake, tmp_path)

    assert (end, [evaluation for evaluation, _ in fake.ends]) == (End.TASK_ENDED, ["e1-1"])


def test_letters_in_delivery_are_left_alone(tmp_path: Path) -> None:
    """While one agent delivers a letter no other one takes it."""
    held = Spool(tmp_path).put(letter())
    fake = FakeSteering()

    deliver_leftovers(fake, Spool(tmp_path), SERVER)
    held.left()

    assert (fake.ends, letters(tmp_path)) == ([], ["r1.json"])


def test_leftover_is_delivered_by_one_of_many(tmp_path: Path) -> None:
    """Of two agents that find the same letter, one takes it."""
    left_behind(tmp_path)
    spool = Spool(tmp_path)

    mine = list(spool.leftovers(SERVER))
    theirs = list(Spool(tmp_path).leftovers(SERVER))
    for held in mine:
        held.delivered()

    assert (len(mine), len(theirs), letters(tmp_path)) == (1, 0, [])


def test_unreadable_leftovers_are_left(tmp_path: Path) -> None:
    """A damaged letter stops nobody."""
    left_behind(tmp_path)
    (tmp_path / "spool" / "r0.json").write_text("{")
    fake = FakeSteering()

    deliver_leftovers(fake, Spool(tmp_path), SERVER)

    assert (len(fake.ends), letters(tmp_path)) == (1, ["r0.json"])


def test_result_comes_through_a_full_disk(tmp_path: Path) -> None:
    """When the spool cannot be written, the result is delivered from memory."""
    fake = FakeSteering(make_payload(steps(f"rm -r {tmp_path}/spool", result(loss=1))), [make_lease()])

    run_agent(fake, tmp_path)

    assert [type(word) for _, word in fake.ends] == [Tell]


def test_revoked_token_keeps_the_result(tmp_path: Path) -> None:
    """A result that the token may not deliver stays in the spool."""
    fake = FakeSteering(make_payload(result(loss=1)), [make_lease()])
    fake.refuse("tell", 401, "the token has expired")

    run_agent(fake, tmp_path)

    assert len(letters(tmp_path)) == 1


def test_errors_of_the_service_are_repeated(tmp_path: Path) -> None:
    """An internal error of the service is no refusal."""
    fake = FakeSteering(make_payload("exit 1"), [make_lease()])
    fake.refuse("fail", 500)

    run_agent(fake, tmp_path)

    assert [type(word) for _, word in fake.ends] == [Fail]
