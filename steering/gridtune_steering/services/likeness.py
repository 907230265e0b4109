"""Whether failures are alike: the same cause, the same exit code and, apart from values, the same last words. Pure."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any, Final

from gridtune_common.protocol import FailureCause

#: The cause's own message says more than what was printed last.
_IN_MESSAGE: Final = frozenset({FailureCause.REPORTED, FailureCause.INVALID_RESULT})
_MOST_CHARACTERS: Final = 300

_PATHS: Final = re.compile(r"(?:[\w.~-]*/)+[\w.~-]*")
_HEX: Final = re.compile(r"\b0[xX][0-9a-fA-F]+\b|\b(?=[0-9a-fA-F]*\d)[0-9a-fA-F]{8,}\b")
_NUMBERS: Final = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")
_BLANKS: Final = re.compile(r"\s+")


def last_words(cause: FailureCause, message: str, output: str) -> str:
    """The line that says best why an evaluation failed."""
    printed = "" if cause in _IN_MESSAGE else _last_line(output)
    return (printed or _last_line(message))[:_MOST_CHARACTERS]


def likeness(cause: FailureCause, exit_code: int | None, words: str, parameters: Mapping[str, Any]) -> str:
    """A short text that is the same for failures that are alike."""
    content = f"{cause.value}\n{exit_code}\n{normalised(words, parameters)}"
    return hashlib.sha256(content.encode(errors="replace")).hexdigest()


def normalised(words: str, parameters: Mapping[str, Any]) -> str:
    """Last words without what differs from point to point: values, paths, addresses and numbers."""
    for value in sorted({value for value in parameters.values() if isinstance(value, str) and value}, key=len)[::-1]:
        words = re.sub(rf"(?<!\w){re.escape(value)}(?!\w)", "*", words)
    for pattern in (_PATHS, _HEX, _NUMBERS):
        words = pattern.sub("#", words)
    return _BLANKS.sub(" ", words).strip()


def in_words(cause: FailureCause, exit_code: int | None, words: str) -> str:
    """A failure in one line."""
    name = f"exit code {exit_code}" if cause is FailureCause.EXIT_CODE else cause.value.replace("_", " ")
    return f"{name}: {words}" if words else name


def _last_line(text: str) -> str:
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")
