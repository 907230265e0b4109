"""The image that tests run payloads in, in the forms that runtimes take: this machine's Python and a few tools."""

from __future__ import annotations

import ensurepip
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

#: Its name in engines; it has nothing of gridtune.
IMAGE: Final = "localhost/tests/python:latest"
#: The image's own variables.
VARIABLES: Final[Mapping[str, str]] = {
    "PATH": "/opt/python/bin:/usr/local/bin:/usr/bin:/bin",
    "LD_LIBRARY_PATH": "/opt/python/lib",
    "IMAGES_OWN": "yes",
}
#: What a plain image has besides Python.
_TOOLS = (
    "/bin/sh",
    *(
        f"/bin/{name}"
        for name in ("bash", "cat", "chmod", "cp", "date", "grep", "kill", "ls", "mkdir", "mv", "rm", "sed")
    ),
    *(f"/bin/{name}" for name in ("sleep", "dd", "touch")),
    *(f"/usr/bin/{name}" for name in ("env", "head", "id", "nproc", "readlink", "sha256sum", "tail", "wc")),
)
#: Left out of the image's Python: what tests do not need and makes it large.
_LEFT_OUT = ("site-packages", "test", "idlelib", "tkinter", "__pycache__", "ensurepip", "lib2to3", "turtledemo")
#: Libraries that compiled packages take for granted.
_EXPECTED = ("libdl.so.2", "libgcc_s.so.1", "libpthread.so.0", "librt.so.1", "libstdc++.so.6", "libutil.so.1")
_FOLDERS = ("tmp", "proc", "sys", "dev", "etc")
#: Files that an engine or `ch-run` covers with its own.
_EMPTY = ("etc/passwd", "etc/group")


def archive(path: Path) -> None:
    """Write the image's files as a plain archive, for ``docker import`` and its like."""
    with tarfile.open(path, "w") as image:
        for name, source in sorted(_contents().items()):
            image.add(source, name, recursive=False)
        for folder in _FOLDERS:
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o1777 if folder == "tmp" else 0o755
            image.addfile(entry)
        for name in _EMPTY:
            image.addfile(tarfile.TarInfo(name))


def unpack(folder: Path) -> None:
    """Make the image a folder, with its variables where Charliecloud's programs write them."""
    packed = folder.with_name(f"{folder.name}.tar")
    archive(packed)
    folder.mkdir(mode=0o755)
    subprocess.run(["tar", "--extract", f"--file={packed}", f"--directory={folder}"], check=True)
    packed.unlink()
    (folder / "ch").mkdir()
    lines = [f"{name}={value}\n" for name, value in VARIABLES.items()]
    (folder / "ch" / "environment").write_text("".join(lines))


def load(engine: Callable[..., str], folder: Path) -> None:
    """Import the image into an engine that has ``docker``'s commands, and try it."""
    packed = folder / "image.tar"
    archive(packed)
    variables = [f"--change=ENV {name}={value}" for name, value in VARIABLES.items()]
    engine("import", *variables, str(packed), IMAGE)
    packed.unlink()
    assert engine("run", "--rm", "--network=none", IMAGE, "python3", "-c", "print('fine')") == "fine"


def write_base(context: Path) -> None:
    """Write what makes `IMAGE` an image to build others on: pip, and what compiled packages expect."""
    python = context / "python" / "lib"
    [pip] = (Path(ensurepip.__file__).parent / "_bundled").glob("pip-*.whl")
    with zipfile.ZipFile(pip) as wheel:
        wheel.extractall(  # noqa: S202 - this Python brought it
            python / f"python{sysconfig.get_python_version()}" / "site-packages"
        )
    cached = subprocess.run(["ldconfig", "-p"], capture_output=True, text=True, check=True).stdout
    for library in _EXPECTED:
        [path, *_] = [line.split()[-1] for line in cached.splitlines() if line.split()[0] == library]
        shutil.copy(path, python / library)
    (context / "Dockerfile").write_text(f"FROM {IMAGE}\nCOPY python /opt/python\n")


def _contents() -> dict[str, Path]:
    """Path in the image → file of this machine."""
    prefix = Path(os.path.realpath(sys.base_prefix))
    version = sysconfig.get_python_version()
    files = {
        f"opt/python/bin/{name}": prefix / f"bin/python{version}" for name in ("python", "python3", f"python{version}")
    }
    for path in files_below(prefix / "lib" / f"python{version}"):
        files[f"opt/python/lib/{path.relative_to(prefix / 'lib')}"] = path
    for path in (prefix / "lib").glob("libpython*.so*"):
        files[f"opt/python/lib/{path.name}"] = path
    files |= {tool.lstrip("/"): Path(os.path.realpath(tool)) for tool in _TOOLS if os.path.exists(tool)}
    programs = [path for path in files.values() if path.suffix != ".py" and os.access(path, os.X_OK)]
    return files | {library.lstrip("/"): Path(library).resolve() for library in libraries_of(programs)}


def files_below(folder: Path) -> Iterator[Path]:
    """The files below a folder, without what tests do not need."""
    for path in folder.iterdir():
        if path.name in _LEFT_OUT or path.suffix == ".a" or path.name.startswith("config-"):
            continue
        if path.is_dir():
            yield from files_below(path)
        else:
            yield path


def libraries_of(programs: Iterable[Path]) -> set[str]:
    """The shared libraries of programs, by ldd(1)."""
    found: set[str] = set()
    printed = subprocess.run(["ldd", *map(str, programs)], capture_output=True, text=True, check=False).stdout
    for line in printed.splitlines():
        words = line.split()
        found.update(word for word in words[:3] if word.startswith("/") and not word.endswith(":"))
    return found
