"""A real container engine: a Docker of the tests' own, without a bridge, and an image with a Python and a shell."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

#: What has to be installed (Debian: docker.io).
PROGRAMS = ("dockerd", "docker", "containerd", "runc")
#: The image that tests run payloads in; it has nothing of gridtune.
IMAGE = "localhost/tests/python:latest"
_PATIENCE = 60.0
#: What a plain image has besides Python.
_TOOLS = (
    "/bin/sh",
    *(
        f"/bin/{name}"
        for name in ("bash", "cat", "chmod", "cp", "date", "grep", "kill", "ls", "mkdir", "mv", "rm", "sed")
    ),
    *(f"/bin/{name}" for name in ("sleep", "dd", "touch")),
    *(f"/usr/bin/{name}" for name in ("env", "head", "id", "nproc", "tail", "wc")),
)
#: Left out of the image's Python: what tests do not need and makes it large.
_LEFT_OUT = ("site-packages", "test", "idlelib", "tkinter", "__pycache__", "ensurepip", "lib2to3", "turtledemo")


def is_installed() -> bool:
    """Whether all programs are there."""
    return all(shutil.which(program) for program in PROGRAMS)


@dataclass
class Docker:
    """An engine below a folder, to be started once; needs root."""

    folder: Path
    daemon: subprocess.Popen[bytes] | None = field(default=None)

    @property
    def address(self) -> str:
        """For ``DOCKER_HOST``."""
        return f"unix://{self.folder}/docker.sock"

    def start(self) -> None:
        """Start the engine, and make the image unless it is there."""
        options = {
            "host": self.address,
            "data-root": f"{self.folder}/data",
            "exec-root": f"{self.folder}/exec",
            "pidfile": f"{self.folder}/pid",
            "bridge": "none",
            "iptables": "false",
            "ip6tables": "false",
            "ip-masq": "false",
        }
        command = ["dockerd", *(f"--{name}={value}" for name, value in options.items())]
        with (self.folder / "log").open("ab") as log:
            self.daemon = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        self._wait()
        if not self.run("images", "--quiet", IMAGE):
            make_image(self, IMAGE)

    def end(self) -> None:
        """End the engine and all of its containers, and remove its folder."""
        if self.daemon is not None:
            for container in self.run("ps", "--all", "--quiet").split():
                self.run("rm", "--force", container)
            self.daemon.terminate()
            self.daemon.wait()
            unmount_below(self.folder)
        shutil.rmtree(self.folder)

    def run(self, *words: str, stdin: Iterable[bytes] = ()) -> str:
        """What a command of Docker's own program prints."""
        environment = {**os.environ, "DOCKER_HOST": self.address, "DOCKER_CONFIG": str(self.folder / "config")}
        done = subprocess.run(["docker", *words], capture_output=True, env=environment, check=False)
        if done.returncode:
            raise AssertionError(f"docker {' '.join(words)}: {done.stderr.decode()}")
        return done.stdout.decode().strip()

    def _wait(self) -> None:
        deadline = time.monotonic() + _PATIENCE
        while True:
            try:
                self.run("version")
                return
            except AssertionError:
                if time.monotonic() > deadline or (self.daemon and self.daemon.poll() is not None):
                    raise AssertionError((self.folder / "log").read_text()[-3000:]) from None
                time.sleep(0.1)


def unmount_below(folder: Path) -> None:
    """Unmount what a daemon has left mounted, so that the folder can be removed."""
    points = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    for point in sorted(points, reverse=True):
        if point.startswith(f"{folder}/"):
            subprocess.run(["umount", point], check=True)


def make_image(docker: Docker, name: str) -> None:
    """Make an image out of this machine's Python, and import it."""
    archive = docker.folder / "image.tar"
    with tarfile.open(archive, "w") as image:
        for path, source in sorted(_contents().items()):
            image.add(source, path, recursive=False)
        for folder in ("tmp", "proc", "sys", "dev", "etc"):
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o1777 if folder == "tmp" else 0o755
            image.addfile(entry)
    python = f"/opt/python/bin/python{sysconfig.get_python_version()}"
    path = "PATH=/opt/python/bin:/usr/bin:/bin"
    docker.run("import", "--change", f"ENV {path} LD_LIBRARY_PATH=/opt/python/lib", str(archive), name)
    archive.unlink()
    assert docker.run("run", "--rm", "--network=none", name, python, "-c", "print('fine')") == "fine"


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
