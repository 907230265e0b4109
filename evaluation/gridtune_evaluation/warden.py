"""The warden: a tiny process that outlives its agent just long enough to end the payloads left behind.

It reads lines from its standard input: first its own source text (see `orphans`; so it also runs from inside the
one-file agent), then ``+4711`` to put process group 4711 into its care and ``-4711`` to take it out again. When the
pipe breaks, the agent has ended, be it by ``kill -9``: groups still in care get SIGTERM, and SIGKILL some seconds
later. This module uses the standard library and no other module of gridtune.
"""

import os
import signal
import sys
import time
from collections.abc import Iterable

#: Seconds between SIGTERM and SIGKILL, unless the first argument says otherwise.
GRACE = 5.0


def main() -> None:
    """Wait for the agent's end, then end what is left."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    grace = float(sys.argv[1]) if len(sys.argv) > 1 else GRACE
    end(follow(sys.stdin), grace)


def follow(lines: Iterable[str]) -> set[int]:
    """Keep the books until the pipe breaks; return the groups still in care."""
    groups: set[int] = set()
    for line in lines:
        if not line.endswith("\n"):
            break  # the agent died while it wrote: half a number is another number
        change = groups.add if line[0] == "+" else groups.discard
        change(int(line[1:]))
    return groups


def end(groups: set[int], grace: float) -> None:
    """End process groups: politely, then for good."""
    deadline = time.monotonic() + grace
    remaining = {group for group in groups if send(group, signal.SIGTERM)}
    while remaining and time.monotonic() < deadline:
        time.sleep(0.05)
        remaining = {group for group in remaining if send(group, 0)}
    for group in remaining:
        send(group, signal.SIGKILL)


def send(group: int, number: int) -> bool:
    """Signal a process group; tell whether it still exists."""
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True  # a member has changed its user; the others got the signal
    return True


if __name__ == "__main__":
    main()
