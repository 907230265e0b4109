"""What a payload finds when it starts."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from gridtune_common.protocol import Fail, FailureCause
from gridtune_evaluation.testing import FakeSteering, make_lease, make_payload
from payload_scripts import evaluate, fail_of, output_of, python, result, run_agent, steps, tell_of


def test_input_holds_parameters_and_constants(tmp_path: Path) -> None:
    """input.json is one flat object with parameters and constants."""
    lease = make_lease(lr=0.1, kind="adam", fast=True)

    output = output_of(tmp_path, "cat input.json", lease=lease, constants={"epochs": 30, "sizes": [1, 2]})

    assert json.loads(output) == {"epochs": 30, "sizes": [1, 2], "lr": 0.1, "kind": "adam", "fast": True}


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.1, "0.1"), (3, "3"), (True, "true"), (False, "false"), (None, ""), ("a b", "a b")],
)
def test_parameters_are_variables(tmp_path: Path, value: float | str | None, text: str) -> None:
    """Each parameter is a variable, its name in upper case."""
    lease = make_lease(some_value=value)

    output = output_of(tmp_path, 'echo "<$GRIDTUNE_PARAM_SOME_VALUE>"', lease=lease)

    assert output == f"<{text}>\n"


def test_nested_constants_are_json_in_variables(tmp_path: Path) -> None:
    """A constant that is a list or an object travels as JSON."""
    output = output_of(tmp_path, 'echo "$GRIDTUNE_PARAM_SIZES"', constants={"sizes": [1, {"a": None}]})

    assert json.loads(output) == [1, {"a": None}]


def test_names_that_differ_by_case_share_a_variable(tmp_path: Path) -> None:
    """The value that comes last in input.json has the variable; the file has both."""
    lease = make_lease(lr=1, LR=2)

    output = output_of(tmp_path, 'echo "$GRIDTUNE_PARAM_LR"; cat input.json', lease=lease)

    first, _, rest = output.partition("\n")
    assert (first, json.loads(rest)) == ("2", {"lr": 1, "LR": 2})


def test_variables_say_which_evaluation_this_is(tmp_path: Path) -> None:
    """Task, point, evaluation and attempt are variables."""
    lease = make_lease(7, epoch=4, attempt=3)

    output = output_of(
        tmp_path,
        'echo "$GRIDTUNE_TASK $GRIDTUNE_POINT $GRIDTUNE_EVALUATION $GRIDTUNE_ATTEMPT"',
        lease=lease,
    )

    assert output == "t1 7 e7-4 3\n"


def test_control_folder_is_inside_the_working_directory(tmp_path: Path) -> None:
    """GRIDTUNE_DIR is an existing folder in the working directory."""
    output = output_of(tmp_path, 'test -d "$GRIDTUNE_DIR" && test "$GRIDTUNE_DIR" = "$PWD/.gridtune" && echo yes')

    assert output == "yes\n"


def test_no_secret_reaches_the_payload(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the agent's GRIDTUNE_ variables none is passed on; its other ones are."""
    monkeypatch.setenv("GRIDTUNE_TOKEN", "s3cr3t")
    monkeypatch.setenv("GRIDTUNE_SERVER", "https://tune.example.org")
    monkeypatch.setenv("OTHER", "kept")

    output = output_of(tmp_path, "env")

    assert "s3cr3t" not in output
    assert "GRIDTUNE_SERVER" not in output
    assert "OTHER=kept" in output.splitlines()


def test_environment_of_the_payload_section_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """payload.environment is set over the agent's variables."""
    monkeypatch.setenv("OMP_NUM_THREADS", "8")

    output = output_of(tmp_path, "echo $OMP_NUM_THREADS", environment={"OMP_NUM_THREADS": "2"})

    assert output == "2\n"


