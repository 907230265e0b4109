"""The commands, by name: which module does it, and one line of help. Modules are loaded on use."""

from __future__ import annotations

from typing import NamedTuple


class Command(NamedTuple):
    """A row of the table of commands.

    Attributes:
        group: The heading in ``gridtune --help``.
        module: Has ``add_arguments(parser)``, ``run(arguments) -> int`` and a docstring, which is the long
        help. help: One line. extra: What to install when the module cannot be imported; None for what is
        always there.
    """

    group: str
    module: str
    help: str
    extra: str | None = None


GROUPS = ("start", "look", "change", "operate")

_HERE = "gridtune_common.cli.commands"

COMMANDS = {
    "run": Command("start", f"{_HERE}.run", "tune on this machine: service, workers and live view in one"),
    "submit": Command("start", f"{_HERE}.submit", "give a task file to the service"),
    "validate": Command("start", f"{_HERE}.validate", "check a task file"),
    "schema": Command("start", f"{_HERE}.schema", "print the JSON Schema of task files"),
    "tasks": Command("look", f"{_HERE}.tasks", "list tasks, newest first"),
    "show": Command("look", f"{_HERE}.show", "show a task"),
    "watch": Command("look", f"{_HERE}.watch", "follow a task until it ends"),
    "best": Command("look", f"{_HERE}.best", "show a task's best point"),
    "points": Command("look", f"{_HERE}.points", "list a task's points, or show one"),
    "logs": Command("look", f"{_HERE}.logs", "print what a point's evaluations have printed"),
    "events": Command("look", f"{_HERE}.events", "print a task's audit log"),
    "export": Command("look", f"{_HERE}.export", "save a task as JSON, CSV or an HTML report"),
    "pause": Command("change", f"{_HERE}.pause", "hand out no more points for now"),
    "resume": Command("change", f"{_HERE}.resume", "hand out points again"),
    "cancel": Command("change", f"{_HERE}.cancel", "end a task"),
    "extend": Command("change", f"{_HERE}.extend", "grant a task more points"),
    "add-point": Command("change", f"{_HERE}.add_point", "have points of your own tried next"),
    "import": Command("change", f"{_HERE}.import_results", "give the algorithm results from elsewhere to learn"),
    "delete": Command("change", f"{_HERE}.delete", "delete an ended task"),
    "serve": Command("operate", "gridtune_steering.commands.serve", "run the steering service", "steering"),
    "web": Command("operate", "gridtune_steering.commands.web", "run more web processes of a service", "steering"),
    "host": Command("operate", "gridtune_steering.commands.host", "run more optimizer hosts of a service", "steering"),
    "migrate": Command(
        "operate", "gridtune_steering.commands.migrate", "make a service's database, or bring it up to date", "steering"
    ),
    "doctor": Command("operate", "gridtune_steering.commands.doctor", "check the service's surroundings", "steering"),
    "backup": Command(
        "operate", "gridtune_steering.commands.backup", "copy the service's database and keys", "steering"
    ),
    "archive": Command("operate", f"{_HERE}.archive", "move ended tasks out of the database"),
    "agent": Command("operate", "gridtune_evaluation.command", "evaluate points on this machine"),
    "storage": Command("operate", f"{_HERE}.storage", "show what is stored: checkpoints and logs"),
    "workers": Command("operate", f"{_HERE}.workers", "list the machines that workers run on, or forgive one"),
    "token": Command("operate", f"{_HERE}.token", "create, list and revoke tokens"),
    "whoami": Command("operate", f"{_HERE}.whoami", "tell who the service takes you for"),
}
