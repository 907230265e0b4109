"""Images of servers, made of what this machine has installed, to be used as the usual ones are."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

from servers import ceph as ceph_server
from servers import postgres
from servers.images import IMAGE, VARIABLES, files_below, libraries_of

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
    _copy(
        context, [*own, *_programs("chown"), *modules, *files_below(shared), *files_below(zones / "Etc"), zones / "UTC"]
    )
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
    programs = _programs(*ceph_server.PROGRAMS, "ceph-bluestore-tool", "chown")
    gateway = next(name for name in libraries_of(programs) if "/libradosgw." in name)
    home = Path("/usr/lib") / Path(gateway).parent.name  # ldd leaves /usr out
    plugins = [*files_below(home / "ceph"), *files_below(home / "rados-classes")]
    _copy(context, [*programs, *plugins, *_debians_python(), Path("/etc/os-release")])
    (context / "Dockerfile").write_text(f"FROM {IMAGE}\nCOPY root /\n")


def _debians_python() -> list[Path]:
    """The Python that the program `ceph` is for, with what that imports."""
    python = "/usr/bin/python3"
    script = "import sysconfig; print(sysconfig.get_path('stdlib'))"
    library = Path(subprocess.run([python, "-c", script], capture_output=True, text=True, check=True).stdout.strip())
    packages = library.parent / "python3" / "dist-packages"
    named = [path for name in ("ceph", "rados", "prettytable", "wcwidth") for path in packages.glob(f"{name}*")]
    modules = [file for path in named for file in (files_below(path) if path.is_dir() else [path])]
    return [Path(python), *files_below(library), *modules]


def _programs(*names: str) -> list[Path]:
    found = [shutil.which(name) for name in names]
    assert all(found), f"not all of {', '.join(names)} are installed"
    return [Path(path) for path in found if path]


def _copy(context: Path, files: Iterable[Path]) -> None:
    """Copy files, and the libraries that they need, to where they are found on this machine."""
    files = list(files)
    binaries = [path for path in files if os.access(path, os.X_OK) or ".so" in path.name]
    for path in {*files, *map(Path, libraries_of(binaries))}:
        copy = context / "root" / str(path).lstrip("/")
        copy.parent.mkdir(parents=True, exist_ok=True)
        if not copy.exists():
            shutil.copy(path, copy)
