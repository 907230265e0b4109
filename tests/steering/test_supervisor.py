"""Children of the supervisor."""

from __future__ import annotations

import subprocess
import sys

LOSES_A_THREAD = """
import threading, time
from gridtune_steering.supervisor import end_with_any_thread

end_with_any_thread()
threading.Thread(target=lambda: 1 / 0, name="steward").start()
time.sleep(60)
"""


def test_a_process_ends_with_any_of_its_threads() -> None:
    """Without its steward a host would go on, and keep nothing: it is started again as a whole."""
    done = subprocess.run(
        [sys.executable, "-c", LOSES_A_THREAD], capture_output=True, text=True, timeout=30, check=False
    )

    assert done.returncode == 1
    assert "steward died" in done.stderr
    assert "ZeroDivisionError" in done.stderr
