"""Loads task files: YAML or JSON text, and the files that travel with the task.

Beyond what the readers themselves refuse, a key that is written twice is refused at any depth, because
readers would silently take the last one. In YAML, ``1e-5`` is a number, as YAML 1.2 has it.
"""

from __future__ import annotations

import base64
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from gridtune_common.errors import Flaw, InvalidDocument, MissingExtra
from gridtune_common.protocol import ShippedFile
from gridtune_common.space.reading import Flaws, join
from gridtune_common.taskfile.data import clashing
from gridtune_common.taskfile.model import MAX_NAME_LENGTH, Task
from gridtune_common.taskfile.parsing import parse_task
from gridtune_common.taskfile.values import INPUT_FILE

#: How task files are written, by the ending of their name.
FORMS: Final = {".yaml": "yaml", ".yml": "yaml", ".json": "json"}

MAX_SHIPPED_BYTES: Final = 8 * 2**20

_MAX_VALUES: Final = 100_000
_UNFINISHED: Final = 0
_YAML_FLOAT: Final = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)[eE][-+]?[0-9]+")


@dataclass(frozen=True)
class LoadedTask:
    """A task file, read.

    Attributes:
        task: What it says.
        document: Its content as plain values, with the name that was taken from the file if it gives none.
        source: Its text, word for word.
        files: What ``payload.files`` names, folders unfolded.
    """

    task: Task
    document: dict[str, Any]
    source: str
    files: list[ShippedFile]


def load_task(path: Path) -> LoadedTask:
    """Load a task file and the files that it names.

    Raises:
        InvalidDocument: It cannot be read or used; names every flaw.
        MissingExtra: It is YAML, and PyYAML is not installed.
    """
    source = _read_source(path)
    document = parse_text(source, FORMS[path.suffix.lower()])
    task = parse_task(document, _name_from(path))
    files = _gather(task, path.resolve().parent)
    return LoadedTask(task=task, document={"name": task.name, **_present(document)}, source=source, files=files)


def parse_text(text: str, form: str) -> Any:
    """Read a document from YAML or JSON text.

    Args:
        text: The text.
        form: ``yaml`` or ``json``.

    Raises:
        InvalidDocument: The text is malformed, or writes a key twice.
        MissingExtra: It is YAML, and PyYAML is not installed.
    """
    try:
        return _parse_yaml(text) if form == "yaml" else _parse_json(text)
    except RecursionError:
        raise InvalidDocument([Flaw("", "is nested too deeply; make it flatter")]) from None


def _read_source(path: Path) -> str:
    if path.suffix.lower() not in FORMS:
        raise _refusal(path, f"is no task file by its name; call it *{', *'.join(FORMS)}")
    try:
        return path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise _refusal(path, "does not exist; check the path") from None
    except OSError as error:
        raise _refusal(path, f"cannot be read: {error.strerror or error}; check the path") from error
    except UnicodeDecodeError as error:
        raise _refusal(path, f"is not UTF-8 text (byte {error.start}); save it as UTF-8") from error


def _refusal(path: Path, message: str) -> InvalidDocument:
    return InvalidDocument([Flaw(str(path), message)])


def _name_from(path: Path) -> str:
    """The file's name, in the letters that a task's name may have."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", path.stem).strip("._-")[:MAX_NAME_LENGTH] or "task"


def _present(document: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in document.items() if value is not None}


# --- JSON ---------------------------------------------------------------------------------------------------


class _Object(dict[str, Any]):
    """A JSON object that remembers which of its keys were written more than once."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        names = [name for name, _ in pairs]
        self.repeated = [name for name in self if names.count(name) > 1] if len(self) < len(names) else []


class _NoNumber:
    """What stands for NaN and Infinity, which JSON does not have."""

    def __init__(self, literal: str) -> None:
        self.literal = literal


def _parse_json(text: str) -> Any:
    try:
        document = json.loads(text, object_pairs_hook=_Object, parse_constant=_NoNumber)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise InvalidDocument([Flaw(where, f"{error.msg}; correct the JSON there")]) from error
    except ValueError as error:  # a number with thousands of digits
        raise InvalidDocument([Flaw("", f"{error}; write a shorter number")]) from error
    flaws = Flaws()
    plain = _plain(document, "", flaws)
    flaws.raise_if_any()
    return plain


def _plain(value: Any, path: str, flaws: Flaws) -> Any:
    if isinstance(value, _NoNumber):
        flaws.add(path, f"{value.literal} is no JSON number; write a finite number")
        return None
    if isinstance(value, list):
        return [_plain(below, join(path, f"[{index}]"), flaws) for index, below in enumerate(value)]
    if not isinstance(value, _Object):
        return value
    for name in value.repeated:
        flaws.add(join(path, name), "is written twice; keep one")
    return {name: _plain(below, join(path, name), flaws) for name, below in value.items()}


# --- YAML ---------------------------------------------------------------------------------------------------


