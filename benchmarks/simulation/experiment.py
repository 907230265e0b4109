"""A whole simulated experiment: users who submit tasks, sites whose agents come and go, and the service."""

from __future__ import annotations

import dataclasses
import random
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import cycle
from pathlib import Path
from typing import Any, Final

from benchmarks.scale.objective import document

from gridtune_common.client import new_request_id
from gridtune_common.protocol import ChangeTask, CreateToken, Scope, SubmitTask, TaskAction
from gridtune_common.taskfile import parse_task
from gridtune_steering import optimizers
from gridtune_steering.bookkeeping.database import Database
from gridtune_steering.campaign import Campaign, Credit
from gridtune_steering.identity.secrets import service_key
from gridtune_steering.objectstore import open_store
from gridtune_steering.services import submission, tasks, tokens
from gridtune_steering.services.errors import Conflict
from gridtune_steering.services.steering import Steering
from gridtune_steering.settings import Settings

from .agents import Agent, Surroundings
from .clock import Agenda, Clock
from .growth import Growth, watch_statements
from .hosts import Doorbell, HostProcess, watched_hosts
from .journal import PARTS, Journal
from .plan import Plan
from .web import WebProcess, WebSide

#: In the beginning tasks come in within these seconds, and then agents within those.
_FIRST_TASKS, _FIRST_AGENTS = 60.0, 600.0
#: A herd comes within these seconds.
_HERD_SECONDS = 60.0
#: A launcher starts another agent so many seconds after one is gone.
_RESTART = (10.0, 120.0)
#: Batch systems give agents so many seconds.
_WALLTIME = (1800.0, 4 * 3600.0)
#: When a site is away, as shares of the time.
_AWAY = (0.5, 0.6)
#: So long after the end the hosts may go on, to learn what was told before it.
LAST_ORDERS: Final = 30.0


