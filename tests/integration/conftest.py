"""A real service for each test that asks for one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from real_service import RealService


@pytest.fixture
def service(tmp_path: Path) -> Iterator[RealService]:
    """A service that runs, in real processes; whatever of it is left at the end is ended."""
    service = RealService(tmp_path)
    service.start()
    yield service
    service.end()
