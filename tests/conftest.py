"""Servers that tests ask for, started once for all of them."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from servers import ceph as ceph_server
from servers import docker as docker_server
from servers.ceph import Ceph
from servers.docker import Docker


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
