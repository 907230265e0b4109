"""Where the service is and who calls it: read once at the edge, from flags, environment and a file.

Flags come before environment variables, which come before the configuration file. The file is
``~/.config/gridtune/config.ini`` (``$XDG_CONFIG_HOME`` is followed), in INI form because Python 3.9 reads no
TOML; each section is a profile::

    [default]
    server = https://tune.example.org
    token_file = ~/.config/gridtune/token
    ca = /etc/ssl/certs/example-ca.pem

    [laptop]
    server = http://127.0.0.1:8800

When no server is named, a service that runs on this machine is used: ``gridtune serve`` leaves
``service.json`` and ``operator.token`` in its data folder, ``gridtune-data`` unless ``--data`` or
``GRIDTUNE_DATA`` names another.
"""

from __future__ import annotations

import configparser
import difflib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from gridtune_common.errors import ConfigurationError

#: The variables read here, and the setting that each one gives.
VARIABLES: Final = {
    "GRIDTUNE_SERVER": "server",
    "GRIDTUNE_TOKEN": "token",
    "GRIDTUNE_TOKEN_FILE": "token_file",
    "GRIDTUNE_PROFILE": "profile",
    "GRIDTUNE_CONFIG": "config",
    "GRIDTUNE_CA": "ca",
    "GRIDTUNE_DATA": "data",
}

#: Variables that other parts set and read.
_ELSEWHERE: Final = frozenset(
    {
        "GRIDTUNE_ACTIVE_DEADLINE_SECONDS",
        "GRIDTUNE_ATTEMPT",
        "GRIDTUNE_CACHE_DIR",
        "GRIDTUNE_CHECKPOINT_DIR",
        "GRIDTUNE_DEADLINE",
        "GRIDTUNE_DIR",
        "GRIDTUNE_EVALUATION",
        "GRIDTUNE_POINT",
        "GRIDTUNE_RESULT_FILE",
        "GRIDTUNE_RESUME_STEP",
        "GRIDTUNE_RUNTIME",
        "GRIDTUNE_TASK",
        "GRIDTUNE_WALLTIME",
        "GRIDTUNE_WORK_DIR",
    }
)
_ELSEWHERE_PREFIXES: Final = ("GRIDTUNE_PARAM_", "GRIDTUNE_STEERING_")

_PROFILE_KEYS: Final = ("server", "token", "token_file", "ca", "data")


class Secret:
    """A string that hides itself from logs, tracebacks and ``repr``.

    >>> Secret("s3cr3t"), str(Secret("s3cr3t")), bool(Secret(""))
    (Secret(***), '***', False)
    """

    __slots__ = ("_content",)

    def __init__(self, content: str = "") -> None:
        self._content = content

    def reveal(self) -> str:
        """The string itself."""
        return self._content

    def __bool__(self) -> bool:
        return bool(self._content)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other.reveal() == self._content

    def __hash__(self) -> int:
        return hash(self._content)

    def __repr__(self) -> str:
        return "Secret(***)"

    def __str__(self) -> str:
        return "***"


@dataclass(frozen=True)
class Connection:
    """A service and what is needed to call it.

    Attributes:
        ca: A bundle of certificate authorities; None for the system's.
    """

    server: str
    token: Secret
    ca: str | None = None


@dataclass(frozen=True)
class LocalService:
    """A service that runs on this machine on a data folder."""

    url: str
    pid: int
    data: Path

    @property
    def token(self) -> Secret:
        """The operator's token, from the data folder; empty if it cannot be read."""
        try:
            return Secret((self.data / "operator.token").read_text(encoding="utf-8").strip())
        except OSError:
            return Secret()


@dataclass(frozen=True)
class Settings:
    """What flags, environment and configuration file say.

    Attributes:
        server: Base URL without a slash at its end; None if none is named.
        token: Empty if none is given.
        data: The data folder of a service on this machine.
        warnings: What the user should know and mend.
    """

    server: str | None = None
    token: Secret = Secret()  # noqa: RUF009 - immutable
    ca: str | None = None
    data: Path = Path("gridtune-data")
    profile: str = "default"
    warnings: tuple[str, ...] = ()

    @classmethod
    def read(cls, flags: Mapping[str, str | None], environment: Mapping[str, str]) -> Settings:
        """Put the settings together.

        Args:
            flags: Settings from the command line, by the names in `VARIABLES`; never the token itself.
            environment: All environment variables.

        Raises:
            ConfigurationError: One of them cannot be used, or a ``GRIDTUNE_…`` variable is unknown.
        """
        refuse_unknown_variables(environment)
        return _Reading(flags, environment).settings()

    def connection(self) -> Connection:
        """The service to call: the one named, or the one that runs here.

        Raises:
            ConfigurationError: There is neither.
        """
        local = local_service(self.data)
        server = self.server or (local.url if local else None)
        if server is None:
            raise ConfigurationError(
                f"no server is named, and none runs on {self.data}{os.sep}: start one here with "
                "'gridtune serve', or name one with --server, GRIDTUNE_SERVER "
                "or 'server = …' in ~/.config/gridtune/config.ini"
            )
        token = self.token or (local.token if local and local.url == server else Secret())
        return Connection(server, token, self.ca)


def refuse_unknown_variables(environment: Iterable[str]) -> None:
    """Raise ConfigurationError if a ``GRIDTUNE_…`` variable is none that any part reads."""
    for name in sorted(environment):
        if not name.startswith("GRIDTUNE_") or name in VARIABLES or name in _ELSEWHERE:
            continue
        if not name.startswith(_ELSEWHERE_PREFIXES):
            hint = _closest(name, [*VARIABLES, *_ELSEWHERE])
            raise ConfigurationError(f"the environment variable {name} is unknown; {hint}")


