"""An agent: prepares the place, starts its slots, and sees to it that nothing is left behind."""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Sequence
from contextlib import ExitStack, closing
from typing import Final

from gridtune_common import protocol
from gridtune_common.units import show_seconds
from gridtune_evaluation import runtimes, walltime
from gridtune_evaluation.cache import Cache
from gridtune_evaluation.carrier import Carrier, HttpCarrier
from gridtune_evaluation.chorus import Chorus
from gridtune_evaluation.data import Inputs
from gridtune_evaluation.delivery import deliver_leftovers
from gridtune_evaluation.equipment import Equipment
from gridtune_evaluation.fetching import AddressDesk
from gridtune_evaluation.gpus import GpuMeter
from gridtune_evaluation.hardware import Surroundings, look
from gridtune_evaluation.logkeeper import LogKeeper
from gridtune_evaluation.orphans import OrphanGuard
from gridtune_evaluation.outage import patiently
from gridtune_evaluation.plan import Plan
from gridtune_evaluation.quota import Quota
from gridtune_evaluation.settings import Settings
from gridtune_evaluation.shares import Share, most_slots, share_out
from gridtune_evaluation.shutdown import Shutdown
from gridtune_evaluation.slot import End, Slot
from gridtune_evaluation.spool import Spool
from gridtune_evaluation.steering import Connect, Steering
from gridtune_evaluation.timeleft import TimeLeft
from gridtune_evaluation.workplace import Workplace, make_private

_log = logging.getLogger("gridtune.agent")

#: Seconds for the slots to end after the second signal.
_HURRY: Final = 10.0
#: Seconds for the last logs; what is left then is for the next agent.
_LOGS: Final = 30.0


