"""The agent in one file: a zip archive that a bare Python runs.

It is put together from what is installed here, so that a service hands out the agent that fits to it, and needs no
network for that. Our own packages are in a folder of it from which payloads import too, and the libraries are not, for
a payload may have others of the same names. The same sources give the same bytes.

``python -m gridtune_steering.agentfile --help`` writes the file.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import re
import sys
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib import metadata, util
from pathlib import Path, PurePosixPath
from typing import Final

from gridtune_common.errors import ConfigurationError

NAME: Final = "gridtune-agent.pyz"
#: What payloads may import from it, and what the agent is made of.
PACKAGES: Final = ("gridtune", "gridtune_common", "gridtune_evaluation")
#: Where these are in the file. Libraries are at its top: Python 3.9 finds certifi's certificates nowhere else.
_FOLDER: Final = "packages"
#: Distributions that these need: requests, and all that requests needs.
LIBRARIES: Final = ("certifi", "charset-normalizer", "idna", "requests", "urllib3")
#: The oldest Python for our own packages.
_PYTHON: Final = (3, 9)
_AT_LEAST: Final = re.compile(r">=\s*(\d+)\.(\d+)")
#: A zip archive knows no earlier time, and ours knows no other.
_TIME: Final = (1980, 1, 1, 0, 0, 0)
_SHEBANG: Final = b"#!/usr/bin/env python3\n"
#: Python 2 can read it too, and say that it is too old.
_MAIN: Final = """\
import sys

if sys.version_info < ({major}, {minor}):
    sys.exit("this agent needs Python {major}.{minor} or newer; this is %d.%d" % sys.version_info[:2])

import os

archive = os.path.dirname(os.path.abspath(__file__))
sys.path[:1] = [os.path.join(archive, "{folder}"), archive]

from gridtune_evaluation.__main__ import main

sys.exit(main("{name}"))
"""
_building = threading.Lock()


@dataclass(frozen=True, slots=True)
class AgentFile:
    """The file's bytes and their SHA-256, in hexadecimal digits."""

    content: bytes
    sha256: str

    @property
    def checksum(self) -> str:
        """The line that ``sha256sum --check`` reads."""
        return f"{self.sha256}  {NAME}\n"


def agent_file(libraries: str = "") -> AgentFile:
    """The file, made once in the life of a process.

    Args:
        libraries: A folder with the libraries to use; empty for those of this environment.

    Raises:
        ConfigurationError: A library is missing.
    """
    with _building:  # all agents of a site may come at once
        return _made(libraries)


@cache
def _made(libraries: str) -> AgentFile:
    content = build(libraries)
    return AgentFile(content, hashlib.sha256(content).hexdigest())


def build(libraries: str = "") -> bytes:
    """Make the file; see `agent_file`."""
    distributions = find_libraries(libraries)
    major, minor = _oldest_python(distributions)
    entries = {"__main__.py": _MAIN.format(major=major, minor=minor, folder=_FOLDER, name=NAME).encode()}
    for package in PACKAGES:
        entries.update(_own(package))
    for distribution in distributions:
        entries.update(_library(distribution))
    return _zipped(entries)


def find_libraries(libraries: str = "") -> list[metadata.Distribution]:
    """The distributions named in `LIBRARIES`.

    Raises:
        ConfigurationError: One is missing.
    """
    path = [libraries] if libraries else sys.path
    found = [next(iter(metadata.distributions(name=name, path=path)), None) for name in LIBRARIES]
    complete = [distribution for distribution in found if distribution is not None and distribution.files]
    if missing := {*LIBRARIES} - {_normal(distribution.name) for distribution in complete}:
        place = f"the folder {libraries}" if libraries else "this environment"
        raise ConfigurationError(
            f"{NAME} cannot be made: {place} lacks {', '.join(sorted(missing))}; install requests there with pip"
        )
    return complete


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _oldest_python(distributions: list[metadata.Distribution]) -> tuple[int, int]:
    """The oldest version that all parts run on, by what the libraries say of themselves."""
    texts = [distribution.metadata["Requires-Python"] or "" for distribution in distributions]
    return max([_PYTHON, *((int(major), int(minor)) for text in texts for major, minor in _AT_LEAST.findall(text))])


def _own(package: str) -> Iterator[tuple[str, bytes]]:
    spec = util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ConfigurationError(
            f"{NAME} cannot be made: the package {package} is not installed; install gridtune anew"
        )
    folder = Path(spec.submodule_search_locations[0])
    for path in folder.rglob("*.py"):
        yield str(PurePosixPath(_FOLDER, package, path.relative_to(folder))), path.read_bytes()


def _library(distribution: metadata.Distribution) -> Iterator[tuple[str, bytes]]:
    for path in distribution.files or ():
        if _is_wanted(path):
            yield path.as_posix(), path.read_binary()


def _is_wanted(path: metadata.PackagePath) -> bool:
    """Sources, certificates, licences. Whoever compiles modules ships their sources too, which run anywhere."""
    if path.parts[0].endswith(".dist-info"):
        return path.name == "METADATA" or path.name.startswith(("LICENSE", "NOTICE"))
    return path.suffix in {".py", ".pem"} and ".." not in path.parts


def _zipped(entries: dict[str, bytes]) -> bytes:
    packed = io.BytesIO()
    packed.write(_SHEBANG)
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, content in sorted(entries.items()):
            entry = zipfile.ZipInfo(name, _TIME)
            entry.compress_type, entry.create_system, entry.external_attr = zipfile.ZIP_DEFLATED, 3, 0o644 << 16
            archive.writestr(entry, content)
    return packed.getvalue()


def main() -> None:
    """Write the file and its checksum."""
    parser = argparse.ArgumentParser(prog="python -m gridtune_steering.agentfile", description=main.__doc__)
    parser.add_argument("folder", type=Path, help=f"where {NAME} and {NAME}.sha256 are written")
    parser.add_argument("--libraries", metavar="DIR", default="", help="take the libraries from this folder")
    arguments = parser.parse_args()
    write(agent_file(arguments.libraries), arguments.folder)


def write(file: AgentFile, folder: Path) -> Path:
    """Write the file, to be started as a program, and its checksum beside it; return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / NAME
    path.write_bytes(file.content)
    path.chmod(0o755)
    path.with_name(f"{NAME}.sha256").write_text(file.checksum)
    return path


if __name__ == "__main__":
    main()
