"""Real problems: models of scikit-learn on the real data that come with it, by threefold cross-validation.

A training is repeatable, and every space is finite. So each point is trained once for all optimizers, seeds and
modes, and a memory on disk keeps the result.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Any

from gridtune_common.space import SearchSpace

from .instances import REAL, Family, Instance, Point, parse
from .memory import Memory

_LOG_C = {"type": "float", "low": -3, "high": 4, "step": 0.5}
_LOG_GAMMA = {"type": "float", "low": -5, "high": 1, "step": 0.25}


def _svm_digits() -> SearchSpace:
    return parse(
        log_c=_LOG_C,
        log_gamma=_LOG_GAMMA,
        kernel=["rbf", "sigmoid", "poly"],
        degree={"type": "int", "low": 2, "high": 4, "when": {"kernel": "poly"}},
    )


def _train_svm_digits(point: Point) -> float:
    from sklearn.svm import SVC

    model = SVC(
        C=10 ** point["log_c"], gamma=10 ** point["log_gamma"], kernel=point["kernel"], degree=point.get("degree", 3)
    )
    return 1 - _score(_scaled(model), "digits", "accuracy", rows=500)


def _svr_diabetes() -> SearchSpace:
    return parse(
        log_c=_LOG_C,
        log_gamma=_LOG_GAMMA,
        epsilon={"type": "ordinal", "choices": [0.01, 0.03, 0.1, 0.3, 0.6, 1.0]},
    )


def _train_svr_diabetes(point: Point) -> float:
    from sklearn.svm import SVR

    model = SVR(C=10 ** point["log_c"], gamma=10 ** point["log_gamma"], epsilon=point["epsilon"], max_iter=20_000)
    return 1 - _score(_scaled(model), "diabetes", "r2")


def _boosting_diabetes() -> SearchSpace:
    return parse(
        rate={"type": "ordinal", "choices": [0.01, 0.02, 0.04, 0.07, 0.1, 0.15, 0.2, 0.3, 0.5, 0.8]},
        n_trees={"type": "int", "low": 5, "high": 50, "step": 5},
        depth={"type": "int", "low": 1, "high": 5},
        subsample={"type": "ordinal", "choices": [0.3, 0.6, 1.0]},
        loss=["squared_error", "huber"],
    )


def _train_boosting_diabetes(point: Point) -> float:
    from sklearn.ensemble import GradientBoostingRegressor

    model = GradientBoostingRegressor(
        learning_rate=point["rate"],
        n_estimators=point["n_trees"],
        max_depth=point["depth"],
        subsample=point["subsample"],
        loss=point["loss"],
        max_features=0.5,
        random_state=0,
    )
    return 1 - _score(model, "diabetes", "r2")


def _mlp_wine() -> SearchSpace:
    return parse(
        log_rate={"type": "float", "low": -4, "high": -0.5, "step": 0.25},
        log_alpha={"type": "float", "low": -5, "high": 1, "step": 0.5},
        width={"type": "ordinal", "choices": [3, 6, 12, 24]},
        batch={"type": "ordinal", "choices": [16, 64]},
        activation=["relu", "tanh"],
    )


def _train_mlp_wine(point: Point) -> float:
    from sklearn.neural_network import MLPClassifier

    model = MLPClassifier(
        (point["width"],),
        learning_rate_init=10 ** point["log_rate"],
        alpha=10 ** point["log_alpha"],
        batch_size=point["batch"],
        activation=point["activation"],
        max_iter=12,
        random_state=0,
    )
    return -_score(_scaled(model), "wine", "neg_log_loss")


def _forest_diabetes() -> SearchSpace:
    return parse(
        depth={"type": "int", "low": 1, "high": 12},
        features={"type": "float", "low": 0.1, "high": 1, "step": 0.1},
        leaf={"type": "ordinal", "choices": [1, 2, 4, 8, 16, 32]},
        bootstrap=[True, False],
    )


def _train_forest_diabetes(point: Point) -> float:
    from sklearn.ensemble import RandomForestRegressor

    model = RandomForestRegressor(
        12,
        max_depth=point["depth"],
        max_features=point["features"],
        min_samples_leaf=point["leaf"],
        bootstrap=point["bootstrap"],
        random_state=0,
    )
    return 1 - _score(model, "diabetes", "r2")


def _model_cancer() -> SearchSpace:
    return parse(
        model=["svm", "logistic", "neighbours"],
        scaler=["none", "standard", "quantile"],
        log_c={**_LOG_C, "when": {"model": ["svm", "logistic"]}},
        log_gamma={**_LOG_GAMMA, "when": {"model": "svm"}},
        balanced={"type": "categorical", "choices": [True, False], "when": {"model": ["svm", "logistic"]}},
        k={"type": "int", "low": 1, "high": 40, "when": {"model": "neighbours"}},
        weights={"type": "categorical", "choices": ["uniform", "distance"], "when": {"model": "neighbours"}},
    )


def _train_model_cancer(point: Point) -> float:
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import QuantileTransformer, StandardScaler

    scalers = {"none": "passthrough", "standard": StandardScaler(), "quantile": QuantileTransformer(n_quantiles=100)}
    return 1 - _score(make_pipeline(scalers[point["scaler"]], _cancer_model(point)), "breast_cancer", "roc_auc")


def _cancer_model(point: Point) -> Any:
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.svm import SVC

    if point["model"] == "neighbours":
        return KNeighborsClassifier(point["k"], weights=point["weights"])
    weights = "balanced" if point["balanced"] else None
    if point["model"] == "svm":
        return SVC(C=10 ** point["log_c"], gamma=10 ** point["log_gamma"], class_weight=weights)
    return LogisticRegression(C=10 ** point["log_c"], class_weight=weights, max_iter=100)


def _scaled(model: Any) -> Any:
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), model)


def _score(model: Any, data: str, scoring: str, rows: int | None = None) -> float:
    from sklearn.model_selection import cross_val_score

    x, y = _data(data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # short trainings do not converge, and say so
        scores = cross_val_score(model, x[:rows], y[:rows], cv=3, scoring=scoring, error_score="raise")
    return float(scores.mean())


@functools.cache
def _data(name: str) -> tuple[Any, Any]:
    from sklearn import datasets

    x, y = getattr(datasets, f"load_{name}")(return_X_y=True)
    # the diabetes target in units of its spread, as the support vectors' epsilon wants it
    return (x, (y - y.mean()) / y.std()) if name == "diabetes" else (x, y)


def families(memory: Memory) -> tuple[Family, ...]:
    """The real problems, remembered there."""

    def family(name: str, space: Callable[[], SearchSpace], train: Callable[[Point], float]) -> Family:
        def instance(seed: int) -> Instance:
            return Instance(space=space(), loss=lambda point: memory.recall(name, point, train))

        return Family(name=name, block=REAL, instance=instance)

    return (
        family("svm-digits", _svm_digits, _train_svm_digits),
        family("svr-diabetes", _svr_diabetes, _train_svr_diabetes),
        family("boosting-diabetes", _boosting_diabetes, _train_boosting_diabetes),
        family("forest-diabetes", _forest_diabetes, _train_forest_diabetes),
        family("mlp-wine", _mlp_wine, _train_mlp_wine),
        family("model-cancer", _model_cancer, _train_model_cancer),
    )
