"""Lines of the log: one form for all processes, and what each line is about."""

from __future__ import annotations

import io
import json
import logging
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from api_bench import Api, api_on
from gridtune_common.errors import ConfigurationError
from gridtune_steering import logs
from gridtune_steering.services import tokens
from gridtune_steering.settings import Settings
from service_bench import Bench, on_sqlite

_log = logging.getLogger("gridtune.test")


@pytest.fixture
def lines() -> Iterator[Callable[[], list[dict[str, Any]]]]:
    """What is logged, as JSON, line by line."""
    stream = io.StringIO()
    handler = logs.handler_to(stream, "json")
    root, level = logging.getLogger(), logging.getLogger().level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    root.removeHandler(handler)
    root.setLevel(level)


def test_a_line_says_what_happened_and_what_it_is_about(lines: Callable[[], list[dict[str, Any]]]) -> None:
    """One object a line, whatever the message; what a line says itself goes before what is known around it."""
    with logs.about(request="r1", task="t1", worker=None):
        _log.warning("two\nlines: %s", "größer", extra={"action": "tried", "task": "t2"})
    _log.info("alone")

    [first, second] = lines()
    assert first.pop("time").endswith("+00:00")
    assert first.pop("process") > 0
    assert first == {
        "level": "WARNING",
        "logger": "gridtune.test",
        "message": "two\nlines: größer",
        "action": "tried",
        "request": "r1",
        "task": "t2",
    }
    assert set(second) == {"time", "level", "logger", "message", "process"}


def test_an_error_is_on_its_line(lines: Callable[[], list[dict[str, Any]]]) -> None:
    """The traceback as well: nothing is between the lines."""
    try:
        raise KeyError("x")
    except KeyError:
        _log.exception("failed")

    [line] = lines()
    assert line["exception"].startswith("Traceback")
    assert "KeyError: 'x'" in line["exception"]


def test_people_find_the_lines_of_a_request() -> None:
    """The text form names it at the end of the line."""
    stream = io.StringIO()
    handler = logs.handler_to(stream, "text")

    for known in ({"request": "r1"}, {}):
        with logs.about(**known):
            record = logging.LogRecord("gridtune", logging.INFO, "", 0, "hello", (), None)
            handler.handle(record)

    first, second = stream.getvalue().splitlines()
    assert first.endswith("INFO gridtune: hello [r1]")
    assert second.endswith("INFO gridtune: hello")


@on_sqlite
def test_every_answer_names_its_request(api: Api) -> None:
    """Its own id if it has a sane one, else a new one; refusals have one as well."""
    given = {"X-Request-ID": "proxy-17:a.b_c"}
    wild = [{"X-Request-ID": word} for word in ("a b", "x" * 65, "<script>", '"', "")]

    named = api.call("GET", "/whoami", headers=given).headers["X-Request-ID"]
    made = [api.call("GET", "/nowhere", headers=word, secret="").headers["X-Request-ID"] for word in wild]

    assert named == "proxy-17:a.b_c"
    assert len(set(made)) == 5
    assert all(len(word) == 16 and word.isalnum() for word in made)


@on_sqlite
def test_lines_of_a_request_say_whose_it_is(
    api: Api, lines: Callable[[], list[dict[str, Any]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its id, its task, its user; the next request has none of it."""

    def fail(*_: object) -> None:
        _log.info("deep inside")
        raise ZeroDivisionError

    task, ann = api.submit(), api.token("user", user="ann")
    monkeypatch.setattr("gridtune_steering.services.asking.ask", fail)
    monkeypatch.setattr(tokens, "listing", fail)
    api.ask(task, worker="w7", headers={"X-Request-ID": "r1"})
    api.call("GET", "/tokens", secret=ann, headers={"X-Request-ID": "r2"})

    [inside, crash, other, _] = lines()
    known = {"request": "r1", "task": task, "user": "operator", "worker": "w7"}
    assert {name: inside[name] for name in known} == {name: crash[name] for name in known} == known
    assert crash["action"] == "crash"
    assert (other["request"], other["user"]) == ("r2", "ann")
    assert not {"task", "worker"} & set(other)


@on_sqlite
def test_requests_are_logged_if_wanted(bench: Bench, lines: Callable[[], list[dict[str, Any]]]) -> None:
    """Route, status, time and user; never what comes after a question mark, nor a secret."""
    with api_on(bench, access_log=True) as api:
        api.call("GET", "/tasks?name=private&limit=5")
        api.call("GET", "/objects/a/b?expires=1&signature=cafe", secret="")

        [listed, refused] = lines()
        assert (listed["action"], listed["route"], listed["status"], listed["user"]) == (
            *("request", "list_tasks"),
            *(200, "operator"),
        )
        assert listed["ms"] > 0
        assert listed["message"].startswith("list_tasks 200 ")
        assert (refused["route"], refused["status"], "user" in refused) == ("get_object", 403, False)
        told = json.dumps([listed, refused])
        assert not [word for word in ("private", "signature", "cafe", api.secret) if word in told]


@on_sqlite
def test_requests_are_not_logged_by_default(api: Api, lines: Callable[[], list[dict[str, Any]]]) -> None:
    """Thousands of agents would fill a disk."""
    api.call("GET", "/tasks")

    assert lines() == []


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("LOG_FORMAT", "xml", "write text or json"),
        ("ACCESS_LOG", "perhaps", "cannot be read"),
        ("METRICS_TOKEN", "short", "16 characters"),
        ("RATE_LIMIT", "-1", "RATE_LIMIT"),
        ("RATE_BURST", "0", "RATE_LIMIT"),
        ("TOKEN_CACHE_SECONDS", "3600", "between 0 and 60"),
    ],
)
def test_settings_that_make_no_sense_are_refused(variable: str, value: str, words: str) -> None:
    """At the start, with what to mend."""
    with pytest.raises(ConfigurationError, match=words):
        Settings.from_environment({f"GRIDTUNE_STEERING_{variable}": value})


def test_a_process_that_breaks_says_so_in_its_log() -> None:
    """In JSON there is nothing else on standard error, not even a last traceback."""
    code = (
        "from gridtune_steering import logs; from gridtune_steering.settings import Settings; import warnings\n"
        "logs.set_up(Settings.from_environment({'GRIDTUNE_STEERING_LOG_FORMAT': 'json'}))\n"
        "warnings.warn('careful')\nraise RuntimeError('broken')"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    [warned, broke] = [json.loads(line) for line in ended.stderr.splitlines()]
    assert "careful" in warned["message"]
    assert (broke["level"], "RuntimeError: broken" in broke["exception"], ended.returncode) == ("CRITICAL", True, 1)
