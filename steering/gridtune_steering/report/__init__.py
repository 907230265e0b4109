"""The report of a task: one HTML file with everything in it, to be read off line, mailed and archived."""

from gridtune_common.protocol import Export

from .importance import importance

__all__ = ["importance", "render"]


def render(export: Export) -> str:
    """Return the report of the task in *export* as one HTML document that needs nothing else."""
    from .page import page

    return page(export)
