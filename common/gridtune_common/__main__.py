"""``python -m gridtune_common`` is the command ``gridtune``."""

from __future__ import annotations

import sys

from gridtune_common.cli import main

if __name__ == "__main__":
    sys.exit(main())
