"""What the slots of an agent share."""

from __future__ import annotations

from dataclasses import dataclass

from gridtune_evaluation.carrier import Carrier
from gridtune_evaluation.chorus import Chorus
from gridtune_evaluation.data import Inputs
from gridtune_evaluation.gpus import GpuMeter
from gridtune_evaluation.logkeeper import LogKeeper
from gridtune_evaluation.plan import Plan
from gridtune_evaluation.quota import Quota
from gridtune_evaluation.runtimes.port import Runtime
from gridtune_evaluation.settings import Settings
from gridtune_evaluation.shutdown import Shutdown
from gridtune_evaluation.spool import Spool
from gridtune_evaluation.steering import Connect
from gridtune_evaluation.timeleft import TimeLeft
from gridtune_evaluation.workplace import Workplace


@dataclass(frozen=True)
class Equipment:
    """Everything here is safe to use from many threads; connections are not, so each thread opens its own."""

    settings: Settings
    plan: Plan
    connect: Connect
    runtime: Runtime
    workplace: Workplace
    spool: Spool
    quota: Quota
    shutdown: Shutdown
    carrier: Carrier
    logs: LogKeeper
    time_left: TimeLeft
    inputs: Inputs
    gpus: GpuMeter
    chorus: Chorus
