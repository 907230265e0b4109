"""Made-up problems of 2 to 20 dimensions, whose optimum is known: it is planted.

Those of continuous parameters are in the style of the COCO benchmark's (Hansen et al. 2021): classical functions,
shifted and rotated anew for each seed. The mixed ones have what trainings have: logarithmic scales, whole numbers,
ordinals, choices that change where the best of other parameters is, branches, and parameters that do not matter.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gridtune_common.space import Categorical, SearchSpace

from .instances import SYNTHETIC, Family, Instance, Point, parse, seed_of, unit

Vector = NDArray[np.float64]


# --- continuous ---------------------------------------------------------------------------------------------


def _ellipsoid(z: Vector) -> float:
    """A long thin valley: the axes differ in length by a factor of a hundred."""
    return float(np.sum(10_000 ** np.linspace(0, 1, len(z)) * z**2))


def _rosenbrock(z: Vector) -> float:
    """A bent valley."""
    z = z + 1
    return float(np.sum(100 * (z[1:] - z[:-1] ** 2) ** 2 + (z[:-1] - 1) ** 2))


def _rastrigin(z: Vector) -> float:
    """A bowl with many regular dents."""
    return float(np.sum(z**2 + 10 * (1 - np.cos(2 * np.pi * z))))


def _ackley(z: Vector) -> float:
    """Flat and dented far out, a funnel in the middle."""
    radius = math.sqrt(float(np.mean(z**2)))
    return 20 * (1 - math.exp(-0.2 * radius)) + math.e - math.exp(float(np.mean(np.cos(2 * np.pi * z))))


def _levy(z: Vector) -> float:
    """Waves across a slope."""
    w = 1 + z / 4
    middle = np.sum((w[:-1] - 1) ** 2 * (1 + 10 * np.sin(np.pi * w[:-1] + 1) ** 2))
    end = (w[-1] - 1) ** 2 * (1 + np.sin(2 * np.pi * w[-1]) ** 2)
    return float(math.sin(math.pi * w[0]) ** 2 + middle + end)


def _continuous(name: str, n: int, function: Callable[[Vector], float]) -> Family:
    def instance(seed: int) -> Instance:
        rng = np.random.default_rng(seed_of(name, seed))
        space = _box(n)
        rotation, best = _rotation(rng, n), rng.uniform(-4, 4, n)
        return _planted(space, lambda x: function(rotation @ (x - best)), best)

    return Family(name=name, block=SYNTHETIC, instance=instance)


def _peaks(seed: int) -> Instance:
    """A plain with 21 hills of random shapes, one of them the highest (Gallagher's)."""
    rng = np.random.default_rng(seed_of("peaks-2", seed))
    centres, rotation = rng.uniform(-4, 4, (21, 2)), _rotation(rng, 2)
    heights = np.array([10.0, *rng.uniform(1.1, 9.1, 20)])
    widths = rng.uniform(0.5, 8.0, (21, 2))

    def function(x: Vector) -> float:
        offsets = (x - centres) @ rotation.T
        return float(10 - np.max(heights * np.exp(-0.25 * np.sum(widths * offsets**2, axis=1))))

    return _planted(_box(2), function, centres[0])


def _box(n: int) -> SearchSpace:
    return parse(**{f"x{i}": {"type": "float", "low": -5, "high": 5} for i in range(n)})


def _rotation(rng: np.random.Generator, n: int) -> Vector:
    q, r = np.linalg.qr(rng.normal(size=(n, n)))
    return np.asarray(q * np.sign(np.diag(r)))


def _planted(space: SearchSpace, function: Callable[[Vector], float], best: Vector) -> Instance:
    def loss(point: Point) -> float:
        return function(np.array([point[name] for name in space.names], dtype=float))

    point: Point = dict(zip(space.names, best.tolist(), strict=True))
    return Instance(space=space, loss=loss, optimum=0.0, best_point=point)


# --- mixed --------------------------------------------------------------------------------------------------


def _steps(seed: int) -> Instance:
    """A rotated bowl on a grid of whole numbers and stepped ones: neighbours often differ in nothing but a step."""
    space = parse(
        a={"type": "int", "low": -20, "high": 20},
        b={"type": "int", "low": -20, "high": 20},
        c={"type": "int", "low": 0, "high": 9},
        d={"type": "float", "low": 0, "high": 1, "step": 0.05},
        e={"type": "float", "low": -2, "high": 2, "step": 0.25},
        f={"type": "ordinal", "choices": [8, 16, 32, 64, 128, 256]},
    )
    best = space.sample(random.Random(seed_of("steps-6", seed)))
    rotation = _rotation(np.random.default_rng(seed_of("steps-6", seed)), len(space))
    weights = 30 ** np.linspace(0, 1, len(space))

    def loss(point: Point) -> float:
        return float(np.sum(weights * (rotation @ _difference(space, point, best)) ** 2))

    return Instance(space=space, loss=loss, optimum=0.0, best_point=best)


def _network(seed: int) -> Instance:
    """A network's training: the best learning rate moves with the batch, the optimizer and the width."""
    space = parse(
        rate={"type": "float", "low": 1e-5, "high": 1, "scale": "log"},
        decay={"type": "float", "low": 1e-8, "high": 1e-1, "scale": "log"},
        width={"type": "int", "low": 8, "high": 2048, "scale": "log"},
        depth={"type": "int", "low": 1, "high": 10},
        batch={"type": "ordinal", "choices": [16, 32, 64, 128, 256, 512]},
        activation=["relu", "tanh", "gelu", "elu"],
        optimizer=["adam", "sgd", "rmsprop"],
    )
    rng = random.Random(seed_of("network-7", seed))
    best = space.sample(rng)
    malus = {name: _malus(space, name, best, rng) for name in ("activation", "optimizer")}
    shift = {choice: 0.0 if choice == best["optimizer"] else rng.choice([-0.25, 0.25]) for choice in malus["optimizer"]}

    def loss(point: Point) -> float:
        rate, decay, width, depth, batch = _difference(space, point, best)[:5]
        steep = (rate - 0.5 * batch + 0.3 * width - shift[point["optimizer"]]) ** 2
        bowls = 4 * steep + 0.5 * decay**2 + width**2 + (depth + 0.5 * width) ** 2 + 0.3 * batch**2
        return float(bowls + sum(malus[name][point[name]] for name in malus))

    return Instance(space=space, loss=loss, optimum=0.0, best_point=best)


def _categories(seed: int) -> Instance:
    """Eight choices of five: each costs by itself, and by whom it stands beside."""
    space = parse(**{name: list("vwxyz") for name in "abcdefgh"})
    rng = random.Random(seed_of("categories-8", seed))
    best = space.sample(rng)
    alone = {name: _malus(space, name, best, rng) for name in space.names}
    beside = {
        (one, other, v, w): 0.0 if (v, w) == (best[one], best[other]) else rng.expovariate(2)
        for one, other in pairwise(space.names)
        for v in "vwxyz"
        for w in "vwxyz"
    }

    def loss(point: Point) -> float:
        pairs = sum(beside[one, other, point[one], point[other]] for one, other in pairwise(space.names))
        return sum(alone[name][point[name]] for name in space.names) + pairs

    return Instance(space=space, loss=loss, optimum=0.0, best_point=best)


def _branches(seed: int) -> Instance:
    """A choice of model, each with parameters of its own; one of them can be made better than the others."""
    space = parse(
        model=["trees", "linear", "network"],
        n_trees={"type": "int", "low": 10, "high": 1000, "scale": "log", "when": {"model": "trees"}},
        depth={"type": "int", "low": 1, "high": 20, "when": {"model": "trees"}},
        penalty={"type": "float", "low": 1e-6, "high": 1e3, "scale": "log", "when": {"model": "linear"}},
        mix={"type": "float", "low": 0, "high": 1, "when": {"model": "linear"}},
        rate={"type": "float", "low": 1e-5, "high": 1e-1, "scale": "log", "when": {"model": "network"}},
        width={"type": "ordinal", "choices": [16, 32, 64, 128, 256, 512], "when": {"model": "network"}},
        drop={"type": "float", "low": 0, "high": 0.6, "when": {"model": "network"}},
    )
    rng = random.Random(seed_of("branches-8", seed))
    models = rng.sample(["trees", "linear", "network"], 3)
    floors = dict(zip(models, (0.0, 0.1, 0.2), strict=True))
    best = {parameter.name: parameter.sample(rng) for parameter in space}
    best["model"] = models[0]
    weights = {name: rng.uniform(1, 4) for name in space.names}

    def loss(point: Point) -> float:
        bowl = sum(weights[name] * _step(space, name, point, best) ** 2 for name in point if name != "model")
        return floors[point["model"]] + bowl

    best_point = {name: best[name] for name in space.active(best)}
    return Instance(space=space, loss=loss, optimum=0.0, best_point=best_point)


def _sparse(seed: int) -> Instance:
    """Twelve parameters of all kinds, of which four matter."""
    floats = {f"x{i}": {"type": "float", "low": 0, "high": 1} for i in range(4)}
    logs = {f"l{i}": {"type": "float", "low": 1e-6, "high": 1, "scale": "log"} for i in range(3)}
    ints = {f"n{i}": {"type": "int", "low": 1, "high": 50} for i in range(3)}
    space = parse(**floats, **logs, **ints, c0=["u", "v", "w"], c1=[True, False])
    rng = random.Random(seed_of("sparse-12", seed))
    best = space.sample(rng)
    some = [rng.choice(list(group)) for group in (floats, logs, ints)]
    malus = _malus(space, "c0", best, rng)

    def loss(point: Point) -> float:
        x, log, n = (_step(space, name, point, best) for name in some)
        return 4 * (x + log) ** 2 + (x - log) ** 2 + 2 * n**2 + abs(n) / 2 + malus[point["c0"]]

    return Instance(space=space, loss=loss, optimum=0.0, best_point=best)


def _difference(space: SearchSpace, point: Point, best: Point) -> Vector:
    return np.array([_step(space, name, point, best) for name in space.names])


def _step(space: SearchSpace, name: str, point: Point, best: Point) -> float:
    return unit(space[name], point[name]) - unit(space[name], best[name])


def _malus(space: SearchSpace, name: str, best: Point, rng: random.Random) -> dict[Any, float]:
    """What each choice costs: nothing the best one, something the others."""
    parameter = space[name]
    if not isinstance(parameter, Categorical):
        raise TypeError(f"{name} is no categorical")
    choices: Sequence[Any] = parameter.choices
    return {choice: 0.0 if choice == best[name] else rng.uniform(0.1, 0.6) for choice in choices}


FAMILIES = (
    Family(name="peaks-2", block=SYNTHETIC, instance=_peaks),
    _continuous("rosenbrock-4", 4, _rosenbrock),
    _continuous("ellipsoid-5", 5, _ellipsoid),
    _continuous("rastrigin-8", 8, _rastrigin),
    _continuous("ackley-10", 10, _ackley),
    _continuous("levy-20", 20, _levy),
    Family(name="steps-6", block=SYNTHETIC, instance=_steps),
    Family(name="network-7", block=SYNTHETIC, instance=_network),
    Family(name="categories-8", block=SYNTHETIC, instance=_categories),
    Family(name="branches-8", block=SYNTHETIC, instance=_branches),
    Family(name="sparse-12", block=SYNTHETIC, instance=_sparse),
)
