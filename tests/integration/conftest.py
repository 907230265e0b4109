"""A real service for each test that asks for one."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from real_service import RealService
from servers.docker import Docker
from servers.images import write_base

ROOT = Path(__file__).parents[2]


@pytest.fixture
def service(tmp_path: Path) -> Iterator[RealService]:
    """A service that runs, in real processes; whatever of it is left at the end is ended."""
    service = RealService(tmp_path)
    service.start()
    yield service
    service.end()


@pytest.fixture(scope="session")
def steering_image(docker: Docker, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The service's image, built without a network from wheels."""
    context = tmp_path_factory.mktemp("context") / "source"
    left_out = (
        ".git",
        ".venv",
        ".*_cache",
        ".hypothesis",
        "__pycache__",
        "build",
        "dist",
        "tests",
        "wheels",
        "gridtune-*",
    )
    shutil.copytree(ROOT, context, ignore=shutil.ignore_patterns(*left_out))
    subprocess.run(["make", "--quiet", "wheels", f"PYTHON={sys.base_prefix}/bin/python3"], cwd=context, check=True)
    write_base(context.with_name("base"))
    docker.build("localhost/tests/base", context.with_name("base"))
    options = {"BASE_IMAGE": "localhost/tests/base", "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "/source/wheels"}
    words = [f"--build-arg={name}={text}" for name, text in options.items()]
    docker.build("localhost/tests/steering", context, "--file", str(context / "containers/steering.Dockerfile"), *words)
    return "localhost/tests/steering"
