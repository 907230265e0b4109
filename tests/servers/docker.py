"""A real container engine: a Docker of the tests' own, without a bridge."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

from servers import images
from servers.mounts import unmount_below

#: What has to be installed (Debian: docker.io).
PROGRAMS = ("dockerd", "docker", "containerd", "runc")
_PATIENCE = 60.0


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
        images.load(self.run, self.folder)

    def end(self) -> None:
        """End the engine and all of its containers, and remove its folder."""
        if self.daemon is not None:
            for container in self.run("ps", "--all", "--quiet").split():
                self.run("rm", "--force", container)
            self.daemon.terminate()
            self.daemon.wait()
            unmount_below(self.folder)
        shutil.rmtree(self.folder)

    def run(self, *words: str) -> str:
        """What a command of Docker's own program prints."""
        environment = {
            **os.environ,
            "DOCKER_HOST": self.address,
            "DOCKER_CONFIG": str(self.folder / "config"),
            "DOCKER_BUILDKIT": "0",  # the builder that every client has
        }
        done = subprocess.run(["docker", *words], capture_output=True, env=environment, check=False)
        if done.returncode:
            raise AssertionError(f"docker {' '.join(words)}: {done.stderr.decode()}")
        return done.stdout.decode().strip()

    def build(self, image: str, context: Path, *words: str) -> None:
        """Build an image; without a network, so from what this machine has."""
        self.run("build", "--quiet", "--network=none", "--tag", image, *words, str(context))

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
