"""Check the service's surroundings: settings, data folder, database, object store, secrets and public address.

Reads the same settings as 'gridtune serve', so run it as the same user, with the same variables. It may run beside the
service. It changes nothing: a small object is written to the store and deleted again. Exit code 1 if anything is wrong.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import textwrap
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from gridtune_common.cli import output, text
from gridtune_common.cli.output import Style
from gridtune_common.errors import ConfigurationError
from gridtune_common.settings import local_service
from gridtune_steering.checkup import Finding, Site, Verdict, examine
from gridtune_steering.checkup.finding import ok, wrong
from gridtune_steering.settings import Settings

_COLOURS = {Verdict.OK: "green", Verdict.WARNING: "yellow", Verdict.WRONG: "red"}
_NARROWEST = 60


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    parser.add_argument("--data", type=Path, metavar="DIR", help="data folder (default: gridtune-data)")
    parser.add_argument("--url", metavar="URL", help="also look at the address by which agents reach the service")
    parser.add_argument("--ca", metavar="FILE", help="with --url: certificate authorities to trust")
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of text")


def run(arguments: argparse.Namespace) -> int:
    """Look at everything, and say how it stands."""
    if arguments.ca is not None and not Path(arguments.ca).is_file():
        raise ConfigurationError(f"--ca: there is no file {arguments.ca}")
    logging.getLogger("gridtune").addHandler(logging.NullHandler())  # findings say it all
    os.umask(0o077)  # as the service does
    findings: list[Finding] = []
    style, width = output.style_of(sys.stdout), output.width_of(sys.stdout)
    for finding in _findings(arguments):
        findings.append(finding)
        if not arguments.json:
            for line in lines(finding, style, width):
                output.say(line)
            output.flush()  # some checks take seconds
    if arguments.json:
        output.say(json.dumps(document(findings), indent=2, ensure_ascii=not style.unicode))
    else:
        output.say("\n" + summary(findings, style))
    return int(any(finding.verdict is Verdict.WRONG for finding in findings))


def _findings(arguments: argparse.Namespace) -> Iterator[Finding]:
    try:
        settings = Settings.from_environment(data=arguments.data)
        settings = replace(settings, data=settings.data.resolve())
    except ConfigurationError as error:
        yield wrong("settings", str(error), "see the table of settings in docs/operating.md")
        return
    local = local_service(settings.data)
    where = f"a service runs here as process {local.pid}, at {local.url}" if local else "no service runs here now"
    yield ok("settings", f"can be read; {where}")
    public = Site(arguments.url.rstrip("/"), arguments.ca) if arguments.url else None
    yield from examine(settings, running=Site(local.url) if local else None, public=public)


def lines(finding: Finding, style: Style, width: int | None) -> Iterator[str]:
    """A finding for people: how it stands, what was looked at, what was seen, and below it what to do."""
    head = f"{style.paint(f'{finding.verdict.value:<7}', _COLOURS[finding.verdict])}  {finding.check:<14}  "
    indent = " " * (7 + 2 + 14 + 2)
    sign = "→ " if style.unicode else "-> "
    seen = _wrapped(text.plain(finding.seen), indent, width)
    yield from (head + line if index == 0 else indent + line for index, line in enumerate(seen))
    if finding.advice:
        advice = _wrapped(finding.advice, indent + sign, width)
        yield from (indent + (sign if index == 0 else " " * len(sign)) + line for index, line in enumerate(advice))


def _wrapped(words: str, indent: str, width: int | None) -> Sequence[str]:
    """Lines that fit beside an indent; a pipe takes any length, and paths are left in one piece."""
    if width is None:
        return [words]
    room = max(width, _NARROWEST) - len(indent)
    return textwrap.wrap(words, room, break_long_words=False, break_on_hyphens=False) or [""]


def summary(findings: Sequence[Finding], style: Style) -> str:
    """How many of each kind there are."""
    counts = Counter(finding.verdict for finding in findings)
    words = [
        style.paint(_counted(counts[verdict], verdict), _COLOURS[verdict]) for verdict in Verdict if counts[verdict]
    ]
    return ", ".join(words)


def _counted(n: int, verdict: Verdict) -> str:
    return f"{n} {verdict.value}{'s' if verdict is Verdict.WARNING and n > 1 else ''}"


def document(findings: Sequence[Finding]) -> dict[str, object]:
    """The findings for machines."""
    worst = next(verdict for verdict in reversed(Verdict) if any(f.verdict is verdict for f in findings))
    return {
        "verdict": worst.value,
        "findings": [
            {"check": f.check, "verdict": f.verdict.value, "seen": f.seen, "advice": f.advice} for f in findings
        ],
    }
