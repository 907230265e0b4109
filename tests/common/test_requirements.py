"""What tasks require of their workers: reading, writing, and whether it holds."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given

from gridtune_common.errors import InvalidDocument
from gridtune_common.taskfile import Facts, Requirement, Resources, parse_resources
from strategies import requirements

#: A worker of which everything is known.
FULL: Facts = {
    "site": ("CERN",),
    "host": ("node17",),
    "arch": ("x86_64",),
    "cpus": (8,),
    "memory": (32 * 2**30,),
    "gpus": (2,),
    "gpu.memory": (40 * 2**30,),
    "gpu.model": ("NVIDIA A100-SXM4-40GB",),
    "runtime": ("process", "apptainer"),
    "interconnect": ("infiniband",),
    "cuda": ("12.4",),
    "rack": ("07",),
}


def read(document: Any) -> tuple[Requirement, ...]:
    """What ``requires`` says."""
    return parse_resources({"requires": document}).requires


@pytest.mark.parametrize(
    "text",
    [
        "site = CERN",
        "site in DESY, CERN",
        "site ~ cer",
        "host != bad01",
        "arch == x86_64",
        "cpus >= 8",
        "cpus in 4, 8",
        "memory > 31.5GiB",
        "memory = 32GiB",
        "gpus = 2",
        "gpu.memory >= 40GB",
        "gpu.memory<=40GiB",
        "gpu.model ~ a100",
        "runtime = apptainer",
        "runtime != docker",
        "interconnect = infiniband",
        "interconnect != ethernet",
        "cuda >= 12",
        "cuda = 12.40",
        "cuda in 11, 12.4",
        "rack = 7",
        "rack ~ 7",
    ],
)
def test_what_is_so_holds(text: str) -> None:
    """Each of these is true of a worker of which everything is known."""
    assert Requirement.parse(text).holds(FULL)


@pytest.mark.parametrize(
    "text",
    [
        "site = cern",
        "site in DESY, BNL",
        "host != node17",
        "cpus > 8",
        "memory >= 33GiB",
        "gpu.memory >= 41GiB",
        "gpu.memory != 40GiB",
        "gpu.model = A100",
        "gpu.model ~ H100",
        "runtime = docker",
        "runtime != process",
        "cuda > 12.4",
        "cuda != 12.4",
        "interconnect >= 5",
    ],
)
def test_what_is_not_so_does_not_hold(text: str) -> None:
    """Each of these is false of that worker; a name without a number has no order."""
    assert not Requirement.parse(text).holds(FULL)


@pytest.mark.parametrize("text", ["site = CERN", "site != CERN", "gpu.memory >= 1GiB", "rack ~ 7", "cpus in 1, 2"])
def test_what_is_not_stated_does_not_hold(text: str) -> None:
    """Nobody is sent to a worker that does not say what the task requires."""
    assert not Requirement.parse(text).holds({})


def test_names_that_look_like_numbers_stay_names() -> None:
    """The hosts 7 and 07 are two."""
    assert not Requirement.parse("host = 7").holds({"host": ("07",)})


def test_a_mapping_is_short_for_equality() -> None:
    """One value has to be met, of a list any."""
    short = read({"site": "CERN", "arch": ["x86_64", "aarch64"], "rack": 7, "ecc": True})

    assert short == read(["site = CERN", "arch in x86_64, aarch64", "rack = 7", "ecc = true"])


def test_one_requirement_needs_no_list() -> None:
    """A text alone is one requirement."""
    assert read("site = CERN") == read(["site = CERN"])


@given(requirements())
def test_what_is_required_comes_back(document: Any) -> None:
    """Reading the canonical form gives the same requirements."""
    resources = parse_resources({"requires": document})

    assert parse_resources(resources.to_json()) == resources


@pytest.mark.parametrize(
    ("operator", "values", "flaw"),
    [
        ("is", ("CERN",), 'Requirement: "is" is no operator; write one of = != < <= > >= ~ in'),
        ("=", ("CERN", "DESY"), "Requirement: has 2 values; write one, or several behind in"),
        ("in", (), "Requirement: has 0 values; write one, or several behind in"),
    ],
)
def test_a_requirement_is_valid_from_birth(operator: str, values: tuple[str, ...], flaw: str) -> None:
    """Also one that was not read from a text."""
    with pytest.raises(ValueError, match=re.escape(flaw)):
        Requirement("site", operator, values)


def test_sizes_are_kept_as_they_were_written() -> None:
    """Nobody has to read their limit in other units."""
    assert Resources(requires=read("gpu.memory >= 40GB")).to_json()["requires"] == ["gpu.memory >= 40GB"]


@pytest.mark.parametrize(
    ("document", "flaw"),
    [
        (["gpu.memory >= 40"], '[0]: "40" is no size; write it with its unit, such as 40GiB'),
        (["a = 1", "site > 3"], "[1]: site is a text, which has no order; write =, !=, ~ or in"),
        (["gpu_memory >= 4GiB"], "[0]: gpu_memory would be taken for a label; write gpu.memory"),
        (["cpus ~ 4"], "[0]: cpus is a number; write =, !=, <, <=, >, >= or in"),
        (["cuda >= new"], '[0]: "new" is no number, and cuda >= needs one, such as 4'),
        (["site in A,,B"], '[0]: "" is no value; write one behind in, such as in CERN, DESY'),
        (["site ="], '[0]: "" is no value; write one behind ='),
        ([{"site": "CERN"}], '[0]: {"site": "CERN"} is no requirement; write a text, such as gpu.memory >= 40GiB'),
        (
            ["DESY"],
            '[0]: "DESY" is no requirement; write a name, one of = != < <= > >= ~ in, and a value, '
            "such as gpu.memory >= 40GiB",
        ),
        ({"cuda": ">= 12"}, ".cuda: a mapping is for equality; write a list of requirements, such as ['cuda >= 12']"),
        ({"a b": 1}, '.a b: "a b" is no name; write one, such as site or interconnect'),
        ({"site": []}, ".site: [] is no value; write a text, a number, or a list of some"),
        (
            {"site": ["a,b", "c"]},
            '.site: "a,b" has a comma in it, which parts values; write ~ and a piece without one',
        ),
        (4, ": 4 is no list of requirements; write one, such as [gpu.memory >= 40GiB]"),
        (["a = 1"] * 51, ": has 51 requirements; the most is 50"),
    ],
)
def test_flaws_name_their_place_and_their_cure(document: Any, flaw: str) -> None:
    """What cannot be a requirement is refused with what to write instead."""
    with pytest.raises(InvalidDocument) as refusal:
        read(document)

    assert str(refusal.value) == f"resources.requires{flaw}"
