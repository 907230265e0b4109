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

from servers import ceph as ceph_server
from servers import postgres

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
#: What the usual image of PostgreSQL does at its first start, with the same variables.
_MAKE_CLUSTER = """\
#!/bin/sh
set -eu
if [ ! -s "$PGDATA/PG_VERSION" ]; then
    umask 077
    echo "$POSTGRES_PASSWORD" >/tmp/password
    initdb --username="$POSTGRES_USER" --pwfile=/tmp/password --auth=scram-sha-256 --encoding=UTF8 --locale=C
    echo "host all all all scram-sha-256" >>"$PGDATA/pg_hba.conf"
    echo "CREATE DATABASE $POSTGRES_DB" | postgres --single postgres
    rm /tmp/password
fi
unset POSTGRES_PASSWORD
exec "$@"
"""
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


def write_nginx(context: Path) -> None:
    """Write what an image of this machine's nginx is built of (Debian: nginx-light), to be used as the usual one is."""
    _copy(context, _programs("nginx", "curl"))
    (context / "root" / "tmp").mkdir()
    (context / "root" / "tmp").chmod(0o1777)  # what is mounted there gets these rights
    (context / "Dockerfile").write_text('FROM scratch\nCOPY root /\nCMD ["nginx", "-g", "daemon off;"]\n')


def write_postgres(context: Path) -> None:
    """Write what an image of this machine's PostgreSQL is built of, to be used as the usual one is."""
    programs = Path(os.path.realpath(postgres.program("postgres") or "")).parent
    home = programs.parent
    modules = [path for path in (home / "lib").glob("*.so") if not path.name.startswith("llvm")]
    zones = Path("/usr/share/zoneinfo")
    shared = Path("/usr/share/postgresql") / home.name
    own = [programs / name for name in ("initdb", "pg_isready", "postgres")]
    _copy(context, [*own, *_programs("chown"), *modules, *_files(shared), *_files(zones / "Etc"), zones / "UTC"])
    (context / "entrypoint").write_text(_MAKE_CLUSTER)
    (context / "entrypoint").chmod(0o755)
    lines = [
        f"FROM {IMAGE}",
        "COPY root /",
        "COPY entrypoint /usr/local/bin/entrypoint",
        "RUN echo postgres:x:999:999::/:/bin/sh >/etc/passwd"
        " && mkdir -p /var/lib/postgresql/data /var/run/postgresql"
        " && chown 999:999 /var/lib/postgresql/data /var/run/postgresql && chmod 1777 /var/run/postgresql",
        f"ENV PATH={programs}:{VARIABLES['PATH']} PGDATA=/var/lib/postgresql/data",
        "VOLUME /var/lib/postgresql/data",
        "STOPSIGNAL SIGINT",
        'ENTRYPOINT ["entrypoint"]',
    ]
    (context / "Dockerfile").write_text("\n".join(lines) + "\n")


def write_ceph(context: Path) -> None:
    """Write what an image of this machine's Ceph is built of, to build others on."""
    python = "/usr/bin/python3"  # the one that Debian's program `ceph` is for
    script = "import sysconfig; print(sysconfig.get_path('stdlib'))"
    library = Path(subprocess.run([python, "-c", script], capture_output=True, text=True, check=True).stdout.strip())
    packages = library.parent / "python3" / "dist-packages"
    named = [path for name in ("ceph", "rados", "prettytable", "wcwidth") for path in packages.glob(f"{name}*")]
    modules = [file for path in named for file in (_files(path) if path.is_dir() else [path])]
    ceph = [path for path in _programs(*ceph_server.PROGRAMS) if path.name != "python3"]
    [radosgw] = [path for path in ceph if path.name == "radosgw"]
    plugins = Path("/usr/lib") / Path(next(name for name in _libraries([radosgw]) if "/libradosgw." in name)).parent.name
    more = [*_programs("ceph-bluestore-tool", "chown"), Path(python), Path("/etc/os-release"), *_files(library), *modules]
    _copy(context, [*ceph, *more, *_files(plugins / "ceph"), *_files(plugins / "rados-classes")])
    (context / "Dockerfile").write_text(f"FROM {IMAGE}\nCOPY root /\n")


def _programs(*names: str) -> list[Path]:
    found = [shutil.which(name) for name in names]
    assert all(found), f"not all of {', '.join(names)} are installed"
    return [Path(path) for path in found if path]


def _files(folder: Path) -> list[Path]:
    """The files below a folder, without what tests do not need."""
    return list(_walk(folder))


def _copy(context: Path, files: Iterable[Path]) -> None:
    """Copy files, and the libraries that they need, to where they are found on this machine."""
    files = list(files)
    binaries = [path for path in files if os.access(path, os.X_OK) or ".so" in path.name]
    for path in {*files, *map(Path, _libraries(binaries))}:
        copy = context / "root" / str(path).lstrip("/")
        copy.parent.mkdir(parents=True, exist_ok=True)
        if not copy.exists():
            shutil.copy(path, copy)


def _contents() -> dict[str, Path]:
    """Path in the image → file of this machine."""
    prefix = Path(os.path.realpath(sys.base_prefix))
    version = sysconfig.get_python_version()
    files = {
        f"opt/python/bin/{name}": prefix / f"bin/python{version}" for name in ("python", "python3", f"python{version}")
    }
    for path in _walk(prefix / "lib" / f"python{version}"):
        files[f"opt/python/lib/{path.relative_to(prefix / 'lib')}"] = path
    for path in (prefix / "lib").glob("libpython*.so*"):
        files[f"opt/python/lib/{path.name}"] = path
    files |= {tool.lstrip("/"): Path(os.path.realpath(tool)) for tool in _TOOLS if os.path.exists(tool)}
    programs = [path for path in files.values() if path.suffix != ".py" and os.access(path, os.X_OK)]
    return files | {library.lstrip("/"): Path(library).resolve() for library in _libraries(programs)}


def _walk(folder: Path) -> Iterator[Path]:
    for path in folder.iterdir():
        if path.name in _LEFT_OUT or path.suffix == ".a" or path.name.startswith("config-"):
            continue
        if path.is_dir():
            yield from _walk(path)
        else:
            yield path


def _libraries(programs: Iterable[Path]) -> set[str]:
    """The shared libraries of programs, by ldd(1)."""
    found: set[str] = set()
    printed = subprocess.run(["ldd", *map(str, programs)], capture_output=True, text=True, check=False).stdout
    for line in printed.splitlines():
        words = line.split()
        found.update(word for word in words[:3] if word.startswith("/") and not word.endswith(":"))
    return found
