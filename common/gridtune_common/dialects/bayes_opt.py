"""The bounds of the package bayes_opt (``pbounds``): ``{"A": [1, 4], "B": [1, 10]}``.

They look like lists of choices, which is what they mean in a task file of ours. So they are never
recognised: whoever means bounds writes ``dialect: bayes_opt``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gridtune_common.dialects.conversion import Conversion, Converted
from gridtune_common.space.reading import join


class BayesOpt:
    """The dialect of bayes_opt."""

    def recognises(self, space: Any) -> bool:
        """Never: only who says so means bounds."""
        return False

    def convert(self, space: Mapping[str, Any], path: str) -> Converted:
        """Convert a space that stands at *path*.

        Raises:
            InvalidDocument: It cannot be converted; names every flaw.
        """
        conversion = Conversion()
        conversion.note("bayes_opt always maximizes; here it is as objective says (goal: minimize if left out)")
        for name, body in space.items():
            where = join(path, str(name))
            bounds = conversion.bounds(body, where)
            if bounds is not None:
                conversion.number(name, where, *bounds, places={"low": "[0]", "high": "[1]"})
        return conversion.finish()
