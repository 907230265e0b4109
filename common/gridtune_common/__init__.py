"""What steering and evaluation share: search space, wire protocol, task file, HTTP client, command line."""

from typing import Final

__version__: Final = "0.1.0"
