"""The space and the objective of all who are measured, written down for each of them; needs nothing but Python."""

from __future__ import annotations

from typing import Any

SPACE: dict[str, Any] = {
    "x": {"type": "float", "low": -5.0, "high": 5.0},
    "rate": {"type": "float", "low": 1e-5, "high": 1e-1, "scale": "log"},
    "drop": {"type": "float", "low": 0.0, "high": 0.5, "step": 0.05},
    "width": {"type": "int", "low": 16, "high": 512, "scale": "log"},
    "layers": {"type": "int", "low": 1, "high": 6},
    "kind": ["adam", "sgd"],
    "batch": {"type": "ordinal", "choices": [16, 32, 64]},
    "momentum": {"type": "float", "low": 0.5, "high": 0.99, "when": {"kind": "sgd"}},
}


def document(algorithm: str, points: int = 10**6, seed: int = 7, space: dict[str, Any] | None = None) -> dict[str, Any]:
    """A task that does not end by itself before long."""
    return {
        "name": "bench",
        "space": space or SPACE,
        "objective": {"metric": "loss", "goal": "minimize"},
        "algorithm": {"name": algorithm, "seed": seed, "options": {}},
        "stop": {"points": points},
    }


def loss_of(parameters: dict[str, Any]) -> float:
    """A bowl with a better and a worse kind."""
    return float((parameters["x"] - 1) ** 2 + parameters["layers"] / 10 + (parameters["kind"] == "sgd"))
