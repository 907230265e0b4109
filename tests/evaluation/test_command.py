"""The command `gridtune agent`: flags, variables, exit codes, signals."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest

from gridtune_common.errors import ConfigurationError
from gridtune_common.settings import Connection, Secret
from gridtune_evaluation import command
from gridtune_evaluation.settings import Settings
from gridtune_evaluation.shutdown import Shutdown, shutdown_on_signals
from gridtune_evaluation.slot import End

CONNECTION = Connection("http://tune.example.org", Secret("s3cr3t"))


def parsed(*words: str) -> argparse.Namespace:
    """The flags as the command line gives them."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    command.add_arguments(parser)
    return parser.parse_args(["--task", "t1", *words])


def settings(*words: str, **environment: str) -> Settings:
    """The agent's settings from flags and variables."""
    return command.settings_from(parsed(*words), CONNECTION, environment)


def test_defaults() -> None:
    """A task is enough."""
    found = settings()

    assert (found.task, found.slots, found.server) == ("t1", 1, "http://tune.example.org")
    assert (found.idle_exit_seconds, found.max_points, found.give_up_seconds) == (None, None, 3600.0)
    assert found.work == Path(tempfile.gettempdir()) / f"gridtune-{os.getuid()}"


def test_work_folder_from_the_environment() -> None:
    """GRIDTUNE_WORK_DIR is the default for --work-dir; both are made absolute."""
    assert settings(GRIDTUNE_WORK_DIR="/scratch/me").work == Path("/scratch/me")
    assert settings("--work-dir", "work", GRIDTUNE_WORK_DIR="/scratch/me").work == Path.cwd() / "work"


def test_cache_is_where_flags_and_variables_say() -> None:
    """GRIDTUNE_CACHE_DIR is the default for --cache-dir; without both it is in the work folder."""
    assert settings().cache is None
    assert settings(GRIDTUNE_CACHE_DIR="/scratch/me").cache == Path("/scratch/me")
    assert settings("--cache-dir", "here", GRIDTUNE_CACHE_DIR="/scratch/me").cache == Path.cwd() / "here"


def test_cache_has_a_size() -> None:
    """The size has a unit."""
    assert settings().cache_bytes == 50 * 2**30
    assert settings("--cache-size", "1.5TiB").cache_bytes == 3 * 2**39


@pytest.mark.parametrize(("word", "seconds"), [("90", 90.0), ("1.5", 1.5), ("5m", 300.0)])
def test_times_have_units_or_are_seconds(word: str, seconds: float) -> None:
    """Times can be written both ways."""
    assert settings("--exit-when-idle", word).idle_exit_seconds == seconds


@pytest.mark.parametrize(
    "words", [["--slots", "0"], ["--max-points", "x"], ["--give-up-after", "soon"], ["--cache-size", "50"]]
)
def test_wrong_flags_are_refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """A flag that cannot be used ends the command with code 2."""
    with pytest.raises(SystemExit) as leaving:
        parsed(*words)

    assert leaving.value.code == 2
    assert words[1] in capsys.readouterr().err


def test_no_flag_takes_the_token() -> None:
    """The token is never on a command line, where other users would see it."""
    with pytest.raises(SystemExit):
        parsed("--token", "s3cr3t")


def test_every_end_has_an_exit_code() -> None:
    """The table of exit codes is complete."""
    assert all(isinstance(command._EXIT_CODES[end], int) for end in End)  # noqa: SLF001


def test_service_must_be_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without a service the error says how to name one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GRIDTUNE_SERVER", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))

    with pytest.raises(ConfigurationError, match="--server"):
        command.run(parsed())


def test_module_runs_as_the_agent(tmp_path: Path) -> None:
    """`python -m gridtune_evaluation` is the agent; a service that is away for good is exit code 3."""
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(sys.path),
        "GRIDTUNE_TOKEN": "s3cr3t",
        "GRIDTUNE_WORK_DIR": str(tmp_path),
        "GRIDTUNE_RUNTIME": "process",
    }
    words = ["--task", "t1", "--server", "http://127.0.0.1:9", "--give-up-after", "0.1"]

    done = subprocess.run(
        [sys.executable, "-m", "gridtune_evaluation", *words], env=environment, capture_output=True, check=False
    )

    assert done.returncode == 3, done.stderr
    assert b"cannot reach http://127.0.0.1:9" in done.stderr
    assert b"s3cr3t" not in done.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_ask_for_the_shutdown(number: signal.Signals) -> None:
    """The first signal asks, the second one hurries, and afterwards all is as before."""
    before = signal.getsignal(number)
    shutdown = Shutdown()

    with shutdown_on_signals(shutdown):
        signal.raise_signal(number)
        asked = shutdown.pause(5)
        hurried = shutdown.hurried
        signal.raise_signal(number)

    assert (asked, hurried, shutdown.hurried) == (True, False, True)
    assert signal.getsignal(number) == before
    assert "signals" not in {thread.name for thread in threading.enumerate()}
