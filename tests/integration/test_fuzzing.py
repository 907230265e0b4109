"""Requests that nobody would write find no mistake of ours."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from real_service import RealService
from service_bench import document


@pytest.mark.slow
def test_schemathesis_finds_no_crash(service: RealService) -> None:
    """Requests made from the OpenAPI document, valid and not, get no 5xx, and answers that the document describes."""
    service.submit(document(points=1000))
    run = subprocess.run(
        [
            str(Path(sys.executable).with_name("schemathesis")),
            "run",
            f"{service.url}/api/v1/openapi.json",
            "--header",
            f"Authorization: Bearer {service.token}",
            "--checks",
            "not_a_server_error,status_code_conformance,response_schema_conformance",
            "--max-examples",
            "40",
            "--seed",
            "1",
            "--exclude-operation-id",
            "revoke_token",  # it finds its own token and revokes it
            "--no-color",
        ],
        cwd=service.folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )

    assert run.returncode == 0, run.stdout[:6000]
