#!/usr/bin/python3
"""A small object store that speaks S3, in one container: a monitor, one OSD on a file, and the gateway of Ceph.

It is made at the first start, in the folder /data; each start makes sure of one user and one bucket. Variables:

OBJECTSTORE_KEY_ID, OBJECTSTORE_SECRET   the user's credentials
OBJECTSTORE_BUCKET                       the bucket's name
OBJECTSTORE_GIB                          the most that the file with the objects may grow to (50); can be raised later
OBJECTSTORE_LISTEN                       where the gateway listens (0.0.0.0:8480)
OBJECTSTORE_MONITOR_PORT                 on the container's own 127.0.0.1 (3300); has a meaning at the first start alone
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Mapping
from email.utils import formatdate
from pathlib import Path
from types import FrameType

_FOLDER = Path(os.environ.get("OBJECTSTORE_FOLDER", "/data"))
#: Present when all is there; the check of health looks for it.
_READY = Path("/tmp/ready")  # noqa: S108 - nobody else is in the container
_GIB = 2**30
#: Seconds that a part may take to start, and to end.
_PATIENCE, _GRACE = 180.0, 20.0
_CONFIGURATION = """\
[global]
fsid = {fsid}
mon_host = v2:127.0.0.1:{monitor_port}/0
public_addr = 127.0.0.1
cluster_addr = 127.0.0.1
ms_bind_ipv6 = false
auth_allow_insecure_global_id_reclaim = false
keyring = {folder}/keyring
run_dir = {folder}
admin_socket =
crash_dir = {folder}/crash
# errors alone
log_to_file = false
log_to_stderr = false
err_to_stderr = true
mon_cluster_log_to_file = false
mon_cluster_log_to_stderr = false
# lower levels quote whole requests, and the query strings of signed addresses are credentials
debug_rgw = 0/0
debug_rgw_access = 0/0
mon_data = {folder}/mon
mon_allow_pool_size_one = true
mon_max_pg_per_osd = 2000
mon_data_avail_crit = 1
mon_data_avail_warn = 2
paxos_propose_interval = 0.02
paxos_min_wait = 0.01
osd_data = {folder}/osd
osd_objectstore = bluestore
osd_memory_target = 939524096
osd_class_update_on_start = false
osd_crush_chooseleaf_type = 0
osd_pool_default_size = 1
osd_pool_default_min_size = 1
osd_pool_default_pg_num = 8
osd_pool_default_pg_autoscale_mode = off
bluestore_block_size = {size}
rgw_data = {folder}/gateway
rgw_frontends = beast endpoint={listen}
rgw_enable_apis = s3
rgw_thread_pool_size = 64
"""
_CAPABILITIES: Mapping[str, Mapping[str, str]] = {
    "mon.": {"mon": "allow *"},
    "client.admin": {"mon": "allow *", "osd": "allow *", "mgr": "allow *"},
    "osd.0": {"mon": "allow profile osd", "osd": "allow *"},
    "client.rgw": {"mon": "allow rw", "osd": "allow rwx"},
}
_GATEWAY_COMMAND = ("radosgw-admin", "--name=client.rgw")


class Trouble(Exception):  # noqa: N818 - named for the fact
    """The store cannot be made, or cannot go on."""


class Store:
    """The parts of the store, started one after the other.

    Args:
        settings: The variables of the container.
        folder: Where everything is kept.
    """

    def __init__(self, settings: Mapping[str, str], folder: Path) -> None:
        self._folder = folder
        self._daemons: dict[str, subprocess.Popen[bytes]] = {}
        self._settings = settings
        self._listen = settings.get("OBJECTSTORE_LISTEN", "0.0.0.0:8480")
        self._size = int(settings.get("OBJECTSTORE_GIB", "50")) * _GIB
        self._note = folder / "made.json"

    def start(self) -> None:
        """Make what is missing and start everything."""
        os.environ.update(CEPH_CONF=str(self._folder / "ceph.conf"), CEPH_ARGS="--no-mon-config")
        is_new = not self._note.exists()
        made = self._begin() if is_new else json.loads(self._note.read_text())
        values = {**made, "folder": self._folder, "listen": self._listen, "size": self._size}
        (self._folder / "ceph.conf").write_text(_CONFIGURATION.format_map(values))
        if is_new:
            self._make_keys()
            self._make_monitor(made["fsid"], made["monitor_port"])
        self._start_monitor()
        if is_new:
            self._make_osd()
            self._note.write_text(json.dumps(made))
        self._grow()
        self._start_osd()
        self._start_gateway()
        self._ensure_user()
        self._ensure_bucket()

    def watch(self) -> None:
        """Wait for the end of any part.

        Raises:
            Trouble: One has ended.
        """
        while True:
            self._check_daemons()
            time.sleep(0.5)

    def stop(self) -> None:
        """End all parts, the gateway first."""
        for daemon in reversed(self._daemons.values()):
            daemon.terminate()
            try:
                daemon.wait(_GRACE)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()

    # --- made once

    def _begin(self) -> dict[str, str]:
        """Clear away what a first start has left that was killed: nothing was stored in it."""
        for path in self._folder.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
        free = shutil.disk_usage(self._folder).free
        if free < self._size:
            raise Trouble(
                f"{self._size // _GIB} GiB do not fit on the disk, which has {free // _GIB}; set OBJECTSTORE_GIB"
            )
        for name in ("crash", "osd"):
            (self._folder / name).mkdir()
        return {"fsid": str(uuid.uuid4()), "monitor_port": self._settings.get("OBJECTSTORE_MONITOR_PORT", "3300")}

    def _make_keys(self) -> None:
        keyring = str(self._folder / "keyring")
        _run("ceph-authtool", keyring, "--create-keyring")
        for name, capabilities in _CAPABILITIES.items():
            words = [word for service, may in capabilities.items() for word in ("--cap", service, may)]
            _run("ceph-authtool", keyring, "--gen-key", "--name", name, *words)

    def _make_monitor(self, fsid: str, port: str) -> None:
        monmap = str(self._folder / "monmap")
        _run("monmaptool", "--create", "--fsid", fsid, "--addv", "a", f"v2:127.0.0.1:{port}/0", monmap)
        keyring = str(self._folder / "keyring")
        _run("ceph-mon", "--id=a", "--mkfs", "--monmap", monmap, "--keyring", keyring)

    def _make_osd(self) -> None:
        name = str(uuid.uuid4())
        _run("ceph", "osd", "new", name)
        _run("ceph-osd", "--id=0", "--mkfs", "--osd-uuid", name)

    # --- at every start

    def _start_monitor(self) -> None:
        self._start("monitor", "ceph-mon", "--foreground", "--id=a")
        self._wait("the monitor", lambda: bool(_run("ceph", "--connect-timeout=5", "status")))

    def _grow(self) -> None:
        file = self._folder / "osd" / "block"
        if file.stat().st_size < self._size:
            os.truncate(file, self._size)
            _run("ceph-bluestore-tool", "bluefs-bdev-expand", "--path", str(file.parent))

    def _start_osd(self) -> None:
        before = json.loads(_run("ceph", "osd", "dump", "--format=json"))["osds"][0]["up_from"]
        self._start("osd", "ceph-osd", "--foreground", "--id=0")

        def is_up() -> bool:
            [osd] = json.loads(_run("ceph", "osd", "dump", "--format=json"))["osds"]
            return bool(osd["up"]) and osd["up_from"] > before

        self._wait("the OSD", is_up)

    def _start_gateway(self) -> None:
        self._start("gateway", "radosgw", "--foreground", "--name=client.rgw")
        self._wait("the gateway", lambda: self._request("GET", "/") is not None)

    def _ensure_user(self) -> None:
        """Make the user, or give it the credentials in force; they travel by a pipe, where nobody sees them."""
        if not _succeeds(*_GATEWAY_COMMAND, "user", "info", "--uid=gridtune"):
            _run(*_GATEWAY_COMMAND, "user", "create", "--uid=gridtune", "--display-name=gridtune")
        entry = json.loads(_run(*_GATEWAY_COMMAND, "metadata", "get", "user:gridtune"))
        key = {"user": "gridtune", "access_key": self._key_id, "secret_key": self._secret}
        if entry["data"]["keys"] != [key]:
            entry["data"]["keys"] = [key]
            _run(*_GATEWAY_COMMAND, "metadata", "put", "user:gridtune", given=json.dumps(entry))

    def _ensure_bucket(self) -> None:
        path = f"/{self._settings['OBJECTSTORE_BUCKET']}"
        date = formatdate(usegmt=True)
        digest = hmac.digest(self._secret.encode(), f"PUT\n\n\n{date}\n{path}".encode(), hashlib.sha1)
        signature = f"AWS {self._key_id}:{base64.b64encode(digest).decode()}"
        status = self._request("PUT", path, {"Date": date, "Authorization": signature})
        if status != http.client.OK:
            raise Trouble(f"the gateway refused to make the bucket: status {status}")

    @property
    def _key_id(self) -> str:
        return self._settings["OBJECTSTORE_KEY_ID"]

    @property
    def _secret(self) -> str:
        return self._settings["OBJECTSTORE_SECRET"]

    # --- programs and requests

    def _request(self, method: str, path: str, headers: Mapping[str, str] | None = None) -> int | None:
        """The status of the gateway's answer, if there is one."""
        port = int(self._listen.rpartition(":")[2])
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        try:
            connection.request(method, path, headers=dict(headers or {}))
            return connection.getresponse().status
        except (OSError, http.client.HTTPException):
            return None
        finally:
            connection.close()

    def _start(self, name: str, *command: str) -> None:
        self._daemons[name] = subprocess.Popen(command, stdin=subprocess.DEVNULL, env=_without_secret())

    def _wait(self, what: str, look: Callable[[], bool]) -> None:
        deadline = time.monotonic() + _PATIENCE
        said = ""
        while time.monotonic() < deadline:
            try:
                if look():
                    return
            except Trouble as error:
                said = f": {error}"
            self._check_daemons()
            time.sleep(0.3)
        raise Trouble(f"waited in vain for {what}{said}")

    def _check_daemons(self) -> None:
        for name, daemon in self._daemons.items():
            if (code := daemon.poll()) is not None:
                raise Trouble(f"the {name} ended with code {code}")


def _run(*command: str, given: str = "") -> str:
    done = subprocess.run(command, input=given, capture_output=True, text=True, env=_without_secret(), check=False)
    if done.returncode:
        raise Trouble(f"{' '.join(command[:4])}: {done.stderr[-2000:]}")
    return done.stdout


def _succeeds(*command: str) -> bool:
    try:
        _run(*command)
    except Trouble:
        return False
    return True


def _without_secret() -> dict[str, str]:
    return {name: text for name, text in os.environ.items() if name != "OBJECTSTORE_SECRET"}


def _say(sentence: str) -> None:
    sys.stderr.write(f"objectstore: {sentence}\n")


def _leave(_number: int, _frame: FrameType | None) -> None:
    raise SystemExit(0)


def main() -> int:
    """Run until SIGTERM, or until a part ends."""
    os.umask(0o077)
    _READY.unlink(missing_ok=True)
    signal.signal(signal.SIGTERM, _leave)
    store = Store(os.environ, _FOLDER)
    try:
        store.start()
        _READY.touch()
        _say("ready")
        store.watch()
    except Trouble as error:
        _say(str(error))
        return 1
    finally:
        store.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