def _parse_yaml(text: str) -> Any:
    loader_class = _yaml_loader()
    import yaml

    try:
        loader = loader_class(text)
        node = loader.get_single_node()
        flaws = Flaws()
        if _measure(node, "", flaws, {}) > _MAX_VALUES:
            flaws.add("", f"unfolds to more than {_MAX_VALUES} values; write less, or use fewer aliases")
        flaws.raise_if_any()
        return None if node is None else loader.construct_document(node)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        problem = error.problem or error.context or "malformed"
        raise InvalidDocument([Flaw(where, f"{problem}; correct the YAML there")]) from error
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        raise InvalidDocument([Flaw("", f"{' '.join(str(error).split())}; correct the YAML")]) from error


@lru_cache(maxsize=1)
def _yaml_loader() -> Any:
    """PyYAML's safe loader, imported on first use, with the numbers of YAML 1.2."""
    try:
        import yaml
    except ImportError:
        raise MissingExtra("PyYAML", "yaml") from None

    class Loader(yaml.SafeLoader):
        """Reads plain data only."""

    Loader.add_implicit_resolver("tag:yaml.org,2002:float", _YAML_FLOAT, list("-+.0123456789"))
    return Loader


def _measure(node: Any, path: str, flaws: Flaws, sizes: dict[int, int]) -> int:
    """Count the values below a node; refuse keys that are written twice and nodes that contain themselves."""
    if sizes.get(id(node)) == _UNFINISHED:
        flaws.add(path, "refers to itself; write its content out")
    if id(node) not in sizes:
        sizes[id(node)] = _UNFINISHED
        children = _children(node, path, flaws)
        sizes[id(node)] = 1 + sum(_measure(child, below, flaws, sizes) for below, child in children)
    return sizes[id(node)]


def _children(node: Any, path: str, flaws: Flaws) -> Iterator[tuple[str, Any]]:
    if node is None or isinstance(node.value, str):
        return
    lines: dict[tuple[str, str], int] = {}
    for index, child in enumerate(node.value):
        if not isinstance(child, tuple):
            yield join(path, f"[{index}]"), child
            continue
        key, value = child
        below, line = join(path, str(key.value)), key.start_mark.line + 1
        known = (key.tag, str(key.value))
        if known in lines:
            flaws.add(below, f"is written twice (lines {lines[known]} and {line}); keep one")
        lines[known] = line
        yield below, value


# --- files --------------------------------------------------------------------------------------------------


def _gather(task: Task, folder: Path) -> list[ShippedFile]:
    """Read the files that travel with a task, each once, in the order in which they are named."""
    flaws = Flaws()
    found: dict[str, Path] = {}
    own = {INPUT_FILE, task.payload.result.file} if task.payload else set()
    for index, name in enumerate(task.payload.files if task.payload else ()):
        where = f"payload.files[{index}]"
        target = folder / name
        if not _is_inside(target, folder):
            flaws.add(where, f"{name} leads out of {folder}; copy it there")
        elif target.is_dir():
            found.update(_unfold(target, folder, own, where, flaws))
        elif not target.is_file():
            flaws.add(where, f"{name} does not exist in {folder}; correct the name or create it")
        elif name in own:
            flaws.add(where, f"{name} is written by each evaluation itself; ship it under another name")
        else:
            found[name] = target
    for path in task.payload.data if task.payload else ():
        clash = clashing(path, found)
        if clash is not None:
            flaws.add(
                join("payload.data", path), f"is in the way of {clash}, which travels with the task; write another path"
            )
    _check_size(found, flaws)
    flaws.raise_if_any()
    return [_ship(name, path) for name, path in found.items()]


def _is_inside(path: Path, folder: Path) -> bool:
    """Whether the path leads to a place below the folder, links followed."""
    try:
        path.resolve().relative_to(folder.resolve())
    except (ValueError, OSError, RuntimeError):  # RuntimeError: a link to itself
        return False
    return True


def _unfold(target: Path, folder: Path, own: set[str], where: str, flaws: Flaws) -> Iterator[tuple[str, Path]]:
    """All files below a folder but hidden ones, compiled Python, and what evaluations write themselves."""
    for parent, folders, names in os.walk(target):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name != "__pycache__")
        for name in sorted(names) + folders:
            path = Path(parent, name)
            relative = path.relative_to(folder).as_posix()
            if name.startswith(".") or relative in own:
                continue
            if not _is_inside(path, folder) or (path.is_symlink() and not path.is_file()):
                flaws.add(where, f"{relative} is a link to elsewhere; put the file itself there")
            elif path.is_file():
                yield relative, path


def _check_size(found: dict[str, Path], flaws: Flaws) -> None:
    sizes = {name: path.stat().st_size for name, path in found.items()}
    total = sum(sizes.values())
    if total > MAX_SHIPPED_BYTES:
        largest = max(sizes, key=lambda name: sizes[name])
        flaws.add(
            "payload.files",
            f"{total / 2**20:.1f} MiB are too much to ship with a task, the most is 8 MiB; "
            f"keep data (the largest is {largest}) where the workers can read it, or in the image",
        )


def _ship(name: str, path: Path) -> ShippedFile:
    try:
        content = path.read_bytes()
        is_executable = bool(path.stat().st_mode & 0o111)
    except OSError as error:
        message = f"{name} cannot be read: {error.strerror}; check its permissions"
        raise InvalidDocument([Flaw("payload.files", message)]) from error
    return ShippedFile(name, base64.b64encode(content).decode("ascii"), is_executable)
