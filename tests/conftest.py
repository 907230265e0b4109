"""Servers that tests ask for, started once for all of them."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from servers import ceph as ceph_server
from servers import docker as docker_server
from servers import images
from servers import podman as podman_server
from servers import postgres as postgres_server
from servers.apptainer import Apptainer
from servers.ceph import Ceph
from servers.docker import Docker
from servers.podman import Podman
from servers.postgres import Postgres


@pytest.fixture(autouse=True)
def umask() -> Iterator[None]:
    """Some commands make their process's files private; here that is the process of all tests."""
    before = os.umask(0o077)
    os.umask(before)
    yield
    os.umask(before)


@pytest.fixture(scope="session")
def ceph(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ceph]:
    """A real store that speaks S3; where Ceph is not installed, tests of it are skipped, but not in CI."""
    if not ceph_server.is_installed():
        assert "CI" not in os.environ, "CI has ceph-mon, ceph-osd, radosgw and ceph-common"
        pytest.skip("Ceph is not installed")
    store = Ceph(tmp_path_factory.mktemp("ceph"))
    try:
        store.start()
        yield store
    finally:
        store.end()


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A real database server; where PostgreSQL is not installed, tests of it are skipped, but not in CI."""
    if not postgres_server.is_installed():
        assert "CI" not in os.environ, "CI has postgresql"
        pytest.skip("PostgreSQL is not installed")
    # not among pytest's folders: the server's user may not enter those
    server = Postgres(Path(tempfile.mkdtemp(prefix="gridtune-tests-postgres-")))
    server.make()
    yield server
    server.end()


@pytest.fixture(scope="session")
def docker() -> Iterator[Docker]:
    """A real container engine; where Docker is not installed, tests of it are skipped, but not in CI."""
    if not docker_server.is_installed() or os.getuid() != 0:
        assert "CI" not in os.environ, "CI has docker.io, and is root"
        pytest.skip("Docker is not installed, or this is not root")
    # not among pytest's folders: those it removes much later, with whatever a killed run has left mounted there
    engine = Docker(Path(tempfile.mkdtemp(prefix="gridtune-tests-docker-")))
    try:
        engine.start()
        yield engine
    finally:
        engine.end()


@pytest.fixture(scope="session")
def podman() -> Iterator[Podman]:
    """Another real container engine; where Podman is not installed, tests of it are skipped, but not in CI."""
    if not podman_server.is_installed() or os.getuid() != 0:
        assert "CI" not in os.environ, "CI has podman, runc and uidmap, and is root"
        pytest.skip("Podman is not installed, or this is not root")
    engine = Podman(Path(tempfile.mkdtemp(prefix="gridtune-tests-podman-")))
    try:
        engine.start()
        yield engine
    finally:
        engine.end()


@pytest.fixture(scope="session")
def unpacked_image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An image as a folder of this node."""
    folder = tmp_path_factory.mktemp("unpacked") / "python"
    images.unpack(folder)
    return folder


@pytest.fixture(scope="session")
def charliecloud(unpacked_image: Path) -> Path:
    """An image for the real ``ch-run``; where that is not installed, tests of it are skipped, but not in CI."""
    if shutil.which("ch-run") is None:
        assert "CI" not in os.environ, "CI has charliecloud-runtime"
        pytest.skip("Charliecloud is not installed")
    return unpacked_image


@pytest.fixture
def apptainer(charliecloud: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Apptainer:
    """A stand-in for Apptainer in PATH."""
    if os.getuid() != 0:
        pytest.skip("the stand-in for Apptainer needs root")
    stand_in = Apptainer(tmp_path / "apptainer")
    for name, value in stand_in.install(charliecloud).items():
        monkeypatch.setenv(name, value)
    return stand_in
