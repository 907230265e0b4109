"""Simulated agents: they ask, send signs of life and results as `gridtune_evaluation` does, and train nothing."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from benchmarks.scale.objective import loss_of

from gridtune_common.client import new_request_id
from gridtune_common.protocol import (
    Advice,
    Ask,
    Fail,
    FailureCause,
    Heartbeat,
    Lease,
    Outcome,
    Release,
    ReleaseCause,
    Report,
    Reports,
    Sign,
    Signs,
    Tell,
    Verdict,
    Verdicts,
)
from gridtune_steering.services import leases, results
from gridtune_steering.services.errors import HostSetAside, TaskHasEnded, TooBusy, TooLittleTime

from .clock import Agenda
from .journal import Journal
from .plan import Plan
from .web import NothingYet, WebSide

#: How long an agent lets the service hold an ask.
_ASK_WAIT = 20.0
#: What an agent with so little time left does not begin.
_LEAST_TIME = 60.0


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What all agents share."""

    plan: Plan
    agenda: Agenda
    web: WebSide
    journal: Journal
    rng: random.Random


class Agent:
    """One agent on one node with its slots.

    Args:
        around: What all agents share.
        name: Unique among all agents.
        site: Where it runs.
        task: The id of its task, and the secret of its token.
        walltime: When the batch system ends it, in seconds from now.
        vanishes_in: When it falls silent without a word, in seconds from now; None if it does not.
        gone: Called when it has left or vanished.
    """

    def __init__(
        self,
        around: Surroundings,
        name: str,
        site: str,
        task: tuple[str, str],
        *,
        walltime: float,
        vanishes_in: float | None,
        gone: Callable[[Agent], None],
    ) -> None:
        self.around, self.name, self.site = around, name, site
        self.task, self.secret = task
        self.ends_at = around.agenda.now + walltime
        self.is_silent = False
        self.is_leaving = False
        self._gone = gone
        self.slots = [Slot(self, f"{name}/{number}") for number in range(around.plan.slots)]
        for slot in self.slots:
            around.agenda.after(around.rng.uniform(0.0, 1.0), slot.hunt)
        around.agenda.after(around.rng.uniform(0.0, around.plan.lease / 4), self._beat)
        around.agenda.after(walltime, self.leave)
        if vanishes_in is not None:
            around.agenda.after(vanishes_in, self._vanish)

    def leave(self) -> None:
        """End as on SIGTERM: all points are given back."""
        if not self.is_leaving and not self.is_silent:
            self.is_leaving = True
            for slot in list(self.slots):
                slot.leave()

    def slot_ended(self, slot: Slot) -> None:
        """One slot has nothing more to do."""
        self.slots.remove(slot)
        if not self.slots and not self.is_silent:
            self.is_silent = True
            self._gone(self)

    def _vanish(self) -> None:
        if self.is_silent or self.is_leaving:
            return
        self.is_silent = True
        for slot in self.slots:
            slot.vanish()
        self._gone(self)

    def _beat(self) -> None:
        if self.is_silent:
            return
        around = self.around
        training = [slot for slot in self.slots if slot.is_training]
        if len(training) > 1:
            self._say_together(training)
        elif training:
            self._say_alone(training[0])
        around.agenda.after(around.plan.lease / 4, self._beat)

    def _say_together(self, training: list[Slot]) -> None:
        message = Signs([slot.sign() for slot in training])
        said = [(slot, sign) for slot, sign in zip(training, message.signs, strict=True)]

        def answered(answer: Any) -> None:
            if isinstance(answer, Verdicts):
                for (slot, sign), verdict in zip(said, answer.verdicts, strict=True):
                    slot.heed(sign, verdict)
            else:
                self._not_heard(answer)

        self.around.web.send(
            "signs",
            self.secret,
            lambda steering, caller: leases.signs(steering, caller, message),
            answered,
            urgent=True,
        )

    def _say_alone(self, slot: Slot) -> None:
        sign = slot.sign()

        def answered(answer: Any) -> None:
            if isinstance(answer, Verdict):
                slot.heed(sign, answer)
            else:
                self._not_heard(answer)

        if sign.reports:
            reports = Reports(sign.epoch, sign.reports)
            self.around.web.send(
                "report", self.secret, lambda s, c: leases.report(s, c, sign.evaluation, reports), answered, urgent=True
            )
        else:
            beat = Heartbeat(sign.epoch)
            self.around.web.send(
                "heartbeat",
                self.secret,
                lambda s, c: leases.heartbeat(s, c, sign.evaluation, beat),
                answered,
                urgent=True,
            )

    def _not_heard(self, answer: Any) -> None:
        if not isinstance(answer, TooBusy):  # then the next beat is in time
            self.around.journal.flaws.append(f"signs of {self.name} were answered: {answer!r}")


