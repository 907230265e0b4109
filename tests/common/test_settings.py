"""Settings of the command line: precedence, profiles, secrets, and a service on this machine."""

import json
import os
from pathlib import Path

import pytest

from gridtune_common.errors import ConfigurationError
from gridtune_common.settings import Connection, Secret, Settings, local_service

URL = "https://tune.example.org"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home folder with a place for the configuration file."""
    (tmp_path / ".config" / "gridtune").mkdir(parents=True)
    return tmp_path


def configure(home: Path, text: str, mode: int = 0o600) -> Path:
    """Write the configuration file."""
    path = home / ".config" / "gridtune" / "config.ini"
    path.write_text(text)
    path.chmod(mode)
    return path


def serve_locally(data: Path, pid: int) -> None:
    """Leave behind what a service on this machine does."""
    data.mkdir(parents=True, exist_ok=True)
    (data / "service.json").write_text(json.dumps({"url": "http://127.0.0.1:8800", "pid": pid}))
    (data / "operator.token").write_text("operator-token\n")


def read(home: Path, *, flags: dict[str, str | None] | None = None, **environment: str) -> Settings:
    """Read settings with nothing around but what is given."""
    return Settings.read(flags or {}, {"HOME": str(home), **environment})


def test_without_any_source_there_is_no_server(home: Path) -> None:
    """Nothing set means no server, no token, and the usual data folder."""
    assert read(home) == Settings(server=None, token=Secret(), ca=None, data=Path("gridtune-data"))


def test_a_flag_comes_before_the_environment_and_the_file(home: Path) -> None:
    """Of three servers named, the flag's is taken."""
    configure(home, "[default]\nserver = https://file.example.org\n")

    settings = read(home, flags={"server": URL}, GRIDTUNE_SERVER="https://variable.example.org")

    assert settings.server == URL


def test_the_environment_comes_before_the_file(home: Path) -> None:
    """Of two servers named, the variable's is taken."""
    configure(home, "[default]\nserver = https://file.example.org\n")

    assert read(home, GRIDTUNE_SERVER=URL).server == URL


def test_an_empty_token_is_an_error(home: Path) -> None:
    """A command that should have made the token has failed, and no other token takes its place unasked."""
    with pytest.raises(ConfigurationError, match="GRIDTUNE_TOKEN is empty"):
        Settings.read({}, {"HOME": str(home), "GRIDTUNE_TOKEN": ""})


def test_an_empty_variable_is_none(home: Path) -> None:
    """A variable that is set to nothing does not hide the file."""
    configure(home, f"[default]\nserver = {URL}/\n")

    assert read(home, GRIDTUNE_SERVER="").server == URL


def test_a_profile_is_a_section(home: Path) -> None:
    """GRIDTUNE_PROFILE chooses the section of the file."""
    configure(home, f"[default]\nserver = https://other.example.org\n[physics]\nserver = {URL}\ntoken = abc%1\n")

    settings = read(home, GRIDTUNE_PROFILE="physics")

    assert (settings.profile, settings.server, settings.token.reveal()) == ("physics", URL, "abc%1")


def test_the_config_folder_follows_xdg(home: Path, tmp_path: Path) -> None:
    """XDG_CONFIG_HOME moves the file."""
    (tmp_path / "xdg" / "gridtune").mkdir(parents=True)
    (tmp_path / "xdg" / "gridtune" / "config.ini").write_text(f"[default]\nserver = {URL}\n")

    assert read(home, XDG_CONFIG_HOME=str(tmp_path / "xdg")).server == URL


def test_a_token_file_of_a_profile_is_found_beside_it(home: Path) -> None:
    """A relative token_file is looked for in the folder of the configuration file."""
    path = configure(home, f"[default]\nserver = {URL}\ntoken_file = token\n")
    (path.parent / "token").write_text("abc\n")
    (path.parent / "token").chmod(0o600)

    settings = read(home)

    assert (settings.token, settings.warnings) == (Secret("abc"), ())


def test_a_token_file_named_by_a_flag_comes_before_the_variable(home: Path) -> None:
    """--token-file wins over GRIDTUNE_TOKEN."""
    (home / "token").write_text("from-file")

    assert read(home, flags={"token_file": "~/token"}, GRIDTUNE_TOKEN="from-variable").token == Secret("from-file")


def test_the_token_of_a_profile_is_not_sent_to_another_server(home: Path) -> None:
    """Naming another server than the profile's leaves the profile's token out."""
    configure(home, f"[default]\nserver = {URL}\ntoken = abc\n")

    assert read(home, flags={"server": "https://elsewhere.example.org"}).token == Secret()


def test_the_token_of_a_profile_is_kept_for_the_same_server(home: Path) -> None:
    """Naming the profile's own server, with or without a slash, keeps its token."""
    configure(home, f"[default]\nserver = {URL}\ntoken = abc\n")

    assert read(home, flags={"server": f"{URL}/"}).token == Secret("abc")