def local_service(data: Path) -> LocalService | None:
    """The service that runs on a data folder; None if none does."""
    try:
        found = json.loads((data / "service.json").read_text(encoding="utf-8"))
        service = LocalService(str(found["url"]).rstrip("/"), int(found["pid"]), data)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return service if _alive(service.pid) else None


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except (OSError, OverflowError):
        return False
    return pid > 0


class _Reading:
    """The sources while they are read."""

    def __init__(self, flags: Mapping[str, str | None], environment: Mapping[str, str]) -> None:
        self._warnings: list[str] = []
        self._home = environment.get("HOME") or str(Path.home())
        if environment.get("GRIDTUNE_TOKEN") == "":
            # $(gridtune token create …) that failed, most likely: nobody else's token may take its place
            raise ConfigurationError("GRIDTUNE_TOKEN is empty; set it to a token, or unset it")
        self._given = {name: environment.get(variable) or None for variable, name in VARIABLES.items()}
        if flags.get("token_file"):
            self._given["token"] = None
        self._given.update({name: value for name, value in flags.items() if value})
        self._config = self._config_path(environment)
        self._profile, self._section = self._read_profile()

    def settings(self) -> Settings:
        server = self._server()
        return Settings(
            server=server,
            token=self._token(server),
            ca=self._ca(),
            data=self._path("data") or Path("gridtune-data"),
            profile=self._profile,
            warnings=tuple(self._warnings),
        )

    def _config_path(self, environment: Mapping[str, str]) -> Path:
        if self._given["config"]:
            return self._expand(self._given["config"])
        folder = environment.get("XDG_CONFIG_HOME") or f"{self._home}/.config"
        return Path(folder) / "gridtune" / "config.ini"

    def _read_profile(self) -> tuple[str, Mapping[str, str]]:
        name = self._given["profile"] or "default"
        profiles = self._read_config()
        if name not in profiles:
            if self._given["profile"]:
                hint = _closest(name, profiles)
                raise ConfigurationError(f"{self._config} has no profile [{name}]; {hint}")
            return name, {}
        section = profiles[name]
        for key in section:
            if key not in _PROFILE_KEYS:
                hint = _closest(key, _PROFILE_KEYS)
                raise ConfigurationError(f"{self._config}: [{name}] has an unknown key {key!r}; {hint}")
        return name, section

    def _read_config(self) -> dict[str, dict[str, str]]:
        parser = configparser.ConfigParser(interpolation=None, default_section="\n")
        try:
            parser.read_string(self._config.read_text(encoding="utf-8"), source=str(self._config))
        except FileNotFoundError:
            if self._given["config"]:
                raise ConfigurationError(f"there is no configuration file {self._config}") from None
            return {}
        except OSError as error:
            raise ConfigurationError(f"cannot read {self._config}: {error.strerror}") from error
        except (configparser.Error, UnicodeDecodeError) as error:
            raise ConfigurationError(f"{self._config} is no configuration file: {_line(error)}") from error
        profiles = {name: dict(parser[name]) for name in parser.sections()}
        if any("token" in section for section in profiles.values()):
            self._warn_if_open(self._config)
        return profiles

    def _server(self) -> str | None:
        text = self._given["server"] or self._section.get("server")
        return checked_url(text) if text else None

    def _token(self, server: str | None) -> Secret:
        """A profile's token goes to the profile's server only; another server needs a token named with it."""
        if self._given["token"]:
            return Secret(self._given["token"])
        if self._given["token_file"]:
            return self._token_from(self._expand(self._given["token_file"]))
        if "server" in self._section and checked_url(self._section["server"]) != server:
            return Secret()
        if self._section.get("token"):
            return Secret(self._section["token"])
        if self._section.get("token_file"):
            return self._token_from(self._beside_config(self._section["token_file"]))
        return Secret()

    def _token_from(self, path: Path) -> Secret:
        try:
            content = path.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigurationError(f"cannot read the token file {path}: {_line(error)}") from error
        if not content or len(content.split()) != 1:
            raise ConfigurationError(f"the token file {path} must hold one token and nothing else")
        self._warn_if_open(path)
        return Secret(content)

    def _ca(self) -> str | None:
        path = self._path("ca")
        if path is not None and not path.exists():
            raise ConfigurationError(f"there is no CA bundle {path}")
        return str(path) if path else None

    def _path(self, name: str) -> Path | None:
        if self._given[name]:
            return self._expand(str(self._given[name]))
        return self._beside_config(self._section[name]) if self._section.get(name) else None

    def _beside_config(self, text: str) -> Path:
        return self._config.parent / self._expand(text)

    def _expand(self, text: str) -> Path:
        return Path(self._home + text[1:] if text == "~" or text.startswith("~/") else text)

    def _warn_if_open(self, path: Path) -> None:
        if os.name == "posix" and path.stat().st_mode & 0o077:
            self._warnings.append(f"{path} holds a token and others can read it: chmod 600 {path}")


def checked_url(text: str) -> str:
    """The base URL of a service, without a slash at its end.

    Raises:
        ConfigurationError: It is none.
    """
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigurationError(f"server: {text!r} is no URL; write it like https://tune.example.org")
    if parts.query or parts.fragment or parts.username is not None:
        raise ConfigurationError("server: write the base URL alone, such as https://tune.example.org")
    return text.rstrip("/")


def _closest(name: str, known: Iterable[str]) -> str:
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1)
    if close:
        return f"did you mean {close[0]}?"
    return f"known are {', '.join(names)}" if names else "it has none yet"


def _line(error: Exception) -> str:
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(text.split())
