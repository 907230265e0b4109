"""A stand-in for Apptainer, for there is no package of it: the documented command line, over the real ``ch-run``.

It takes no option but those that Apptainer 1.0 documents, and arranges its processes likewise: a parent that passes
signals on, a process 1 that does so again, the program as its child; beside them one that serves the image's files,
which a signal to the whole group would end.
"""

from __future__ import annotations

import argparse
import csv
import ctypes
import json
import os
import shutil
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

_CLONE_NEWPID = 0x20000000
#: Where each call is written down, one line a call, and where images of registries are.
LOG, REGISTRY = "STAND_IN_LOG", "STAND_IN_REGISTRY"
#: What image files have behind their first line: a magic word, versions, an id.
HEADER = b"SIF_MAGIC\x0001\x0002\x00" + bytes(range(16))


@dataclass(frozen=True)
class Apptainer:
    """The stand-in below a folder.

    Attributes:
        image: What it can fetch and run.
    """

    folder: Path
    image: str = "docker://registry.test/python:1"

    def install(self, unpacked: Path) -> dict[str, str]:
        """Make it a program and its image a file; the variables that it needs."""
        programs, registry = self.folder / "bin", self.folder / "registry"
        programs.mkdir(parents=True)
        program = programs / "apptainer"
        program.write_text(f"#!{sys.executable} -IS\n{Path(__file__).read_text()}")
        program.chmod(0o755)
        file = registry / self.image.partition("://")[2]
        file.parent.mkdir(parents=True)
        file.write_bytes(b"#!/usr/bin/env run-singularity\n".ljust(32) + HEADER + str(unpacked).encode())
        path = f"{programs}{os.pathsep}{os.environ['PATH']}"
        return {"PATH": path, LOG: str(self.folder / "log"), REGISTRY: str(registry)}

    def calls(self) -> list[Any]:
        """What it was asked to do, and what happened to it."""
        return [json.loads(line) for line in (self.folder / "log").read_text().splitlines()]


def main() -> None:
    """Do what the arguments say."""
    with open(os.environ[LOG], "a") as log:
        log.write(json.dumps({"words": sys.argv[1:], "variables": dict(os.environ)}) + "\n")
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--silent", action="store_true")
    commands = parser.add_subparsers(required=True, dest="command")
    pull = commands.add_parser("pull", allow_abbrev=False)
    pull.add_argument("--disable-cache", action="store_true")
    pull.add_argument("target", type=Path)
    pull.add_argument("address")
    run = commands.add_parser("exec", allow_abbrev=False)
    for flag in ("--containall", "--cleanenv", "--no-home", "--nv", "--net"):
        run.add_argument(flag, action="store_true")
    run.add_argument("--network")
    run.add_argument("--pwd", default="/")
    run.add_argument("--mount", action="append", default=[])
    run.add_argument("image", type=Path)
    run.add_argument("program", nargs=argparse.REMAINDER)
    arguments = parser.parse_args()
    if arguments.command == "pull":
        _pull(arguments)
    else:
        _exec(arguments)


def _pull(arguments: argparse.Namespace) -> None:
    kind, _, name = arguments.address.partition("://")
    source = Path(os.environ[REGISTRY], name)
    if kind not in ("docker", "oras", "library"):
        sys.exit(f"FATAL: Unsupported transport type: {kind}")
    if not source.is_file():
        sys.exit(f"FATAL: reading manifest: manifest unknown: {name}")
    if arguments.target.exists():
        sys.exit("FATAL: Image file already exists")
    shutil.copyfile(source, arguments.target)


def _exec(arguments: argparse.Namespace) -> None:
    if arguments.net and os.environ.get("STAND_IN_NETWORK") == "none of yours":
        sys.exit("FATAL: failed to create network namespace")
    words = _ch_run(arguments)
    server = _serve_files()
    assert ctypes.CDLL(None).unshare(_CLONE_NEWPID) == 0
    first = os.fork()
    if first == 0:
        _be_process_one(words)
    _pass_on(first)
    status = os.waitstatus_to_exitcode(os.waitpid(first, 0)[1])
    os.kill(server, signal.SIGKILL)
    sys.exit(status if status >= 0 else 128 - status)


def _serve_files() -> int:
    """Start what the image's files would come from; it says so if it is asked to end."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    server = os.fork()
    if server == 0:
        signal.sigwait({signal.SIGTERM})
        with open(os.environ[LOG], "a") as log:
            log.write(json.dumps("the image is gone") + "\n")
        os._exit(0)
    return server


def _be_process_one(words: list[str]) -> NoReturn:
    child = os.fork()
    if child == 0:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
        os.execvpe(words[0], words, {"USER": "somebody", **os.environ})  # noqa: S606 - as the real one does
    _pass_on(child)
    while True:
        ended, status = os.wait()
        if ended == child:
            code = os.waitstatus_to_exitcode(status)
            os._exit(code if code >= 0 else 128 - code)


def _pass_on(child: int) -> None:
    signal.signal(signal.SIGTERM, lambda *_: os.kill(child, signal.SIGTERM))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})


def _ch_run(arguments: argparse.Namespace) -> list[str]:
    """The same for the program that is here; a file stands for the folder that it names."""
    image = arguments.image
    if image.is_file():
        image = Path(image.read_bytes()[64:].decode())
    words = ["ch-run", "--unset-env=*", f"--set-env={image}/ch/environment", "--no-passwd", f"--cd={arguments.pwd}"]
    for name, value in os.environ.items():
        if name.startswith(("APPTAINERENV_", "SINGULARITYENV_")):
            words.append(f"--set-env={name.partition('_')[2]}={value}")
    for line in arguments.mount:
        mount = dict(field.partition("=")[::2] for field in next(csv.reader([line])))
        assert mount["type"] == "bind"
        if not mount["dst"].startswith("/tmp/"):  # noqa: S108 - there whoever mounts /tmp makes it
            _make_point(Path(f"{image}{mount['dst']}"), Path(mount["src"]))
        words.append(f"--bind={mount['src']}:{mount['dst']}")
    return [*words, str(image), "--", *arguments.program]


def _make_point(point: Path, source: Path) -> None:
    if source.is_dir():
        point.mkdir(parents=True, exist_ok=True)
    else:
        point.parent.mkdir(parents=True, exist_ok=True)
        point.touch()


if __name__ == "__main__":
    main()