class Agent:
    """Evaluates the points of one task, some side by side.

    Args:
        connect: Opens a connection to the steering service.
        shutdown: How the agent is asked to end.
        carrier: Brings checkpoints to the object store and back; by HTTP unless told otherwise.
    """

    def __init__(
        self, settings: Settings, connect: Connect, shutdown: Shutdown, carrier: Carrier | None = None
    ) -> None:
        self._settings = settings
        self._connect = connect
        self._shutdown = shutdown
        self._carrier = carrier or HttpCarrier(settings.server, settings.ca)
        now = time.time()
        deadline = walltime.find(os.environ, flag_seconds=settings.walltime_seconds, now=now, started=now)
        self._time_left = TimeLeft(deadline)
        self._hardware = look(Surroundings(os.environ))
        if deadline is not None:
            left = show_seconds(max(deadline.at - time.time(), 0.0))
            _log.info("This agent has %s (%s).", left, deadline.source, extra={"action": "walltime_known"})

    def run(self) -> End:
        """Work until all slots have ended; the worst of their reasons is the agent's.

        Raises:
            ServiceError: The service said no, or was away for too long, before the first point.
            InvalidDocument: The task has no payload that this agent can run.
            ConfigurationError: The work folder cannot be used.
            RuntimeUnavailable: This node cannot run the task's image.
            CorruptFile: A file of the task is damaged.
            OSError: The disk.
        """
        make_private(self._settings.work)
        spool = Spool(self._settings.work)
        with self._connect() as steering:
            payload = self._payload(steering)
            if payload is None:
                return End.SHUTDOWN
            plan = Plan.read(payload)
            workplace = Workplace(self._settings.work, plan.task, keep=self._settings.keep_work)
            if not workplace.prepare(plan.files, lambda path: self._file(steering, path)):
                return End.SHUTDOWN
            deliver_leftovers(steering, spool, self._settings.server)
        guard = OrphanGuard()
        guard.start()
        cache = Cache(self._settings.cache or self._settings.work / "cache", self._settings.cache_bytes)
        with closing(guard), ExitStack() as held:
            runtime = held.enter_context(
                closing(runtimes.choose(self._settings.runtime, plan.runtime, plan.image, guard, cache))
            )
            runtime.sweep()
            inputs = self._inputs(plan, guard, cache)
            keeper = LogKeeper(workplace.logs, self._connect, self._carrier)
            keeper.start()
            end = self._run_slots(
                Equipment(
                    settings=self._settings,
                    plan=plan,
                    connect=self._connect,
                    runtime=runtime,
                    workplace=workplace,
                    spool=spool,
                    quota=Quota(self._settings.max_points),
                    shutdown=self._shutdown,
                    inputs=inputs,
                    carrier=self._carrier,
                    logs=keeper,
                    time_left=self._time_left,
                    gpus=held.enter_context(closing(GpuMeter(self._hardware.gpus))),
                    chorus=Chorus(),
                )
            )
            patience = 0.0 if self._shutdown.hurried else self._time_left.at_most(_LOGS)
            keeper.close(time.monotonic() + patience)
            return end

    def _payload(self, steering: Steering) -> protocol.Payload | None:
        return patiently(
            lambda: steering.payload(self._settings.task),
            "fetch the task",
            give_up_seconds=self._settings.give_up_seconds,
            shutdown=self._shutdown,
        )

    def _inputs(self, plan: Plan, guard: OrphanGuard, cache: Cache) -> Inputs:
        desk = AddressDesk(lambda source: self._locate(plan.task, source), self._settings.ca)
        inputs = Inputs(cache, guard, desk)
        if plan.data:
            inputs.prepare()
        return inputs

    def _locate(self, task: str, source: str) -> protocol.Download:
        with self._connect() as steering:
            return steering.locate_input(task, protocol.LocateInput(source))

    def _file(self, steering: Steering, path: str) -> bytes | None:
        return patiently(
            lambda: steering.file(self._settings.task, path),
            f"fetch {path}",
            give_up_seconds=self._settings.give_up_seconds,
            shutdown=self._shutdown,
        )

    def _run_slots(self, equipment: Equipment) -> End:
        agent = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        threads = [
            _SlotThread(Slot(f"{agent}-{number}", equipment, share, self._resources(share, equipment)), number)
            for number, share in enumerate(self._shares(equipment.plan), start=1)
        ]
        for thread in threads:
            thread.start()
        self._await(threads)
        return worst_of([thread.end for thread in threads])

    def _shares(self, plan: Plan) -> list[Share]:
        n_slots = self._settings.slots or most_slots(self._hardware, plan.needs)
        shares = share_out(self._hardware, n_slots)
        _note(plan, self._settings, shares)
        return shares

    def _resources(self, share: Share, equipment: Equipment) -> protocol.WorkerResources:
        return share.resources(self._hardware.arch, [equipment.runtime.name], self._settings.labels)

    def _await(self, threads: list[_SlotThread]) -> None:
        """Wait for the slots; after the second signal not for those that hang on the network."""
        hurried_at: float | None = None
        while any(thread.is_alive() for thread in threads):
            for thread in threads:
                thread.join(0.1)
            if self._shutdown.hurried:
                hurried_at = hurried_at or time.monotonic()
                if time.monotonic() > hurried_at + _HURRY:
                    return


def worst_of(ends: Sequence[End]) -> End:
    """Why an agent ended whose slots ended so; one that fits the task with some of its slots fits it."""
    fitting = [end for end in ends if end is not End.UNFIT]
    return max(fitting or ends, key=list(End).index)


class _SlotThread(threading.Thread):
    """Runs a slot; an error of the agent itself is shown by the interpreter, and remembered."""

    def __init__(self, slot: Slot, number: int) -> None:
        super().__init__(name=f"slot-{number}", daemon=True)
        self._slot = slot
        self.end = End.CRASHED

    def run(self) -> None:
        self.end = self._slot.run()


def _note(plan: Plan, settings: Settings, shares: Sequence[Share]) -> None:
    extra = {"action": "agent_began", "task": plan.task, "slots": len(shares)}
    slots = "1 slot" if len(shares) == 1 else f"{len(shares)} slots"
    what = "; ".join(share.in_words for share in shares)
    _log.info("Evaluating task %s in %s (%s) under %s.", plan.task, slots, what, settings.work, extra=extra)
    if plan.image and settings.runtime == "process":
        text = "The task names the image %s; this agent runs payloads as plain processes, without it."
        _log.warning(text, plan.image.name, extra={"action": "image_ignored"})
