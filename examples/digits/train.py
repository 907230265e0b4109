"""Train a small neural network on scikit-learn's images of handwritten digits.

Under gridtune the hyperparameters come from the task; by hand (``python train.py``), also without gridtune, they are
the defaults below.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.datasets import load_digits
from sklearn.metrics import log_loss
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier

try:
    import gridtune
except ImportError:  # by hand, on a machine without gridtune
    gridtune = None  # type: ignore[assignment]

DEFAULTS: dict[str, Any] = {
    "learning_rate": 1e-3,
    "alpha": 1e-4,
    "layers": 1,
    "width": 100,
    "noise": 0.0,
    "activation": "relu",
    "optimizer": "adam",
    "batch_size": 128,
    "epochs": 80,
}


def main() -> None:
    """Train for all epochs, report after each, and leave the last error as the result."""
    params = DEFAULTS if gridtune is None else gridtune.params(default=DEFAULTS)
    train_images, val_images, train_digits, val_digits = data()
    model = network(params)
    noise = np.random.default_rng(1)
    val_error = 1.0

    for epoch in range(1, params["epochs"] + 1):
        seen = train_images + params["noise"] * noise.standard_normal(train_images.shape)
        model.partial_fit(seen, train_digits, classes=np.arange(10))
        val_error = 1.0 - float(model.score(val_images, val_digits))
        train_loss = float(log_loss(train_digits, model.predict_proba(train_images)))
        print(f"epoch {epoch}: val_error {val_error:.4f}, train_loss {train_loss:.4f}")
        if gridtune is not None:
            gridtune.report(epoch, val_error=val_error, train_loss=train_loss)
            if gridtune.should_stop():
                return

    if gridtune is not None:
        gridtune.result(val_error=val_error)


def data() -> list[Any]:
    """Return the images to train and to validate on, 64 pixels in [0, 1] each, and their digits; the split is fixed."""
    images, digits = load_digits(return_X_y=True)
    return list(train_test_split(images / 16.0, digits, train_size=0.3, stratify=digits, random_state=0))


def network(params: dict[str, Any]) -> MLPClassifier:
    """Return the network that *params* describe, not yet trained."""
    return MLPClassifier(
        hidden_layer_sizes=[params["width"]] * params["layers"],
        activation=params["activation"],
        solver=params["optimizer"],
        learning_rate_init=params["learning_rate"],
        momentum=params.get("momentum", 0.9),  # a parameter of sgd alone
        alpha=params["alpha"],
        batch_size=params["batch_size"],
        random_state=1,
    )


if __name__ == "__main__":
    main()
