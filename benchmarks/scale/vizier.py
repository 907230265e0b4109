"""``python -m benchmarks.scale.vizier FILE``: OSS Vizier's service on an SQLite file, with one study.

Its libraries do not go together with newer ones, so it has an environment of its own, of which it needs nothing else:

    uv venv vizier && uv pip install --python vizier/bin/python 'google-vizier[jax]' 'jax<0.5' requests
"""

from __future__ import annotations

import json
import sys

from vizier.service import clients, pyvizier, servers


def main() -> None:
    """Say where the service is, and serve until standard input closes."""
    server = servers.DefaultVizierServer(database_url=f"sqlite:///{sys.argv[1]}")
    clients.environment_variables.server_endpoint = server.endpoint
    study = clients.Study.from_study_config(_study(), owner="bench", study_id="bench")
    print(json.dumps({"endpoint": server.endpoint, "study": study.resource_name}), flush=True)
    sys.stdin.read()


def _study() -> pyvizier.StudyConfig:
    """The space of `objective`, without the condition."""
    config = pyvizier.StudyConfig(algorithm="RANDOM_SEARCH")
    root = config.search_space.root
    root.add_float_param("x", -5.0, 5.0)
    root.add_float_param("rate", 1e-5, 1e-1, scale_type=pyvizier.ScaleType.LOG)
    root.add_discrete_param("drop", [step / 20 for step in range(11)])
    root.add_int_param("width", 16, 512)
    root.add_int_param("layers", 1, 6)
    root.add_categorical_param("kind", ["adam", "sgd"])
    root.add_discrete_param("batch", [16, 32, 64])
    root.add_float_param("momentum", 0.5, 0.99)
    config.metric_information.append(pyvizier.MetricInformation("loss", goal=pyvizier.ObjectiveMetricGoal.MINIMIZE))
    return config


if __name__ == "__main__":
    main()