class Slot:
    """One worker."""

    def __init__(self, agent: Agent, name: str) -> None:
        self._agent, self._name = agent, name
        self._around = agent.around
        self._lease: Lease | None = None
        self._is_ending = False
        self._is_gone = False
        self._hunts_since = 0.0
        self._step = 0

    @property
    def is_training(self) -> bool:
        """Whether it has a point and trains it."""
        return self._lease is not None and not self._is_ending

    @property
    def evaluation(self) -> str | None:
        """The evaluation that it trains."""
        return self._lease.evaluation if self._lease is not None and not self._is_ending else None

    # --- asking

    def hunt(self) -> None:
        """Begin to ask for a point."""
        self._hunts_since = self._around.agenda.now
        self._ask()

    def _ask(self) -> None:
        agent = self._agent
        left = agent.ends_at - self._around.agenda.now
        if self._is_gone or agent.is_silent:
            return
        if agent.is_leaving or left < _LEAST_TIME:
            self._end()
            return
        message = Ask(
            new_request_id(),
            self._name,
            site=agent.site,
            host=agent.name,
            agent_version="simulated",
            remaining_seconds=left,
            wait=_ASK_WAIT,
            takes_deltas=True,
        )
        self._send_ask(message)

    def _send_ask(self, message: Ask) -> None:
        def answered(answer: Any) -> None:
            if isinstance(answer, TooBusy):
                self._later(1.0, lambda: self._send_ask(message))
            else:
                self._take(answer)

        if not self._agent.is_silent:
            self._around.web.ask(self._agent.task, self._agent.secret, message, answered)

    def _take(self, answer: Any) -> None:
        journal, agenda = self._around.journal, self._around.agenda
        if isinstance(answer, Lease):
            waited = agenda.now - self._hunts_since
            journal.leased(answer, now=agenda.now, waited=waited)
            self._lease, self._is_ending, self._step = answer, False, 0
            if self._agent.is_silent:  # it vanished while the answer was on its way
                self.vanish()
            elif self._agent.is_leaving:
                self.leave()
            else:
                evaluation = answer.evaluation
                seconds = self._around.plan.training_seconds(self._around.rng)
                agenda.after(seconds, lambda: self._trained(evaluation))
        elif isinstance(answer, NothingYet):
            self._later(answer.retry_after, self._ask)
        elif isinstance(answer, HostSetAside):
            journal.counts["asks of hosts that were set aside"] += 1
            self._later(answer.seconds, self._ask)
        elif isinstance(answer, TaskHasEnded | TooLittleTime):
            self._end()
        else:
            journal.flaws.append(f"an ask of {self._name} was answered: {answer!r}")
            self._end()

    def _later(self, seconds: float, do: Callable[[], None]) -> None:
        """Come again as agents do: the service's answer is in whole seconds and drawn, and so is the pause."""
        rng = self._around.rng
        told = int(rng.uniform(seconds, 1.5 * seconds) + rng.uniform(0.5, 1.5))
        self._around.agenda.after(max(rng.uniform(told / 2, told), 0.05), do)

    # --- training

    def sign(self) -> Sign:
        """What it has to say for itself."""
        assert self._lease is not None
        plan = self._around.plan
        reports = []
        if self._around.rng.random() < plan.reports * plan.lease / 4 / plan.training:
            self._step += 1
            reports = [Report(self._step, {"loss": self._around.rng.random()})]
        return Sign(self._lease.evaluation, self._lease.epoch, reports)

    def heed(self, sign: Sign, verdict: Verdict) -> None:
        """Do what the answer to a sign of life says."""
        if self._agent.is_silent or not self.is_training:
            return
        lease = self._lease
        if lease is None or lease.evaluation != sign.evaluation or verdict.advice is Advice.CONTINUE:
            return
        if verdict.advice is Advice.LOST:
            self._around.journal.flaws.append(
                f"evaluation {sign.evaluation} was lost by a live worker: {verdict.reason}"
            )
        else:
            self._around.journal.stopped(lease.task, self._around.agenda.now)
        self._give_back(ReleaseCause.STOPPED)

    def _trained(self, evaluation: str) -> None:
        if self._lease is None or self._lease.evaluation != evaluation or not self.is_training or self._agent.is_silent:
            return
        if self._around.rng.random() < self._around.plan.failing:
            fail = Fail(
                new_request_id(), self._lease.epoch, FailureCause.EXIT_CODE, f"exit code 1 of {evaluation}", exit_code=1
            )
            self._say_last("fail", fail, results.fail)
        else:
            told: dict[str, float | None] = {"loss": loss_of(self._lease.parameters)}
            tell = Tell(new_request_id(), self._lease.epoch, told, exit_code=0)
            self._say_last("tell", tell, results.tell)

    def _give_back(self, cause: ReleaseCause) -> None:
        assert self._lease is not None
        release = Release(new_request_id(), self._lease.epoch, cause, leaving=self._agent.is_leaving)
        self._say_last("release", release, results.release)

    def _say_last(self, kind: str, message: Any, how: Callable[..., Outcome]) -> None:
        lease = self._lease
        assert lease is not None
        self._is_ending = True
        around, agenda = self._around, self._around.agenda

        def call(steering: Any, caller: Any) -> Outcome:
            outcome = how(steering, caller, lease.evaluation, message)
            around.journal.let_go(lease.task, lease.point, lease.evaluation)
            if kind == "tell" and outcome.accepted:
                around.journal.stored(lease.task, lease.point, agenda.now)
            return outcome

        def answered(answer: Any) -> None:
            if self._agent.is_silent:
                if kind == "tell" and isinstance(answer, Outcome) and answer.accepted:
                    self._note(lease, answer, message)
                return
            if isinstance(answer, TooBusy):
                self._later(1.0, lambda: self._say_last(kind, message, how))
            elif isinstance(answer, Outcome):
                self._note(lease, answer, message)
                self._lease = None
                self.hunt()
            else:
                around.journal.flaws.append(f"{kind} of {lease.evaluation} was answered: {answer!r}")
                self._lease = None
                self._end()

        around.web.send(kind, self._agent.secret, call, answered, urgent=True)

    def _note(self, lease: Lease, outcome: Outcome, message: Any) -> None:
        journal, now = self._around.journal, self._around.agenda.now
        if isinstance(message, Tell) and outcome.accepted:
            loss = message.metrics["loss"]
            assert loss is not None
            journal.told(lease.task, lease.point, lease.evaluation, loss, now)
        elif not outcome.accepted:
            kind = type(message).__name__.lower()
            journal.counts[f"of no use: {kind}, {dataclasses.astuple(outcome)[1].partition(':')[0]}"] += 1

    # --- the end

    def leave(self) -> None:
        """Give back what it has; what is being told already is told."""
        if self.is_training:
            self._give_back(ReleaseCause.WALLTIME)

    def vanish(self) -> None:
        """Fall silent, with whatever point it has."""
        if self._lease is not None:
            self._around.journal.vanished.add(self._lease.evaluation)
            self._around.journal.let_go(self._lease.task, self._lease.point, self._lease.evaluation)

    def _end(self) -> None:
        if not self._is_gone and not self._agent.is_silent:
            self._is_gone = True
            self._agent.slot_ended(self)
