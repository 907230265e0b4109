"""Hypothesis strategies for search spaces, points and task documents."""

from __future__ import annotations

import keyword
import math
import random
import string
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from hypothesis import strategies as st

from gridtune_common.protocol import Parameters, Value
from gridtune_common.space import Categorical, Condition, Float, Int, Normal, Ordinal, Parameter, SearchSpace

_FIRST = string.ascii_letters + "_"


def names() -> st.SearchStrategy[str]:
    """Names that a parameter can have."""
    rest = st.text(_FIRST + string.digits, max_size=10)
    return st.builds(lambda first, more: first + more, st.sampled_from(_FIRST), rest).filter(
        lambda name: not keyword.iskeyword(name)
    )


def scalars() -> st.SearchStrategy[Value]:
    """Values that a choice or a constant can be."""
    finite = st.floats(allow_nan=False, allow_infinity=False)
    return st.one_of(st.none(), st.booleans(), st.integers(-(2**53), 2**53), finite, st.text(max_size=8))


def _json_key(value: Value) -> tuple[bool, Any]:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return (is_number, value) if is_number else (is_number, f"{type(value)}{value}")


def choice_lists() -> st.SearchStrategy[tuple[Value, ...]]:
    """Distinct choices."""
    return st.lists(scalars(), min_size=1, max_size=5, unique_by=_json_key).map(tuple)


@st.composite
def continuous_floats(draw: st.DrawFn, name: str = "x") -> Float:
    """Float parameters without a step, on either scale."""
    log = draw(st.booleans())
    bounds = st.floats(1e-300, 1e300) if log else st.floats(-1e300, 1e300)
    low, high = sorted(draw(st.lists(bounds, min_size=2, max_size=2, unique=True)))
    return Float(name, low, high, log=log)


@st.composite
def stepped_floats(draw: st.DrawFn, name: str = "x") -> Float:
    """Float parameters whose bounds and step are written with a few decimals, as people do."""
    log = draw(st.booleans())
    unit = 10 ** draw(st.integers(0, 6))
    step = draw(st.integers(1, 1000))
    low = draw(st.integers(1 if log else -(10**6), 10**6))
    n_steps, rest = draw(st.integers(1, 1000)), draw(st.integers(0, step - 1))
    return Float(name, low / unit, (low + n_steps * step + rest) / unit, log=log, step=step / unit)


@st.composite
def ints(draw: st.DrawFn, name: str = "x") -> Int:
    """Int parameters on either scale, with and without steps."""
    log = draw(st.booleans())
    low = draw(st.integers(1 if log else -(2**53), 2**53 - 1))
    high = draw(st.integers(low + 1, min(low + draw(st.sampled_from([10, 1000, 2**53])), 2**53)))
    step = draw(st.one_of(st.just(1), st.integers(1, high - low)))
    return Int(name, low, high, log=log, step=step)


@st.composite
def normals(draw: st.DrawFn, name: str = "x") -> Normal:
    """Normal and lognormal parameters, with any of bounds and step."""
    log = draw(st.booleans())
    mean = draw(st.floats(-100, 100) if log else st.floats(-1e6, 1e6))
    std = draw(st.floats(0.01, 5) if log else st.floats(0.01, 1e6))
    lower = draw(st.floats(-8, 3))
    upper = draw(st.floats(max(lower + 1, -3), 6))
    low, high = (math.exp(mean + std * z) if log else mean + std * z for z in (lower, upper))
    has_low, has_high, has_step = draw(st.booleans()), draw(st.booleans()), draw(st.booleans())
    smooth = Normal(name, mean, std, log, low if has_low else None, high if has_high else None)
    if not has_step:
        return smooth
    width = smooth.quantile(0.9) - smooth.quantile(0.1)
    return replace(smooth, step=float(f"{width * draw(st.floats(0.01, 0.4)):.3g}"))


def parameters(name: str = "x") -> st.SearchStrategy[Parameter]:
    """Parameters of every kind, without conditions."""
    return st.one_of(
        continuous_floats(name),
        stepped_floats(name),
        ints(name),
        normals(name),
        st.builds(Categorical, st.just(name), choice_lists()),
        st.builds(Ordinal, st.just(name), choice_lists()),
    )


def finite_parameters(name: str = "x") -> st.SearchStrategy[Parameter]:
    """Parameters with a few values, without conditions."""
    return st.one_of(
        st.builds(Int, st.just(name), st.just(1), st.integers(2, 4)),
        st.builds(Categorical, st.just(name), choice_lists()),
        st.builds(Ordinal, st.just(name), choice_lists()),
    )


@st.composite
def spaces(draw: st.DrawFn, max_size: int = 6, finite: bool = False) -> SearchSpace:
    """Search spaces in which parameters may depend on any others, also on later and on conditional ones."""
    made: list[Parameter] = []
    for name in draw(st.lists(names(), min_size=1, max_size=max_size, unique=True)):
        parameter: Parameter = draw(finite_parameters(name) if finite else parameters(name))
        parents = [other for other in made if not isinstance(other, (Float, Normal))]
        is_conditional = draw(st.booleans())
        if parents and is_conditional:
            indexes = st.lists(st.integers(0, len(parents) - 1), min_size=1, max_size=2, unique=True)
            chosen = [parents[index] for index in draw(indexes)]
            when = tuple(draw(_conditions(parent)) for parent in chosen)
            parameter = replace(parameter, when=when)
        made.append(parameter)
    return SearchSpace(tuple(draw(st.permutations(made))))