def test_a_secret_never_shows() -> None:
    """Neither repr nor str nor the settings' repr has the token in it."""
    settings = Settings(token=Secret("s3cr3t"))

    assert "s3cr3t" not in f"{settings!r} {settings.token!s} {settings.token!r}"


def test_a_file_with_a_token_that_others_can_read_is_warned_of(home: Path) -> None:
    """The warning says how to close the file."""
    path = configure(home, f"[default]\nserver = {URL}\ntoken = abc\n", mode=0o644)

    assert read(home).warnings == (f"{path} holds a token and others can read it: chmod 600 {path}",)


def test_a_file_without_a_token_may_be_open(home: Path) -> None:
    """No secret inside, no warning."""
    configure(home, f"[default]\nserver = {URL}\n", mode=0o644)

    assert read(home).warnings == ()


@pytest.mark.parametrize(
    ("variable", "hint"),
    [
        ("GRIDTUNE_SEVRER", "did you mean GRIDTUNE_SERVER?"),
        ("GRIDTUNE_ATEMPT", "did you mean GRIDTUNE_ATTEMPT?"),
    ],
)
def test_an_unknown_variable_is_an_error(home: Path, variable: str, hint: str) -> None:
    """A misspelt variable is named, with the closest known one."""
    with pytest.raises(ConfigurationError) as caught:
        Settings.read({}, {"HOME": str(home), variable: "x"})

    assert str(caught.value) == f"the environment variable {variable} is unknown; {hint}"


@pytest.mark.parametrize("variable", ["GRIDTUNE_PARAM_LR", "GRIDTUNE_STEERING_URL", "GRIDTUNE_DIR", "GRID"])
def test_variables_of_other_parts_are_known(home: Path, variable: str) -> None:
    """What the agent and the service read is no error here."""
    assert Settings.read({}, {"HOME": str(home), variable: "x"}).server is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[default]\nsevrer = x\n", "{path}: [default] has an unknown key 'sevrer'; did you mean server?"),
        ("server = x\n", "{path} is no configuration file: "),
        ("[default]\nserver = tune.example.org\n", "server: 'tune.example.org' is no URL; write it like"),
        ("[default]\nserver = https://me:pw@tune.example.org\n", "server: write the base URL alone"),
        ("[default]\nca = missing.pem\n", "there is no CA bundle"),
        ("[default]\ntoken_file = missing\n", "cannot read the token file"),
    ],
    ids=["key", "section", "url", "password", "ca", "token-file"],
)
def test_a_file_that_cannot_be_used_says_why(home: Path, text: str, message: str) -> None:
    """Each error names what is wrong."""
    path = configure(home, text)

    with pytest.raises(ConfigurationError) as caught:
        read(home)

    assert str(caught.value).startswith(message.format(path=path))


def test_a_profile_that_is_missing_is_an_error(home: Path) -> None:
    """The closest profile is named."""
    path = configure(home, "[physics]\n")

    with pytest.raises(ConfigurationError) as caught:
        read(home, flags={"profile": "phisics"})

    assert str(caught.value) == f"{path} has no profile [phisics]; did you mean physics?"


def test_a_config_file_that_was_named_must_exist(home: Path) -> None:
    """GRIDTUNE_CONFIG that points nowhere is an error, unlike an absent default file."""
    with pytest.raises(ConfigurationError, match="there is no configuration file"):
        read(home, GRIDTUNE_CONFIG="nowhere.ini")


def test_a_service_on_this_machine_needs_no_configuration(home: Path) -> None:
    """A data folder with a living service gives its address and the operator's token."""
    serve_locally(home / "data", os.getpid())

    connection = read(home, GRIDTUNE_DATA=str(home / "data")).connection()

    assert connection == Connection("http://127.0.0.1:8800", Secret("operator-token"))


def test_the_operator_token_goes_to_its_own_service_only(home: Path) -> None:
    """A server that was named does not get the token of the service on this machine."""
    serve_locally(home / "data", os.getpid())

    connection = read(home, flags={"server": URL}, GRIDTUNE_DATA=str(home / "data")).connection()

    assert connection == Connection(URL, Secret())


def test_a_dead_service_is_not_used(home: Path) -> None:
    """A service.json that was left behind is ignored, and the error says what to do."""
    serve_locally(home / "data", 2**22 + 1)

    with pytest.raises(ConfigurationError, match="start one here with 'gridtune serve'"):
        read(home, GRIDTUNE_DATA=str(home / "data")).connection()


@pytest.mark.parametrize("text", ["", "[]", '{"url": "http://x"}', '{"url": "http://x", "pid": "many"}'])
def test_a_broken_service_file_is_no_service(tmp_path: Path, text: str) -> None:
    """Whatever service.json holds, it raises nothing."""
    (tmp_path / "service.json").write_text(text)

    assert local_service(tmp_path) is None
