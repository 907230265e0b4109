"""``python -m gridtune_steering.api FD``: one web process (gunicorn, threads), on a socket that its parent opened."""

from __future__ import annotations

import logging
import os
import re
import sys
import threading
import time
from typing import Any

from flask import Flask
from gunicorn.app.base import BaseApplication
from gunicorn.glogging import Logger

from gridtune_common.parent import stop_with_parent
from gridtune_steering import logs, tracing
from gridtune_steering.api.app import create_app
from gridtune_steering.assembly import assemble
from gridtune_steering.bookkeeping.database import TROUBLE, in_short
from gridtune_steering.doorbell import WaitingRoom
from gridtune_steering.metrics import files
from gridtune_steering.services import housekeeping
from gridtune_steering.services.steering import Steering
from gridtune_steering.settings import Settings
from gridtune_steering.supervisor import end_with_any_thread

_log = logging.getLogger("gridtune.web")
#: Seconds that requests in progress get at the end; longer ones are repeated by their clients.
_GRACE = 3
#: Seconds between two signs of presence.
_PRESENCE_PACE = 1.0
_QUERY = re.compile(r"\?[^\s'\"]+")


class _Log(Logger):  # type: ignore[misc]  # gunicorn ships no types
    """What gunicorn has to say, in the form of all other lines."""

    def setup(self, cfg: Any) -> None:
        """Leave the lines to the handlers that the process has."""
        super().setup(cfg)
        self.error_log.handlers.clear()
        self.error_log.propagate = True


class Web(BaseApplication):  # type: ignore[misc]  # gunicorn ships no types
    """Gunicorn with its settings from ours."""

    def __init__(self, settings: Settings, descriptor: int) -> None:
        self._settings = settings
        self._descriptor = descriptor
        super().__init__()

    def load_config(self) -> None:
        """Set what differs from gunicorn's defaults."""
        for name, value in {
            "bind": f"fd://{self._descriptor}",
            "worker_class": "gthread",
            "workers": 1,
            "threads": self._settings.threads,
            "worker_connections": 4 * self._settings.threads,
            "limit_request_line": 8190,
            "keepalive": 75,
            "timeout": 120,
            "graceful_timeout": _GRACE,
            "loglevel": "warning",
            "logger_class": _Log,
            "proc_name": "gridtune-web",
            "post_worker_init": _leave_with_grandparent,
            "worker_exit": _send_last_spans,
            "control_socket_disable": True,
        }.items():
            if name in self.cfg.settings:
                self.cfg.set(name, value)

    def load(self) -> Flask:
        """Make the application, in the worker."""
        end_with_any_thread()
        files.reserve()
        steering, bell = assemble(self._settings)
        if self._settings.traces:
            tracing.set_up(self._settings, "web", steering.database.engine)
            self.cfg.set("graceful_timeout", _GRACE - 1)  # of the worker, whose master goes on to grant all of it
        threading.Thread(target=_be_present, args=(steering,), name="presence", daemon=True).start()
        room = WaitingRoom(bell.listen_as_asker())
        return create_app(steering, room)


def _be_present(steering: Steering) -> None:
    """Tell the hosts, again and again, that agents can reach the service: who is silent now is silent indeed."""
    while True:
        try:
            housekeeping.note_presence(steering)
        except TROUBLE as error:
            _log.error("the database did not answer: %s", in_short(error), extra={"action": "database_away"})
        time.sleep(_PRESENCE_PACE)


def _without_queries(record: logging.LogRecord) -> bool:
    """Take query strings out of gunicorn's messages: those of signed addresses are credentials."""
    record.msg, record.args = _QUERY.sub("?…", record.getMessage()), ()
    return True


def _leave_with_grandparent(_worker: Any) -> None:
    """When whoever started this web process is gone, ask gunicorn's master, this worker's parent, to end."""
    stop_with_parent(os.getppid())


def _send_last_spans(_master: Any, _worker: Any) -> None:
    tracing.shut_down()


def main() -> None:
    """Run until SIGTERM, or until the parent is gone."""
    settings = Settings.from_environment()
    logs.set_up(settings)
    logging.getLogger("gunicorn.error").addFilter(_without_queries)
    sys.argv[1:], descriptor = [], int(sys.argv[1])  # gunicorn would read the arguments as its own
    Web(settings, descriptor).run()


if __name__ == "__main__":
    main()