@st.composite
def _conditions(draw: st.DrawFn, parent: Parameter) -> Condition:
    if isinstance(parent, (Float, Normal)):
        raise TypeError("a float decides nothing")
    places = st.integers(0, min(parent.grid_size, 10) - 1)
    chosen = draw(st.lists(places, min_size=1, max_size=2, unique=True))
    return Condition(parent.name, tuple(parent.grid_value(place) for place in chosen))


def points(space: SearchSpace) -> st.SearchStrategy[Parameters]:
    """Points of a space."""
    return st.integers(0, 2**32).map(lambda seed: space.sample(random.Random(seed)))


def json_values() -> st.SearchStrategy[Any]:
    """Finite JSON values, nested a little."""
    return st.recursive(
        scalars(),
        lambda below: st.lists(below, max_size=3) | st.dictionaries(st.text(max_size=5), below, max_size=3),
        max_leaves=6,
    )


def durations() -> st.SearchStrategy[str]:
    """Durations as people write them."""
    return st.builds(
        lambda number, unit: f"{number}{unit}", st.integers(1, 300), st.sampled_from(["s", "m", "min", "h", "d"])
    )


def _objects(required: Mapping[str, st.SearchStrategy[Any]], **optional: Any) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(dict(required), optional=optional)


#: Inputs in each of their forms.
_DATA: dict[Any, st.SearchStrategy[Any]] = {
    "./in/train.npz": st.sampled_from(["https://example.org/train.npz", "file:///cvmfs/x/train", "s3://bucket/a/key"]),
    "val.npz": _objects(
        {"url": st.just("http://[::1]:8080/val.npz?sign=1")}, sha256=st.just("9F86" * 16), size=st.just("12GiB")
    ),
    "raw.root": _objects({"command": st.just("rucio download --dir {dir} scope:name")}, timeout=durations()),
}


def payload_documents() -> st.SearchStrategy[dict[str, Any]]:
    """The ``payload`` section as people write it."""
    paths = st.lists(st.sampled_from(["train.py", "./lib", "data/a.csv", "m.pt"]), min_size=1, unique=True)
    return _objects(
        {"command": st.sampled_from(["python train.py", ["python", "my train.py"], "echo ${HOME} {1..3}"])},
        image=st.just("python:3.12-slim"),
        runtime=st.just("auto"),
        pull=st.sampled_from(["missing", "always", "never"]),
        files=paths,
        data=st.fixed_dictionaries({}, optional=_DATA),
        environment=st.just({"OMP_NUM_THREADS": 1, "MODE": "fast"}),
        result=_objects({}, file=st.just("out/result.json"), stdout=st.just({"loss": r"loss=(\S+)"})),
        checkpoint=_objects({"paths": paths}, interval=durations()),
        timeout=durations(),
        grace=durations(),
    )


def requirements() -> st.SearchStrategy[Any]:
    """What ``resources.requires`` can be, in each of its forms."""
    texts = st.sampled_from(["gpu.memory >= 40GiB", "site in CERN,DESY", "gpu.model ~ A100", "cuda>=12.4", "ecc == on"])
    values = st.sampled_from(["CERN", 3, True, 0.5])
    equalities = st.dictionaries(st.sampled_from(["site", "rack", "ecc"]), values | st.lists(values, min_size=1))
    return texts | st.lists(texts) | equalities


@st.composite
def task_documents(draw: st.DrawFn) -> dict[str, Any]:
    """Whole task documents, with any of the optional parts left out."""
    space = draw(spaces(max_size=3))
    own_names = names().filter(lambda name: name not in space.names)
    metrics = st.lists(st.sampled_from(["val_loss", "top-1 accuracy", "flops"]), min_size=1, unique=True)
    goals = st.sampled_from(["minimize", "maximize"])
    objectives = [{"metric": metric, "goal": draw(goals)} for metric in draw(metrics)]
    rules = {
        "points": st.integers(1, 1000),
        "target": st.floats(-1e9, 1e9),
        "wall_time": durations(),
        "patience": st.integers(1, 100),
    }
    certain = draw(st.sampled_from(sorted(rules)))
    return draw(
        _objects(
            {
                "space": st.just(space.to_json()),
                "objective": st.just(objectives if len(objectives) > 1 else objectives[0]),
                "stop": _objects({certain: rules.pop(certain)}, **rules),
            },
            name=st.just("digits-mlp"),
            constants=st.dictionaries(own_names, json_values(), max_size=3),
            algorithm=_objects({}, name=st.just("random"), seed=st.integers(0, 2**32 - 1), options=st.just({})),
            scheduler=st.sampled_from(["none", {"name": "none"}]),
            payload=payload_documents(),
            resources=_objects(
                {},
                cpus=st.integers(1, 8),
                gpus=st.integers(0, 8),
                memory=st.just("1.5GiB"),
                network=st.booleans(),
                requires=requirements(),
            ),
            retry=_objects(
                {},
                attempts=st.integers(1, 100),
                lost=st.integers(1, 100),
                infrastructure=st.integers(1, 100),
                stalled=st.integers(1, 1000),
                same_failure=st.integers(0, 1000),
            ),
            warm_start=st.sampled_from(["digits-mlp", "t2t2t2t2", ["t2t2t2t2", "older.task"]]),
        )
    )
