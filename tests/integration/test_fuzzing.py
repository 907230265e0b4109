"""Requests that nobody would write find no mistake of ours."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

import pytest
import requests
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gridtune_steering.api.routing import ROUTES, Access
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


KEYS = st.lists(st.text("abc.-_ \xe4", min_size=1).filter(lambda name: name not in {".", ".."}), min_size=1, max_size=4)
FIELDS = st.sampled_from(["upload", "part", "offset", "size", "expires", "signature", "x"])


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(key=KEYS, query=st.dictionaries(FIELDS, st.text(st.characters(codec="utf-8"))), body=st.binary(max_size=100))
def test_signed_routes_answer_nobody_without_a_signature(
    service: RealService, key: list[str], query: dict[str, str], body: bytes
) -> None:
    """Whatever is asked for and however, the answer is 403."""
    address = f"{service.url}/api/v1/objects/{quote('/'.join(key))}"
    methods = [entry.method for entry in ROUTES if entry.access is Access.SIGNED]

    answers = [requests.request(method, address, params=query, data=body, timeout=30) for method in methods]

    assert [answer.status_code for answer in answers] == [403] * len(methods)
