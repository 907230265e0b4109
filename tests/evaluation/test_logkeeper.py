"""Whole logs reach the object store, without holding anything up."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from gridtune_common.protocol import ObjectKind, Tell
from gridtune_evaluation.testing import FakeCarrier, FakeSteering, make_lease, make_payload
from payload_scripts import run_agent

#: Prints far more than what travels with a last word.
CHATTY = "seq 1 20000; echo '{\"loss\": 1}' > output.json"
PRINTED = "".join(f"{n}\n" for n in range(1, 20001)).encode()


def test_a_long_output_is_stored_whole(tmp_path: Path) -> None:
    """And its end travels with the result."""
    carrier, fake = FakeCarrier(), FakeSteering(make_payload(CHATTY), [make_lease()])

    run_agent(fake, tmp_path, carrier=carrier)

    [(evaluation, message)] = fake.uploads
    assert (evaluation, message.kind, message.format, fake.commits) == ("e0-1", ObjectKind.LOG, "gz", ["o1"])
    assert gzip.decompress(carrier.objects["o1"]) == PRINTED
    [(_, word)] = fake.ends
    assert isinstance(word, Tell)
    assert PRINTED.decode().endswith(word.output_tail)
    assert list((tmp_path / "t1" / "logs").iterdir()) == []


def test_a_short_output_travels_with_the_result(tmp_path: Path) -> None:
    """It needs no object of its own."""
    fake = FakeSteering(make_payload("echo hello; echo '{\"loss\": 1}' > output.json"), [make_lease()])

    run_agent(fake, tmp_path, carrier=FakeCarrier())

    assert fake.uploads == []
    [(_, word)] = fake.ends
    assert isinstance(word, Tell)
    assert word.output_tail == "hello\n"


@pytest.mark.slow
def test_what_one_agent_could_not_store_the_next_one_does(tmp_path: Path) -> None:
    """The log waits in the work folder."""
    first = FakeSteering(make_payload(CHATTY), [make_lease()])
    first.refuse("begin_upload", 503, times=1000)
    run_agent(first, tmp_path, carrier=FakeCarrier(), walltime_seconds=20.0)
    assert [path.name for path in (tmp_path / "t1" / "logs").iterdir()] == ["e0-1.1.gz"]

    carrier, second = FakeCarrier(), FakeSteering(make_payload(CHATTY))
    run_agent(second, tmp_path, carrier=carrier)

    assert gzip.decompress(carrier.objects["o1"]) == PRINTED
    assert list((tmp_path / "t1" / "logs").iterdir()) == []


def test_a_refused_log_is_no_trouble(tmp_path: Path) -> None:
    """When a quota is used up, say, it is dropped."""
    fake = FakeSteering(make_payload(CHATTY), [make_lease()])
    fake.refuse("begin_upload", 413, "quota")

    run_agent(fake, tmp_path, carrier=FakeCarrier())

    assert isinstance(fake.ends[0][1], Tell)
    assert list((tmp_path / "t1" / "logs").iterdir()) == []
