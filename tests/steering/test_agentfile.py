"""The agent in one file: made of what is installed, the same bytes each time, pure Python."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

from gridtune_common.errors import ConfigurationError
from gridtune_steering import agentfile

ROOT = Path(__file__).parents[2]
FOLDERS = {"gridtune": "evaluation", "gridtune_common": "common", "gridtune_evaluation": "evaluation"}


@pytest.fixture(scope="module")
def names() -> list[str]:
    """What is in the file."""
    with zipfile.ZipFile(io.BytesIO(agentfile.agent_file().content)) as archive:
        return archive.namelist()


def write(folder: Path, seed: str) -> bytes:
    """Let a process of its own write the file."""
    words = [sys.executable, "-m", "gridtune_steering.agentfile", str(folder)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONHASHSEED": seed}
    subprocess.run(words, env=environment, check=True)
    return (folder / agentfile.NAME).read_bytes()


def test_the_same_sources_give_the_same_bytes(tmp_path: Path) -> None:
    """Two processes write the same file, an executable one, with a checksum that fits."""
    first, second = write(tmp_path / "a", "1"), write(tmp_path / "b", "2")

    assert first == second
    assert os.access(tmp_path / "a" / agentfile.NAME, os.X_OK)
    subprocess.run(["sha256sum", "--check", "--quiet", f"{agentfile.NAME}.sha256"], cwd=tmp_path / "a", check=True)


@pytest.mark.parametrize("package", agentfile.PACKAGES)
def test_it_holds_every_module(names: list[str], package: str) -> None:
    """Nothing of ours is forgotten."""
    folder = ROOT / FOLDERS[package]

    wanted = {f"packages/{path.relative_to(folder)}" for path in (folder / package).rglob("*.py")}

    assert wanted == {name for name in names if name.startswith(f"packages/{package}/")}


def test_it_is_pure_python(names: list[str]) -> None:
    """Besides sources there are certificates, licences and what libraries say of themselves."""
    rest = {Path(name).name for name in names if not name.endswith(".py")}

    assert rest <= {"cacert.pem", "METADATA", "LICENSE", "LICENSE.md", "LICENSE.txt", "NOTICE"}


def test_it_holds_all_that_requests_needs() -> None:
    """A library that comes to need another one would break the agent on every node."""
    needed = {
        match[0].lower().replace("_", "-")
        for name in agentfile.LIBRARIES
        for line in metadata.distribution(name).requires or ()
        if "extra ==" not in line and (match := re.match(r"[\w.-]+", line))
    }

    assert needed <= set(agentfile.LIBRARIES)


def test_a_missing_library_is_named(tmp_path: Path) -> None:
    """The error says what is missing, where, and what to do."""
    with pytest.raises(ConfigurationError, match=f"{tmp_path} lacks certifi, .*; install requests there with pip"):
        agentfile.build(str(tmp_path))


def test_an_old_python_is_told_so(tmp_path: Path) -> None:
    """What starts first runs on any Python, and names the version that the libraries need."""
    agentfile.write(agentfile.agent_file(), tmp_path)
    with zipfile.ZipFile(tmp_path / agentfile.NAME) as archive:
        main = archive.read("__main__.py").decode()
    pretended = f"import sys; sys.version_info = (2, 7, 18)\n{main}"

    run = subprocess.run([sys.executable, "-c", pretended], capture_output=True, text=True, check=False)

    assert (run.returncode, re.sub(r"3\.\d+", "3.x", run.stderr)) == (
        1,
        "this agent needs Python 3.x or newer; this is 2.7\n",
    )
