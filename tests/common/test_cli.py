"""The command line as a whole: its table, its start-up, its errors and exit codes."""

import argparse
import subprocess
import sys
from types import SimpleNamespace

import pytest

from gridtune_common import __version__, cli
from gridtune_common.cli import exits
from gridtune_common.cli.commands import COMMANDS, GROUPS
from gridtune_common.errors import (
    ConfigurationError,
    Flaw,
    GridtuneError,
    InvalidDocument,
    MissingExtra,
    Refused,
    Unreachable,
)

OURS = [name for name, command in COMMANDS.items() if command.module.startswith("gridtune_common")]
OTHERS = sorted(set(COMMANDS) - set(OURS))


@pytest.mark.parametrize("name", OURS)
def test_every_command_keeps_the_form(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Each module has its two functions and a docstring, which --help shows."""
    module = cli.load(name)

    code = cli.main([name, "--help"])

    assert callable(module.add_arguments)
    assert callable(module.run)
    assert code == 0
    assert module.__doc__.splitlines()[0] in capsys.readouterr().out


@pytest.mark.parametrize("name", OTHERS)
def test_commands_of_other_packages_keep_the_form(name: str) -> None:
    """Where the package is installed, its command has a parser and a docstring too."""
    module = pytest.importorskip(COMMANDS[name].module)

    parser = cli.parser_of(name, module)

    assert isinstance(parser, argparse.ArgumentParser)
    assert callable(module.run)
    assert module.__doc__


@pytest.mark.parametrize("arguments", [["--help"], ["--version"]])
def test_start_up_is_free(arguments: list[str]) -> None:
    """PLEASE READ: help must not load what is slow; import such modules where they are used."""
    heavy = ["requests", "yaml", "difflib", "subprocess", "unittest", "gridtune_common.client"]
    program = (
        "import sys; from gridtune_common.cli import main; "
        f"main({arguments!r}); "
        f"print([name for name in {heavy!r} if name in sys.modules], file=sys.stderr)"
    )

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stderr.splitlines()[-1] == "[]"


def test_the_package_runs_as_a_module() -> None:
    """``python -m gridtune_common`` is gridtune, exit code and all."""
    done = subprocess.run(
        [sys.executable, "-m", "gridtune_common", "--version"], capture_output=True, text=True, check=True
    )

    assert done.stdout == f"gridtune {__version__}\n"


def test_help_names_every_command_and_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    """The overview is complete."""
    assert cli.main(["--help"]) == 0

    text = capsys.readouterr().out
    assert all(f"\n  {name} " in text for name in COMMANDS)
    assert all(f"\n{group}:\n" in text for group in GROUPS)
    assert all(f"{code.value}  {exits.MEANINGS[code]}" in text for code in exits.ExitCode)


def test_every_command_is_in_a_group() -> None:
    """No command is left out of the overview."""
    assert {command.group for command in COMMANDS.values()} == set(GROUPS)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["task"], "error: there is no command 'task'; did you mean 'tasks'?\n"),
        (["xyzzy"], "error: there is no command 'xyzzy'; see gridtune --help\n"),
        (["--json", "tasks"], "error: --json comes before the command; write 'gridtune COMMAND --json …'\n"),
        (["tasks", "--lmit", "3"], "error: unrecognized arguments: --lmit 3; see gridtune tasks --help\n"),
        (
            ["tasks", "--limit", "0"],
            "error: argument --limit: '0' is no whole number above zero; see gridtune tasks --help\n",
        ),
    ],
)
def test_wrong_usage_says_what_to_do(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Usage errors are one line on stderr, and exit code 2."""
    assert cli.main(words) == 2
    assert capsys.readouterr().err == message


def test_no_command_shows_the_overview(capsys: pytest.CaptureFixture[str]) -> None:
    """``gridtune`` alone explains itself, and is wrong usage to a script."""
    assert cli.main([]) == 2
    assert capsys.readouterr().out.startswith("usage: gridtune COMMAND")


def test_a_part_that_is_not_installed_names_the_extra(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A command of the service in a thin installation ends with the line that cures it."""
    monkeypatch.setitem(sys.modules, "gridtune_steering.commands.serve", None)

    assert cli.main(["serve"]) == 2
    assert capsys.readouterr().err == (
        "error: gridtune serve is not installed here: pip install 'gridtune[steering]'\n"
    )


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (InvalidDocument([Flaw("space.a.low", "is missing")]), 2, "error: \n  - space.a.low: is missing"),
        (
            InvalidDocument([Flaw("name", "is missing"), Flaw("space", "is empty")]),
            2,
            "error: 2 flaws:\n  - name: is missing\n  - space: is empty",
        ),
        (ConfigurationError("no"), 2, "error: no"),
        (MissingExtra("YAML", "yaml"), 2, "error: YAML is not installed here: pip install 'gridtune[yaml]'"),
        (Unreachable("cannot reach it"), 3, "error: cannot reach it"),
        (
            Refused(404, {"title": "Not found", "detail": "there is no task x"}),
            4,
            "error: there is no task x",
        ),
        (
            Refused(422, {"detail": "invalid task", "errors": [{"path": "name", "message": "is missing"}]}),
            4,
            "error: invalid task\n  - name: is missing",
        ),
        (
            Refused(401, {"detail": "the token has expired"}),
            5,
            "error: the token has expired\n"
            "give a token by GRIDTUNE_TOKEN, --token-file or a profile; see gridtune whoami --help",
        ),
        (Refused(403, {"detail": "this is not yours"}), 5, "error: this is not yours"),
        (GridtuneError("workers died"), 1, "error: workers died"),
    ],
    ids=lambda value: value if isinstance(value, int) else type(value).__name__,
)
def test_an_error_becomes_its_exit_code(
    error: GridtuneError, code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every kind of error has its code and is told without a traceback."""

    def fail() -> int:
        raise error

    assert exits.guarded(fail) == code
    assert capsys.readouterr().err.rstrip() == message.replace("error: \n  - ", "error: ")


def test_an_interrupt_is_130(capsys: pytest.CaptureFixture[str]) -> None:
    """Ctrl-C ends with the shell's number for it, without a traceback."""

    def interrupt() -> int:
        raise KeyboardInterrupt

    assert exits.guarded(interrupt) == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_a_reader_that_goes_away_is_no_traceback() -> None:
    """``gridtune schema | head -1`` ends quietly."""
    program = (
        "import sys; from gridtune_common.cli import exits, output\n"
        "def chat():\n"
        "    while True: output.say('x' * 1000)\n"
        "sys.exit(exits.guarded(chat))"
    )
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stderr is not None
    with process:
        process.stdout.readline()
        process.stdout.close()
        words = process.stderr.read()

    assert (process.returncode, words) == (141, b"")


def test_main_runs_the_command_it_was_given(monkeypatch: pytest.MonkeyPatch) -> None:
    """The code that a command returns is the code of main."""
    module = SimpleNamespace(
        __doc__="Do it.",
        add_arguments=lambda parser: parser.add_argument("code", type=int),
        run=lambda arguments: arguments.code,
    )
    monkeypatch.setitem(sys.modules, COMMANDS["agent"].module, module)

    assert cli.main(["agent", "1"]) == 1