class Experiment:
    """One simulation.

    Args:
        plan: What it is to be.
        settings: The service's.
        server_pid: The database's server, if it has one.
    """

    def __init__(self, plan: Plan, settings: Settings, server_pid: int | None = None) -> None:
        self.plan, self.journal, self.clock = plan, Journal(plan.seconds), Clock()
        self.agenda = Agenda(self.clock)
        self._rng = random.Random(plan.seed)
        self._bell = Doorbell(self.agenda)
        self.databases = {who: Database(settings.database_url) for who in ("web", "hosts")}
        self.databases["web"].migrate()
        store = open_store(settings, self.clock, service_key(settings.data / "service.key"))
        surroundings = Steering(
            database=self.databases["web"], store=store, bell=self._bell, clock=self.clock, settings=settings
        )
        tokens.ensure_operator(surroundings)
        self.steering = surroundings
        self._operator = (settings.data / "operator.token").read_text().strip()
        for who, database in self.databases.items():
            watch_statements(database, who, self.clock, self.journal)
        self._web = self._bell.web = self._web_side(surroundings)
        thinking = dataclasses.replace(surroundings, database=self.databases["hosts"])
        self.hosts = self._bell.hosts = [
            HostProcess(self.agenda, thinking, f"simulated/{number}/0", self.journal) for number in range(plan.hosts)
        ]
        self.growth = Growth(self, server_pid)
        self.around = Surroundings(plan, self.agenda, self._web, self.journal, self._rng)
        self.agents: set[Agent] = set()
        self._n_agents_begun = self._n_tasks = 0
        self._secrets: dict[str, str] = {}
        self._crews: Counter[str] = Counter()
        self._algorithms = cycle(plan.algorithms)
        self.wall_seconds = 0.0

    def run(self) -> None:
        """Let all of it happen; then nobody begins anything any more, and the hosts have a moment for the rest."""
        for name in self.plan.algorithms:
            _load(name)
        begun = time.perf_counter()
        with watched_hosts(self.clock, self.journal):
            self._note_beginnings()
            for part in range(PARTS):
                self.growth.look()
                self.agenda.run(self.plan.seconds * (part + 1) / PARTS)
                print(self._progress(part, time.perf_counter() - begun), flush=True)
            self.growth.look()
            self.journal.is_over = True
            self.agenda.run(self.plan.seconds + LAST_ORDERS)
        self.wall_seconds = time.perf_counter() - begun

    def close(self) -> None:
        """Give all connections back."""
        for database in self.databases.values():
            database.close()

    def _progress(self, part: int, seconds: float) -> str:
        told, events = len(self.journal.acknowledged), self.agenda.n_done
        return f"{part + 1}/{PARTS}: {seconds:.0f} s, {events} events, {told} results, {len(self.journal.flaws)} flaws"

    def _web_side(self, steering: Steering) -> WebSide:
        plan = self.plan
        processes = [WebProcess(self.agenda, steering, self.journal, plan.http) for _ in range(plan.web)]
        return WebSide(self.agenda, processes, random.Random(plan.seed + 1))

    def _note_beginnings(self) -> None:
        plan, rng, agenda = self.plan, self._rng, self.agenda
        scale = min(1.0, plan.seconds / 7200)
        for _ in range(plan.tasks):
            agenda.after(rng.uniform(0.0, _FIRST_TASKS * scale), self._submit)
        n_herd = round(plan.herd * plan.agents)
        first = _FIRST_TASKS * scale + 5.0
        for number in range(plan.agents):
            site = f"site{number % plan.sites}"
            is_herd = number < n_herd
            moment = plan.seconds / 4 + rng.uniform(0.0, _HERD_SECONDS) if is_herd else None
            moment = first + rng.uniform(0.0, _FIRST_AGENTS * scale) if moment is None else moment
            agenda.after(moment, lambda site=site: self._begin_agent(site))  # type: ignore[misc]
        agenda.at(_AWAY[0] * plan.seconds, self._close_site)

    # --- users

    def _submit(self) -> None:
        self._n_tasks += 1
        algorithm = next(self._algorithms)
        spec = document(algorithm, points=self.plan.n_points(self._rng), seed=self._n_tasks)
        message = SubmitTask(new_request_id(), spec)

        def submitted(answer: Any) -> None:
            task = answer.summary.id
            token = CreateToken(new_request_id(), Scope.TASK, task=task)
            self._web.send(
                "create token", self._operator, lambda s, c: tokens.create(s, c, token), lambda made: known(task, made)
            )

        def known(task: str, made: Any) -> None:
            self._secrets[task] = made.secret
            self._crews[task] += 0
            if self._rng.random() < self.plan.cancelled:
                self.agenda.after(self._rng.uniform(0.1, 0.9) * self.plan.seconds, lambda: self._cancel(task))

        self._web.send("submit", self._operator, lambda s, c: submission.submit(s, c, message), submitted)

    def _cancel(self, task: str) -> None:
        message = ChangeTask(new_request_id(), TaskAction.CANCEL)

        def cancel(steering: Any, caller: Any) -> Any:
            changed = tasks.change(steering, caller, task, message)
            self.journal.ended.setdefault(task, self.agenda.now)
            return changed

        def answered(answer: Any) -> None:
            if isinstance(answer, Exception) and not isinstance(answer, Conflict):
                self.journal.flaws.append(f"task {task} could not be cancelled: {answer!r}")

        if task not in self.journal.ended:
            self._web.send("cancel", self._operator, cancel, answered)

    # --- sites

    def _begin_agent(self, site: str) -> None:
        self._replace_ended()
        if self._away == site or not self._crews:
            self.agenda.after(60.0, lambda: self._begin_agent(site))
            return
        self._n_agents_begun += 1
        task = min(self._crews, key=lambda name: (self._crews[name], name))
        self._crews[task] += 1
        vanishes = self._rng.random() < self.plan.vanishing
        self.agents.add(
            Agent(
                self.around,
                f"node{self._n_agents_begun}",
                site,
                (task, self._secrets[task]),
                walltime=self._rng.uniform(*_WALLTIME),
                vanishes_in=self._rng.uniform(0.0, 4 * self.plan.training) if vanishes else None,
                gone=self._gone,
            )
        )

    def _gone(self, agent: Agent) -> None:
        self.agents.discard(agent)
        if agent.task in self._crews:
            self._crews[agent.task] -= 1
        self._replace_ended()
        self.agenda.after(self._rng.uniform(*_RESTART), lambda: self._begin_agent(agent.site))

    def _replace_ended(self) -> None:
        """Whose task has ended submits another one."""
        for task in [task for task in self._crews if task in self.journal.ended]:
            del self._crews[task]
            self._submit()

    _away: str | None = None

    def _close_site(self) -> None:
        self._away = "site0"
        for agent in [agent for agent in self.agents if agent.site == self._away]:
            agent.leave()
        self.agenda.at(_AWAY[1] * self.plan.seconds, self._open_site)

    def _open_site(self) -> None:
        self._away = None


@contextmanager
def experiment(plan: Plan, folder: Path, url: str = "", server_pid: int | None = None) -> Iterator[Experiment]:
    """An experiment on a fresh database, by default SQLite in the folder."""
    settings = Settings.from_environment({}, data=folder, database=url, lease_seconds=plan.lease)
    made = Experiment(plan, settings, server_pid)
    with ExitStack() as stack:
        stack.callback(made.close)
        yield made


def _load(name: str) -> None:
    """Load an optimizer's library, as processes have done when they have been there for a while."""
    spec = parse_task(document(name))
    problem = submission.problem_of(spec, 1)
    optimizer = optimizers.create(name, problem, {})
    campaign = Campaign(
        objectives=spec.objectives, stop=spec.stop, problem=problem, optimizer=optimizer, initial_points=()
    )
    campaign.handle(Credit(1))