def test_placeholders_are_filled_and_quoted(tmp_path: Path) -> None:
    """{name} in the command is the value, safe from the shell; an inactive parameter is empty."""
    lease = make_lease(lr=0.1, kind="a b; exit 9")

    output = output_of(
        tmp_path,
        "echo {lr} {kind} {epochs} [{momentum}]",
        lease=lease,
        constants={"epochs": 3},
        parameters=["momentum"],
    )

    assert output == "0.1 a b; exit 9 3 []\n"


def test_files_of_the_task_are_there(tmp_path: Path) -> None:
    """Shipped files are in the working directory, executable if they were."""
    files = {"train.sh": b"echo '{\"loss\": 2}' > output.json\n", "conf/a.txt": b"text"}
    fake = FakeSteering(make_payload("test -f conf/a.txt && sh train.sh", files=files), [make_lease()], files=files)

    run_agent(fake, tmp_path)

    [(_, word)] = fake.ends
    assert getattr(word, "metrics", None) == {"loss": 2.0}


def test_output_is_one_stream_in_order(tmp_path: Path) -> None:
    """Standard output and standard error are kept together, in the order of writing."""
    assert output_of(tmp_path, "echo 1; echo 2 >&2; echo 3") == "1\n2\n3\n"


def test_standard_input_is_empty(tmp_path: Path) -> None:
    """A payload that reads its standard input is not left waiting."""
    assert output_of(tmp_path, 'read line || echo "no input"') == "no input\n"


def test_each_evaluation_has_a_fresh_directory(tmp_path: Path) -> None:
    """Nothing is left over from the evaluation before."""
    command = steps("test ! -e seen || exit 1", "touch seen", result(loss=1))
    fake = FakeSteering(make_payload(command), [make_lease(0), make_lease(1)])

    run_agent(fake, tmp_path)

    assert [type(word).__name__ for _, word in fake.ends] == ["Tell", "Tell"]


def test_working_directory_goes(tmp_path: Path) -> None:
    """After an evaluation its directory is removed."""
    tell_of(tmp_path, result(loss=1))

    assert not (tmp_path / "t1" / "0-1-e0-1").exists()


def test_working_directory_stays_on_request(tmp_path: Path) -> None:
    """With keep_work the directory is left for a look."""
    fake = FakeSteering(make_payload(result(loss=1)), [make_lease()])

    run_agent(fake, tmp_path, keep_work=True)

    assert (tmp_path / "t1" / "0-1-e0-1" / "input.json").exists()


def test_command_that_cannot_start_fails(tmp_path: Path) -> None:
    """A value that no process can take is a failure to start."""
    lease = make_lease(text="a\0b")

    word = fail_of(tmp_path, "true", lease=lease)

    assert word.cause is FailureCause.START


def test_background_processes_end_with_the_payload(tmp_path: Path) -> None:
    """What a payload leaves running is killed, and nobody waits for it."""
    pid_file = tmp_path / "pid"
    command = steps(f"sleep 60 & echo $! > {pid_file}", result(loss=1))

    tell_of(tmp_path / "work", command)

    assert ends_soon(int(pid_file.read_text()))


def test_a_full_result_from_python(tmp_path: Path) -> None:
    """A training script with `import gridtune` gets its point and leaves reports and result."""
    code = (
        "import gridtune\n"
        "point = gridtune.params()\n"
        "for step in (1, 2): gridtune.report(step, loss=point['x'] / step)\n"
        "gridtune.result(loss=point['x'], steps=2)\n"
    )

    word, fake = evaluate(tmp_path, python(code), lease=make_lease(x=4.0))

    assert not isinstance(word, Fail), word
    assert getattr(word, "metrics", None) == {"loss": 4.0, "steps": 2.0}
    assert [(report.step, report.metrics["loss"]) for report in fake.reported] == [(1, 4.0), (2, 2.0)]


def ends_soon(pid: int) -> bool:
    """Whether a process is gone within seconds: killing takes the kernel a moment."""
    deadline = time.monotonic() + 5
    while is_running(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not is_running(pid)


def is_running(pid: int) -> bool:
    """Whether a process lives; one that nobody has buried does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
