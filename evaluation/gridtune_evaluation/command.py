"""Evaluate the points of a task on this machine.

An agent needs nothing but HTTPS to the steering service. It asks for points, runs the task's command on each,
renews its leases, and delivers the results; a result that it cannot deliver waits in the work folder for the
next agent.

SIGTERM or SIGINT: payloads get SIGTERM and the task's grace, their points go back to the service, and the
agent ends with exit code 0; with 3 if the service is away, so that this waits in the work folder. A second
signal kills the payloads at once.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final

from gridtune_common import settings as common
from gridtune_common import units
from gridtune_common.cli.connection import connected
from gridtune_common.cli.exits import ExitCode
from gridtune_common.client import Client
from gridtune_common.errors import ConfigurationError, GridtuneError
from gridtune_common.parent import stop_with_parent
from gridtune_evaluation.agent import Agent
from gridtune_evaluation.runtimes import AUTO, RUNTIMES
from gridtune_evaluation.settings import Settings, default_cache, default_work
from gridtune_evaluation.shutdown import Shutdown, shutdown_on_signals
from gridtune_evaluation.slot import End

_log = logging.getLogger("gridtune.agent")

_EXIT_CODES: Final[Mapping[End, ExitCode]] = {
    End.TASK_ENDED: ExitCode.OK,
    End.POINTS_DONE: ExitCode.OK,
    End.WALLTIME: ExitCode.OK,
    End.IDLE: ExitCode.OK,
    End.SHUTDOWN: ExitCode.OK,
    End.UNDELIVERED: ExitCode.UNREACHABLE,
    End.GAVE_UP: ExitCode.UNREACHABLE,
    End.UNFIT: ExitCode.UNFIT,
    End.REFUSED: ExitCode.REFUSED,
    End.UNAUTHORISED: ExitCode.UNAUTHORISED,
    End.CRASHED: ExitCode.UNSUCCESSFUL,
}
#: Seconds that a connection tries by itself; the agent's own patience is longer and listens to signals.
_RETRY_FOR: Final = 5.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the agent's flags."""
    add = parser.add_argument
    add("--server", metavar="URL", help="base URL of the service (GRIDTUNE_SERVER)")
    add(
        "--token-file",
        metavar="FILE",
        help="file with the token (GRIDTUNE_TOKEN_FILE; or GRIDTUNE_TOKEN: the token)",
    )
    add("--ca", metavar="FILE", help="certificate authorities to trust (GRIDTUNE_CA)")
    add("--task", metavar="TASK", required=True, help="the task to evaluate: its id or name")
    add(
        "--slots",
        metavar="N",
        type=_slots,
        default=1,
        help="points to evaluate side by side, each with its share of the CPUs and GPUs; "
        "auto: as many as fit what the task asks for (default: 1)",
    )
    add("--site", metavar="NAME", default="", help="name of this place in the bookkeeping")
    add(
        "--label",
        metavar="NAME=VALUE",
        type=_label,
        action="append",
        default=[],
        help="something that tasks can ask for (resources.requires); can be repeated",
    )
    add(
        "--runtime",
        choices=[AUTO, *RUNTIMES],
        help="how payloads run (GRIDTUNE_RUNTIME; default: auto, by the task and by what this node has)",
    )
    add(
        "--work-dir",
        metavar="DIR",
        type=Path,
        help="where payloads run and undelivered results wait; agents may share it "
        "(GRIDTUNE_WORK_DIR; else a folder of your own under the temporary one)",
    )
    add(
        "--cache-dir",
        metavar="DIR",
        type=Path,
        help="where the inputs of tasks (payload.data) are kept for all agents of yours on this node "
        "(GRIDTUNE_CACHE_DIR; else cache in the work folder)",
    )
    add(
        "--cache-size",
        metavar="SIZE",
        type=_size,
        default=50 * 2**30,
        help="how large that may become; what was not used for longest goes first (default: 50GiB)",
    )
    add("--keep-work", action="store_true", help="leave working directories behind, for a look at them")
    add("--exit-when-idle", metavar="TIME", type=_duration, help="end after this time without a point: 90, 5m")
    add("--max-points", metavar="K", type=_count, help="end after K points")
    add(
        "--give-up-after",
        metavar="TIME",
        type=_duration,
        default=3600.0,
        help="stop asking, and end payloads, when the service has been away for this time (default: 1h)",
    )
    add(
        "--walltime",
        metavar="TIME",
        type=_duration,
        help="how long this agent may run: 55m (GRIDTUNE_WALLTIME; else what the batch system says)",
    )
    add("--stop-with-parent", action="store_true", help="end, as at SIGTERM, when standard input closes")
    add("--verbose", action="store_true", help="log more")


