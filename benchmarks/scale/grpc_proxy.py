"""``python -m benchmarks.scale.grpc_proxy URL PORT``: Optuna's gRPC proxy before a database."""

from __future__ import annotations

import sys
import warnings

import optuna


def main() -> None:
    """Serve until SIGTERM."""
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    storage = optuna.storages.RDBStorage(sys.argv[1], engine_kwargs={"pool_size": 20, "max_overflow": 0})
    cached = optuna.storages.get_storage(storage)  # as its documentation has it
    optuna.storages.run_grpc_proxy_server(cached, host="127.0.0.1", port=int(sys.argv[2]))


if __name__ == "__main__":
    main()
