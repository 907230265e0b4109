"""Check a task file; every flaw is named with its place and how to mend it."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gridtune_common.cli import loading, output, space, text

if TYPE_CHECKING:
    from gridtune_common.dialects import Translation


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("file", type=Path, metavar="FILE", help="a task file, YAML or JSON")
    parser.add_argument("--show", action="store_true", help="print the canonical document, every default filled in")


def run(arguments: argparse.Namespace) -> int:
    """Check a task file."""
    from gridtune_common import dialects  # with the task file, only when there is one to read

    loaded = loading.load(arguments.file)
    document = loaded.task.to_json()
    if arguments.show:
        output.emit(document)
        return 0
    translation = dialects.translate(loaded.document)
    shipped = [f"shipped files: {', '.join(file.path for file in loaded.files)}"]
    for line in [
        f"{arguments.file} is a valid task",
        "",
        *lines(document),
        *(shipped if loaded.files else []),
        *_reading(translation),
    ]:
        output.say(line)
    return 0


def _reading(translation: Translation) -> list[str]:
    """What format the space was written in, and what its conversion changed."""
    if translation.dialect is None:
        return []
    notes = [f"  {text.plain(note)}" for note in translation.notes]
    return ["", f"read as: {translation.dialect}", *notes]


def lines(document: Mapping[str, Any]) -> list[str]:
    """A task document in short: what is searched, how, and until when."""
    return [
        *text.facts(
            [
                ("name", text.value(document.get("name"))),
                ("objective", _objectives(document.get("objective"))),
                ("algorithm", _named(document.get("algorithm"))),
                ("scheduler", _named(document.get("scheduler"))),
                ("stop", _stop(document.get("stop") or {})),
            ]
        ),
        "",
        *space.lines(document),
    ]


def _objectives(objective: Any) -> str:
    objectives = objective if isinstance(objective, list) else [objective]
    return ", ".join(f"{item.get('goal', '')} {item.get('metric', '')}".strip() for item in objectives if item)


def _named(section: Any) -> str:
    return text.value(section.get("name")) if isinstance(section, Mapping) else str(section or "")


def _stop(rules: Mapping[str, Any]) -> str:
    kept = {name: _rule(name, rule) for name, rule in rules.items() if rule is not None}
    return ", ".join(f"{name} {rule}" for name, rule in kept.items()) or "never by itself"


def _rule(name: str, rule: Any) -> str:
    return text.duration(rule) if name == "wall_time" and isinstance(rule, (int, float)) else text.value(rule)
