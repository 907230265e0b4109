"""Says which CPUs and GPUs it has, and keeps each of its CPUs busy with a piece of numerical integration."""

import json
import math
import os
from concurrent.futures import ProcessPoolExecutor


def main() -> None:
    """Integrate by a rule with tunable nodes, in as many processes as this evaluation has CPUs."""
    with open("input.json") as file:
        parameters = json.load(file)
    cpus = sorted(os.sched_getaffinity(0))
    print(f"CPUs {cpus}, GPUs {os.environ.get('CUDA_VISIBLE_DEVICES', 'as they come')}")
    edges = [index / len(cpus) for index in range(len(cpus) + 1)]
    with ProcessPoolExecutor(len(cpus)) as pool:
        parts = pool.map(integral, edges, edges[1:], [parameters["node"]] * len(cpus))
    off = abs(sum(parts) - (math.e - 1))
    with open("output.json", "w") as file:
        json.dump({"log_error": math.log10(off + 1e-16), "cpus": len(cpus)}, file)


def integral(low: float, high: float, node: float) -> float:
    """Of exp, by two symmetric nodes in each of many small intervals; 1/sqrt(3) is Gauss's choice."""
    count, total = 20_000, 0.0
    width = (high - low) / count
    for index in range(count):
        middle = low + (index + 0.5) * width
        total += (math.exp(middle - node * width / 2) + math.exp(middle + node * width / 2)) * width / 2
    return total


if __name__ == "__main__":
    main()
