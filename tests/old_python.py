"""The oldest Python that agents run on."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path


def find_python39() -> str | None:
    """An interpreter that really starts: pyenv's shims may stand for versions that are switched off."""
    candidates = [shutil.which("python3.9"), *map(str, Path.home().glob(".pyenv/versions/3.9.*/bin/python3.9"))]
    for candidate in filter(None, candidates):
        if subprocess.run([candidate, "--version"], capture_output=True, check=False).returncode == 0:
            return candidate
    return None


PYTHON39 = find_python39()
