"""When clients are to come again: never all at the same moment."""

from __future__ import annotations

import math
import random
from typing import Final

#: The header that says so, in whole seconds.
RETRY_AFTER: Final = "Retry-After"


def retry_after(seconds: float) -> str:
    """At least *seconds*, and by chance up to half as many more and one.

    >>> all(int(retry_after(10)) in range(10, 17) for _ in range(99))
    True
    """
    whole = math.ceil(seconds)
    return str(math.floor(random.uniform(whole, 1.5 * whole) + random.uniform(0.5, 1.5)))  # noqa: S311 - no secret