def run(arguments: argparse.Namespace) -> int:
    """Run an agent to its end and return the exit code.

    Raises:
        GridtuneError: The agent could not begin its work.
    """
    logging.basicConfig(stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s")
    _log.setLevel(logging.DEBUG if arguments.verbose else logging.INFO)
    flags = {name: getattr(arguments, name) for name in ("server", "token_file", "ca")}
    found = common.Settings.read(flags, os.environ)
    for warning in found.warnings:
        _log.warning("%s", warning, extra={"action": "settings"})
    connection = found.connection()
    if arguments.stop_with_parent:
        stop_with_parent()
    with connected(connection) as client:
        arguments.task = client.task_id(arguments.task)
    end = _run_agent(settings_from(arguments, connection, os.environ), connection)
    return _EXIT_CODES[end]


def settings_from(
    arguments: argparse.Namespace, connection: common.Connection, environment: Mapping[str, str]
) -> Settings:
    """What the flags and variables say about the agent itself."""
    cache = arguments.cache_dir or default_cache(environment)
    return Settings(
        server=connection.server,
        task=arguments.task,
        slots=arguments.slots,
        work=Path(os.path.abspath(arguments.work_dir or default_work(environment))),
        site=arguments.site,
        runtime=_runtime(arguments.runtime, environment),
        labels=dict(arguments.label),
        keep_work=arguments.keep_work,
        idle_exit_seconds=arguments.exit_when_idle,
        max_points=arguments.max_points,
        give_up_seconds=arguments.give_up_after,
        ca=connection.ca,
        walltime_seconds=arguments.walltime,
        cache=Path(os.path.abspath(cache)) if cache else None,
        cache_bytes=arguments.cache_size,
    )


def _run_agent(settings: Settings, connection: common.Connection) -> End:
    def connect() -> AbstractContextManager[Client]:
        return connected(connection, retry_for=_RETRY_FOR)

    shutdown = Shutdown()
    with shutdown_on_signals(shutdown):
        try:
            return Agent(settings, connect, shutdown).run()
        except OSError as error:
            raise GridtuneError(f"the work folder {settings.work} cannot be used: {error}") from error


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number above zero")
    return int(text)


def _slots(text: str) -> int | None:
    return None if text == AUTO else _count(text)


def _label(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name.strip():
        raise argparse.ArgumentTypeError(f"{text!r} is no label; write NAME=VALUE")
    return name.strip(), value.strip()


def _runtime(flag: str | None, environment: Mapping[str, str]) -> str:
    chosen = flag or environment.get("GRIDTUNE_RUNTIME") or AUTO
    if chosen != AUTO and chosen not in RUNTIMES:
        known = ", ".join([AUTO, *RUNTIMES])
        raise ConfigurationError(f"GRIDTUNE_RUNTIME: there is no runtime {chosen!r}; there are {known}")
    return chosen


def _duration(text: str) -> float:
    """Seconds, with or without a unit."""
    try:
        return float(text) if text.replace(".", "", 1).isdecimal() else units.seconds(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _size(text: str) -> int:
    """Bytes, with their unit."""
    try:
        return units.n_bytes(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
