"""Train a neural network, written in plain NumPy, for minutes, and survive being stopped at any time.

The state (weights, momenta, generator, epoch) is one file, written whole or not at all. Whoever starts the script where
that file is goes on from there, to the very bits that an uninterrupted run would have reached.
"""

from __future__ import annotations

import itertools
import json
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits

import gridtune

DEFAULTS: dict[str, Any] = {
    "learning_rate": 0.05,
    "momentum": 0.9,
    "width": 128,
    "layers": 2,
    "decay": 1e-4,
    "jitter": 0.1,
    "epochs": 300,
}
STATE = Path("state.npz")
SAVE_EVERY = 10  # epochs
BATCH = 64

Array = NDArray[np.float64]


def main() -> None:
    """Train to the last epoch, or until it is time to leave."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # `gridtune.should_stop` tells, between two epochs
    params = gridtune.params(default=DEFAULTS)
    (images, digits), (val_images, val_digits) = data()
    training = Training.load(params) if STATE.exists() else Training.begin(params)

    while training.epoch < params["epochs"]:
        training.train_one_epoch(images, digits)
        val_error = training.error(val_images, val_digits)
        print(f"epoch {training.epoch}: val_error {val_error:.4f}", flush=True)
        gridtune.report(training.epoch, val_error=val_error)
        if gridtune.should_stop():
            training.save()
            return
        if training.epoch % SAVE_EVERY == 0:
            training.save()

    gridtune.result(val_error=training.error(val_images, val_digits), checksum=training.checksum())


def data() -> tuple[tuple[Array, NDArray[np.int64]], tuple[Array, NDArray[np.int64]]]:
    """Return images to train and to validate on, each ``(n, 64)`` in [0, 1], with their digits."""
    images, digits = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(digits))
    images, digits = images[order] / 16.0, digits[order]
    return (images[:1200], digits[:1200]), (images[1200:], digits[1200:])


class Training:
    """A network in training: everything that the next epoch depends on."""

    def __init__(
        self, params: dict[str, Any], weights: list[Array], speeds: list[Array], rng: np.random.Generator, epoch: int
    ) -> None:
        self.params = params
        self.weights = weights  # of shape (inputs + 1, outputs), the last row is the bias
        self.speeds = speeds
        self.rng = rng
        self.epoch = epoch

    @classmethod
    def begin(cls, params: dict[str, Any]) -> Training:
        """Return a network that has seen nothing yet."""
        rng = np.random.default_rng(1)
        sizes = [64, *[params["width"]] * params["layers"], 10]
        weights = [
            np.vstack([rng.normal(0.0, np.sqrt(2.0 / n), (n, m)), np.zeros((1, m))])
            for n, m in itertools.pairwise(sizes)
        ]
        return cls(params, weights, [np.zeros_like(w) for w in weights], rng, 0)

    @classmethod
    def load(cls, params: dict[str, Any]) -> Training:
        """Return the network as it was saved."""
        with np.load(STATE) as state:
            n = sum(1 for name in state.files if name.startswith("weights"))
            rng = np.random.default_rng()
            rng.bit_generator.state = json.loads(str(state["rng"]))
            weights = [state[f"weights{i}"] for i in range(n)]
            return cls(params, weights, [state[f"speeds{i}"] for i in range(n)], rng, int(state["epoch"]))

    def save(self) -> None:
        """Write everything down: whoever reads the file sees all of it or what was there before."""
        draft = STATE.with_name("draft.npz")
        arrays: dict[str, Any] = {f"weights{i}": w for i, w in enumerate(self.weights)}
        arrays |= {f"speeds{i}": v for i, v in enumerate(self.speeds)}
        np.savez(draft, epoch=self.epoch, rng=json.dumps(self.rng.bit_generator.state), **arrays)
        os.replace(draft, STATE)

    def train_one_epoch(self, images: Array, digits: NDArray[np.int64]) -> None:
        """Go through all images once, in a new order and with new noise."""
        order = self.rng.permutation(len(digits))
        for start in range(0, len(order), BATCH):
            chosen = order[start : start + BATCH]
            seen = images[chosen] + self.params["jitter"] * self.rng.standard_normal((len(chosen), 64))
            self._step(seen, digits[chosen])
        self.epoch += 1

    def error(self, images: Array, digits: NDArray[np.int64]) -> float:
        """Return the share of images that are taken for another digit."""
        return float(np.mean(np.argmax(self._layers(images)[-1], axis=1) != digits))

    def checksum(self) -> float:
        """Return a number that differs if any weight differs in its last bit."""
        bits = np.concatenate([w.ravel() for w in self.weights]).view(np.uint64)
        return float(int(np.bitwise_xor.reduce(bits * np.arange(1, 2 * len(bits), 2, dtype=np.uint64))) >> 12)

    def _layers(self, images: Array) -> list[Array]:
        layers = [images]
        for index, w in enumerate(self.weights):
            out = layers[-1] @ w[:-1] + w[-1]
            layers.append(out if index == len(self.weights) - 1 else np.maximum(out, 0.0))
        return layers

    def _step(self, images: Array, digits: NDArray[np.int64]) -> None:
        """Take one step of stochastic gradient descent with momentum on the cross-entropy."""
        layers = self._layers(images)
        scores = np.exp(layers[-1] - layers[-1].max(axis=1, keepdims=True))
        delta = scores / scores.sum(axis=1, keepdims=True)
        delta[np.arange(len(digits)), digits] -= 1.0
        delta /= len(digits)
        for index in reversed(range(len(self.weights))):
            w = self.weights[index]
            gradient = np.vstack([layers[index].T @ delta + self.params["decay"] * w[:-1], delta.sum(axis=0)])
            if index:
                delta = (delta @ w[:-1].T) * (layers[index] > 0)
            self.speeds[index] = self.params["momentum"] * self.speeds[index] - self.params["learning_rate"] * gradient
            self.weights[index] = w + self.speeds[index]


if __name__ == "__main__":
    main()
