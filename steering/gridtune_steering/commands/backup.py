"""Copy a service's database, key and operator's token into a new folder, while the service runs.

The folder is a data folder: 'gridtune serve --data FOLDER' goes on from there. Stored objects (checkpoints, logs,
archived tasks) are not in it: copy the store afterwards, within the hour. PostgreSQL is backed up by pg_dump.
"""

from __future__ import annotations

import argparse
import os
import secrets
import shutil
from pathlib import Path

from gridtune_common.cli import output
from gridtune_common.errors import ConfigurationError
from gridtune_common.units import show_bytes
from gridtune_steering.bookkeeping import backup
from gridtune_steering.bookkeeping.database import sqlite_file
from gridtune_steering.objectstore.disk import sync_folder
from gridtune_steering.settings import Settings

#: What is kept besides the database: without it tokens cannot be made again, and operators are locked out.
_SECRETS = ("service.key", "operator.token")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="where to; it must not exist yet")
    parser.add_argument("--data", type=Path, metavar="DIR", help="data folder (default: gridtune-data)")


def run(arguments: argparse.Namespace) -> int:
    """Back up."""
    settings = Settings.from_environment(data=arguments.data)
    database = _database(settings)
    target: Path = arguments.folder
    if target.exists():
        raise ConfigurationError(f"{target} exists; name a folder that does not, such as {target}-2")
    os.umask(0o077)  # the copies are as secret as what they are copies of
    draft = target.with_name(f"{target.name}.{secrets.token_hex(4)}")
    try:
        _fill(draft, settings.data, database)
        draft.rename(target)
        sync_folder(target.absolute().parent)
    except OSError as error:
        raise ConfigurationError(f"cannot write {target}: {error.strerror} ({error.filename})") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    output.say(f"{target} has it all, database {show_bytes((target / 'gridtune.db').stat().st_size)}")
    if not settings.object_store:
        output.say(f"to be copied besides: {settings.data / 'objects'}")
    return 0


def _database(settings: Settings) -> Path:
    file = sqlite_file(settings.database_url)
    if file is None:
        raise ConfigurationError(
            "this service's database is PostgreSQL: back it up with pg_dump --format=custom, and copy "
            f"{' and '.join(_SECRETS)} of {settings.data}; see docs/operating.md"
        )
    if not file.is_file():
        raise ConfigurationError(f"there is no database {file}; name the data folder with --data")
    return file


def _fill(folder: Path, data: Path, database: Path) -> None:
    """The database first: a token whose file is newer than the database is made anew, one that is older is known."""
    folder.mkdir(parents=True)
    backup.copy(database, folder / "gridtune.db")
    for name in _SECRETS:
        if (data / name).exists():
            shutil.copyfile(data / name, folder / name)
    for path in folder.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
    sync_folder(folder)
