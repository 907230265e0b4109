"""Logistic regression on two noisy spirals, in plain Python: reads settings from a JSON file, prints how good it is.

    python train.py settings.json

It saves what it has learnt in `model.json` after each epoch, and goes on from there if it is started again. When it is
asked to end (SIGTERM), it finishes its epoch, saves and leaves.
"""

import json
import math
import os
import random
import signal
import sys

Points = list[tuple[float, float, int]]
Waves = list[tuple[float, float, float]]

DEFAULTS = {"learning_rate": 0.1, "features": 20, "scale": 1.0, "decay": 1e-4, "epochs": 30}


def main() -> None:
    """Train, and print the error on points that were not learnt from."""
    settings = dict(DEFAULTS)
    if len(sys.argv) > 1:
        with open(sys.argv[1]) as file:
            settings.update(json.load(file))
    leaving = []
    signal.signal(signal.SIGTERM, lambda *_: leaving.append(True))
    train, test = spirals(400, seed=1), spirals(400, seed=2)
    waves = random_waves(int(settings["features"]), settings["scale"])
    epoch, weights = load(len(waves) + 1)
    while epoch < settings["epochs"]:
        learn(weights, waves, train, settings["learning_rate"], settings["decay"], seed=epoch)
        epoch += 1
        save(epoch, weights)
        print(f"epoch {epoch}: error {error(weights, waves, test):.4f}", flush=True)
        if leaving:
            return
    print(f"final error = {error(weights, waves, test):.4f}")


def spirals(count: int, seed: int) -> Points:
    """Points of two spirals, one turned by half a circle, and to which one each belongs."""
    rng = random.Random(seed)
    points = []
    for number in range(count):
        side = number % 2
        turn = rng.uniform(0.5, 3.0)
        angle = turn * math.pi + side * math.pi
        points.append((turn * math.cos(angle) + rng.gauss(0, 0.1), turn * math.sin(angle) + rng.gauss(0, 0.1), side))
    return points


def random_waves(count: int, scale: float) -> Waves:
    """Random Fourier features (Rahimi and Recht, 2007): frequencies and phases."""
    rng = random.Random(0)
    return [(rng.gauss(0, scale), rng.gauss(0, scale), rng.uniform(0, 2 * math.pi)) for _ in range(count)]


def features(x: float, y: float, waves: Waves) -> list[float]:
    """What the regression sees of a point."""
    return [1.0, *(math.cos(a * x + b * y + phase) for a, b, phase in waves)]


def learn(weights: list[float], waves: Waves, points: Points, rate: float, decay: float, seed: int) -> None:
    """One epoch of stochastic gradient descent."""
    order = list(points)
    random.Random(seed).shuffle(order)
    for x, y, side in order:
        seen = features(x, y, waves)
        off = probability(weights, seen) - side
        for index, value in enumerate(seen):
            weights[index] -= rate * (off * value + decay * weights[index])


def probability(weights: list[float], seen: list[float]) -> float:
    """Of the second spiral."""
    total = sum(weight * value for weight, value in zip(weights, seen, strict=True))
    return 1 / (1 + math.exp(-max(min(total, 50.0), -50.0)))


def error(weights: list[float], waves: Waves, points: Points) -> float:
    """The share of points that are taken for the other spiral's."""
    wrong = sum((probability(weights, features(x, y, waves)) > 0.5) != side for x, y, side in points)
    return wrong / len(points)


def load(size: int) -> tuple[int, list[float]]:
    """What an earlier run has saved, or a beginning."""
    if not os.path.exists("model.json"):
        return 0, [0.0] * size
    with open("model.json") as file:
        saved = json.load(file)
    return saved["epoch"], saved["weights"]


def save(epoch: int, weights: list[float]) -> None:
    """Write the model whole or not at all."""
    with open("model.json.new", "w") as file:
        json.dump({"epoch": epoch, "weights": weights}, file)
    os.replace("model.json.new", "model.json")


if __name__ == "__main__":
    main()
