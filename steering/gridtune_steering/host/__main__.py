"""``python -m gridtune_steering.host``: one optimizer host, on the database and data folder of the settings."""

from __future__ import annotations

import os
import secrets
import signal
import socket

from gridtune_common.parent import stop_with_parent
from gridtune_steering import logs, tracing
from gridtune_steering.assembly import assemble
from gridtune_steering.host.host import Host
from gridtune_steering.settings import Settings
from gridtune_steering.supervisor import end_with_any_thread

#: What tells numerical libraries how many threads to use; they read it when they are loaded.
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def main() -> None:
    """Run until SIGTERM, or until the parent is gone."""
    for variable in _THREADS:
        os.environ.setdefault(
            variable, "1"
        )  # models are small: threads that fight for cores make them ten times slower
    settings = Settings.from_environment()
    logs.set_up(settings)
    end_with_any_thread()
    steering, bell = assemble(settings)
    tracing.set_up(settings, "host", steering.database.engine)
    name = f"{socket.gethostname()}/{os.getpid()}/{secrets.token_hex(3)}"
    with bell.listen_as_host() as listener:
        host = Host(steering, name)
        signal.signal(signal.SIGTERM, lambda *_: host.stop())
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        stop_with_parent()
        host.run(listener)
    tracing.shut_down()


if __name__ == "__main__":
    main()
