"""Servers that tests ask for, started once for all of them."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from servers.ceph import Ceph, is_installed


@pytest.fixture(scope="session")
def ceph(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ceph]:
    """A real store that speaks S3; where Ceph is not installed, tests of it are skipped, but not in CI."""
    if not is_installed():
        assert "CI" not in os.environ, "CI has ceph-mon, ceph-osd, radosgw and ceph-common"
        pytest.skip("Ceph is not installed")
    store = Ceph(tmp_path_factory.mktemp("ceph"))
    try:
        store.start()
        yield store
    finally:
        store.end()
