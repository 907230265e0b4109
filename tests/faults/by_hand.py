"""Runs of chosen seeds and any length, with a table of what was done and what came of it."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from event_log import Unexplained
from faults.chaos import S3_EVERY, Outcome, run
from faults.invariants import gather, violations
from servers.ceph import Ceph, is_installed
from servers.postgres import Postgres


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, print, and tell whether all was well."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--seed", type=int, default=0, help="the first seed (default: %(default)s)")
    parser.add_argument("--runs", type=int, default=1, help="how many seeds, counting up (default: %(default)s)")
    parser.add_argument("--faults", type=int, default=40, help="faults of each run (default: %(default)s)")
    parser.add_argument("--only", default="", metavar="TEXT", help="only kinds of faults with this in their name")
    parser.add_argument("--large", action="store_true", help="several web processes and hosts, on PostgreSQL")
    parser.add_argument("--keep", action="store_true", help="keep the folders of runs in which all was well, too")
    chosen = parser.parse_args(arguments)
    seeds = range(chosen.seed, chosen.seed + chosen.runs)
    with _ceph(any(seed % S3_EVERY == 0 for seed in seeds)) as ceph, _postgres(chosen.large) as postgres:
        n_bad = sum(_run(seed, chosen, postgres, ceph if seed % S3_EVERY == 0 else None) for seed in seeds)
    return 1 if n_bad else 0


@contextmanager
def _ceph(is_wanted: bool) -> Iterator[Ceph | None]:
    if not is_wanted or not is_installed():
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="ceph-") as folder:
        store = Ceph(Path(folder))
        try:
            store.start()
            yield store
        finally:
            store.end()


@contextmanager
def _postgres(is_wanted: bool) -> Iterator[Postgres | None]:
    if not is_wanted:
        yield None
        return
    server = Postgres(Path(tempfile.mkdtemp(prefix="faults-postgres-")))
    server.make()
    try:
        yield server
    finally:
        server.end()


def _run(seed: int, chosen: argparse.Namespace, postgres: Postgres | None, ceph: Ceph | None) -> bool:
    folder = Path(tempfile.mkdtemp(prefix=f"faults-{seed}-"))
    outcome = run(folder, seed=seed, n_faults=chosen.faults, only=chosen.only, postgres=postgres, ceph=ceph)
    found = violations(outcome)
    with suppress(Unexplained):  # that is among the violations
        sys.stdout.write(summary(outcome) + "\n")
    sys.stdout.writelines(f"  VIOLATED {line}\n" for line in found)
    if found or chosen.keep:
        sys.stdout.write(f"  everything is in {folder}\n")
    else:
        shutil.rmtree(folder)
    sys.stdout.flush()
    return bool(found)


def summary(outcome: Outcome) -> str:
    """A table of a run."""
    evidence = gather(outcome)
    states = Counter(row.state.value for row in evidence.exported.evaluations)
    n_steps = sum(len(training.steps) for training in evidence.trainings.values())
    n_hit = sum(berth.proxy.n_hit for berth in outcome.berths)
    lines = [
        f"seed {outcome.seed}: {outcome.faults.n_faults} faults in {outcome.seconds:.0f} s",
        *(f"  {n:5d}  {kind}" for kind, n in sorted(outcome.faults.kinds.items())),
        f"  points {len(evidence.points)}, evaluations {len(evidence.evaluations)}: "
        + ", ".join(f"{n} {state}" for state, n in sorted(states.items())),
        f"  agents {sum(berth.n_agents for berth in outcome.berths)}, connections harmed {n_hit}, "
        f"results acknowledged {len(evidence.acknowledged)}",
        f"  steps {n_steps}, of which repeated {evidence.n_repeated_steps} "
        f"({evidence.n_repeated_steps / max(n_steps, 1):.1%})",
        f"  checkpoints {sum(len(told.committed) for told in evidence.tale.evaluations.values())}, "
        f"of which deltas {sum(len(told.bases) for told in evidence.tale.points.values())}, "
        f"missed {evidence.n_missed_checkpoints}, gone on from "
        f"{sum(training.began_with.step > 0 for training in evidence.trainings.values())}",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
