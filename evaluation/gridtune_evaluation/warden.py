"""The warden: a tiny process that outlives its agent just long enough to end the payloads left behind.

It reads lines from its standard input: first its own source text (see `orphans`; so it also runs from inside the
one-file agent), then ``+4711`` to put process group 4711 into its care and ``-4711`` to take it out again; likewise
``+4711 leader`` if the group's leader passes SIGTERM on, and ``+/run/docker.sock 0f3a`` for a container of the engine
at that socket. When the pipe breaks, the agent has ended, be it by ``kill -9``: what is still in care gets SIGTERM, and
SIGKILL some seconds later. This module uses the standard library and no other module of gridtune.
"""

import os
import signal
import socket
import sys
import time
from collections.abc import Iterable

#: Seconds between SIGTERM and SIGKILL, unless the first argument says otherwise.
GRACE = 5.0
#: Seconds for one answer of a container engine.
PATIENCE = 20.0


def main() -> None:
    """Wait for the agent's end, then end what is left."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    grace = float(sys.argv[1]) if len(sys.argv) > 1 else GRACE
    end(follow(sys.stdin), grace)


def follow(lines: Iterable[str]) -> set[str]:
    """Keep the books until the pipe breaks; return the payloads still in care."""
    payloads: set[str] = set()
    for line in lines:
        if not line.endswith("\n"):
            break  # the agent died while it wrote: half a number is another number
        change = payloads.add if line[0] == "+" else payloads.discard
        change(line[1:-1])
    return payloads


def end(payloads: set[str], grace: float) -> None:
    """End payloads: politely, then for good."""
    deadline = time.monotonic() + grace
    remaining = {payload for payload in payloads if send(payload, signal.SIGTERM)}
    while remaining and time.monotonic() < deadline:
        time.sleep(0.05)
        remaining = {payload for payload in remaining if send(payload, 0)}
    for payload in remaining:
        send(payload, signal.SIGKILL)
    for container in payloads:
        if container.startswith("/"):
            ask(container, "DELETE", "?force=true&v=true")


def send(payload: str, number: int) -> bool:
    """Signal a payload, or with 0 nothing; tell whether it still exists."""
    if not payload.startswith("/"):
        group, _, passes_on = payload.partition(" ")
        if passes_on and number == signal.SIGTERM and signal_leader(int(group)):
            return True
        return signal_group(int(group), number)
    if number:
        return ask(payload, "POST", f"/kill?signal={number}").startswith(b"2")
    return b'"Running":true' in ask(payload, "GET", "/json")


def signal_leader(group: int) -> bool:
    """Ask a group's leader to end the others; tell whether it lives."""
    try:
        os.kill(group, signal.SIGTERM)
    except OSError:
        return False
    return True


def signal_group(group: int, number: int) -> bool:
    """Signal a process group; tell whether it still exists."""
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True  # a member has changed its user; the others got the signal
    return True


def ask(container: str, method: str, what: str) -> bytes:
    """Ask an engine about a container; its answer from the status on, empty if there is none."""
    path, _, id_ = container.rpartition(" ")  # a path may have blanks
    try:
        with socket.socket(socket.AF_UNIX) as engine:
            engine.settimeout(PATIENCE)
            engine.connect(path)
            engine.sendall(f"{method} /containers/{id_}{what} HTTP/1.0\r\nHost: engine\r\n\r\n".encode())
            answer = b"".join(iter(lambda: engine.recv(2**16), b""))
    except OSError:
        return b""
    return answer.partition(b" ")[2]


if __name__ == "__main__":
    main()
