"""A real container engine: a Podman of the tests' own behind its Docker-compatible socket."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

from servers import images
from servers.mounts import unmount_below

#: What has to be installed (Debian: podman, runc, uidmap).
PROGRAMS = ("podman", "runc", "conmon", "newuidmap")
_PATIENCE = 60.0


def is_installed() -> bool:
    """Whether all programs are there."""
    return all(shutil.which(program) for program in PROGRAMS)


@dataclass
class Podman:
    """An engine below a folder, to be started once; needs root."""

    folder: Path
    service: subprocess.Popen[bytes] | None = field(default=None)

    @property
    def address(self) -> str:
        """For ``CONTAINER_HOST``."""
        return f"unix://{self.folder}/podman.sock"

    def start(self) -> None:
        """Start the engine, and make the image."""
        (self.folder / "containers.conf").write_text(_settings())
        command = [*self._podman(), "system", "service", "--time=0", self.address]
        with (self.folder / "log").open("ab") as log:
            environment = self._environment()
            # the folder is also where its helper leaves a file when the kernel has killed for want of memory
            self.service = subprocess.Popen(command, stdout=log, stderr=log, env=environment, cwd=self.folder)
        self._wait()
        images.load(self.run, self.folder)

    def end(self) -> None:
        """End the engine and all of its containers, and remove its folder."""
        if self.service is not None:
            self.service.terminate()
            self.service.wait()
            self._reset()
            unmount_below(self.folder)
        shutil.rmtree(self.folder)

    def run(self, *words: str) -> str:
        """What a command of Podman's own program prints; it works beside the service, on the same storage."""
        command = [*self._podman(), *words]
        done = subprocess.run(command, capture_output=True, env=self._environment(), check=False)
        if done.returncode:
            raise AssertionError(f"podman {' '.join(words)}: {done.stderr.decode()}")
        return done.stdout.decode().strip()

    def _reset(self) -> None:
        """Remove everything; what was just being removed makes that fail."""
        deadline = time.monotonic() + _PATIENCE
        while True:
            try:
                self.run("system", "reset", "--force")
                return
            except AssertionError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.5)

    def _podman(self) -> list[str]:
        places = {"root": "data", "runroot": "run", "tmpdir": "tmp"}
        return ["podman", *(f"--{option}={self.folder}/{name}" for option, name in places.items())]

    def _environment(self) -> dict[str, str]:
        inherited = {name: value for name, value in os.environ.items() if name != "CONTAINER_HOST"}  # a mere client's
        return {**inherited, "CONTAINERS_CONF": str(self.folder / "containers.conf")}

    def _wait(self) -> None:
        deadline = time.monotonic() + _PATIENCE
        while not (self.folder / "podman.sock").exists():
            if time.monotonic() > deadline or (self.service and self.service.poll() is not None):
                raise AssertionError((self.folder / "log").read_text()[-3000:])
            time.sleep(0.1)


def _settings() -> str:
    """What also works where control groups are of both versions, and where root may not raise its own limits."""
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    processes = min(resource.getrlimit(resource.RLIMIT_NPROC)[1], 20000)
    return f"""
[containers]
default_ulimits = ["nofile={files}:{files}", "nproc={processes}:{processes}"]

[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
"""
