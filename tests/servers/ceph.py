"""A real object store: one monitor, one OSD that keeps everything in memory, and the RADOS Gateway, which speaks S3."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from real_service import free_port

#: What has to be installed (Debian: ceph-mon, ceph-osd, radosgw, ceph-common).
PROGRAMS = ("ceph", "ceph-authtool", "ceph-mon", "ceph-osd", "monmaptool", "radosgw", "radosgw-admin")
_PATIENCE = 90.0
_CONFIGURATION = """\
[global]
fsid = {fsid}
mon_host = v2:127.0.0.1:{mon_port}/0
public_addr = 127.0.0.1
cluster_addr = 127.0.0.1
ms_bind_ipv6 = false
auth_allow_insecure_global_id_reclaim = false
keyring = {folder}/keyring
run_dir = {folder}
log_file = {folder}/$name.log
admin_socket =
osd_pool_default_size = 1
osd_pool_default_min_size = 1
osd_pool_default_pg_num = 1
osd_pool_default_pg_autoscale_mode = off
osd_crush_chooseleaf_type = 0
mon_allow_pool_size_one = true
mon_max_pg_per_osd = 2000
mon_data_avail_crit = 1
mon_data_avail_warn = 2
paxos_propose_interval = 0.02
paxos_min_wait = 0.01
osd_mon_report_interval = 1
mon_data = {folder}/mon
osd_data = {folder}/osd
osd_objectstore = memstore
osd_class_update_on_start = false
memstore_device_bytes = 4294967296
rgw_data = {folder}/rgw
rgw_frontends = beast endpoint=127.0.0.1:{port}
rgw_enable_apis = s3,admin
rgw_dns_name = localhost
rgw_thread_pool_size = 32
"""
_CAPABILITIES = {
    "mon.": {"mon": "allow *"},
    "client.admin": {"mon": "allow *", "osd": "allow *", "mgr": "allow *"},
    "osd.0": {"mon": "allow profile osd", "osd": "allow *"},
    "client.rgw": {"mon": "allow rw", "osd": "allow rwx"},
}


def is_installed() -> bool:
    """Whether all programs are there."""
    return all(shutil.which(program) for program in PROGRAMS)


@dataclass
class Ceph:
    """A store below a folder, to be started once."""

    folder: Path
    port: int = field(default_factory=free_port)
    key_id: str = "gridtune-tests"
    secret: str = field(default_factory=lambda: secrets.token_hex(16), repr=False)
    daemons: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def endpoint(self) -> str:
        """Where it speaks S3."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Make everything, start everything, and make a user."""
        fsid = str(uuid.uuid4())
        mon_port = free_port()
        text = _CONFIGURATION.format(folder=self.folder, fsid=fsid, mon_port=mon_port, port=self.port)
        (self.folder / "ceph.conf").write_text(text)
        self._make_keys()
        self._start_monitor(fsid, mon_port)
        self._start_osd()
        self._start_gateway()
        user = ["--uid=test", "--display-name=test", f"--access-key={self.key_id}", f"--secret={self.secret}"]
        self._run("radosgw-admin", "-n", "client.rgw", "user", "create", *user)

    @contextmanager
    def gateway_down(self) -> Iterator[None]:
        """Kill what speaks S3 by ``kill -9``, and start it again afterwards; what it stored stays in the OSD."""
        gateway = self.daemons.pop("rgw")
        gateway.kill()
        gateway.wait()
        try:
            yield
        finally:
            self._start_gateway()

    def _start_gateway(self) -> None:
        self._start("rgw", "radosgw", "-f", "-n", "client.rgw")
        self._wait("the gateway", self._answers)

    def end(self) -> None:
        """End all daemons."""
        for daemon in reversed(self.daemons.values()):
            daemon.kill()  # nothing of it is wanted any more
            daemon.wait()

    def _make_keys(self) -> None:
        keyring = str(self.folder / "keyring")
        self._run("ceph-authtool", keyring, "--create-keyring")
        for name, capabilities in _CAPABILITIES.items():
            caps = [word for service, may in capabilities.items() for word in ("--cap", service, may)]
            self._run("ceph-authtool", keyring, "--gen-key", "-n", name, *caps)

    def _start_monitor(self, fsid: str, port: int) -> None:
        monmap = str(self.folder / "monmap")
        self._run("monmaptool", "--create", "--fsid", fsid, "--addv", "a", f"v2:127.0.0.1:{port}/0", monmap)
        self._run("ceph-mon", "-i", "a", "--mkfs", "--monmap", monmap, "--keyring", str(self.folder / "keyring"))
        self._start("mon", "ceph-mon", "-f", "-i", "a")
        self._wait("the monitor", lambda: self._asks("status"))

    def _start_osd(self) -> None:
        name = str(uuid.uuid4())
        self._run("ceph", "osd", "new", name)
        (self.folder / "osd").mkdir()
        self._run("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", name)
        self._start("osd", "ceph-osd", "-f", "-i", "0")
        self._wait("the OSD", lambda: json.loads(self._run("ceph", "osd", "stat", "-f", "json"))["num_up_osds"] == 1)

    @property
    def _environment(self) -> dict[str, str]:
        return {**os.environ, "CEPH_CONF": str(self.folder / "ceph.conf"), "CEPH_ARGS": "--no-mon-config"}

    def _run(self, *command: str, timeout: float = _PATIENCE) -> str:
        done = subprocess.run(
            command, env=self._environment, capture_output=True, text=True, check=False, timeout=timeout
        )
        if done.returncode:
            raise AssertionError(f"{' '.join(command[:4])}: {done.stderr[-2000:]}")
        return done.stdout

    def _start(self, name: str, *command: str) -> None:
        # the daemons end with the tests, also when these are killed
        with (self.folder / f"{name}.out").open("ab") as log:
            self.daemons[name] = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", *command],
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                process_group=0,
            )

    def _wait(self, what: str, look: Callable[[], bool]) -> None:
        deadline = time.monotonic() + _PATIENCE
        while not look():
            for name, daemon in self.daemons.items():
                if daemon.poll() is not None:
                    raise AssertionError(f"{name} ended: {(self.folder / f'{name}.out').read_text()[-2000:]}")
            if time.monotonic() > deadline:
                raise AssertionError(f"waited in vain for {what}")
            time.sleep(0.1)

    def _asks(self, *words: str) -> bool:
        try:
            self._run("ceph", *words, timeout=5)
        except (AssertionError, subprocess.TimeoutExpired):
            return False
        return True

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(self.endpoint, timeout=5):  # noqa: S310 - our own address
                return True
        except urllib.error.HTTPError:
            return True
        except OSError:
            return False
