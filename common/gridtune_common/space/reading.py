"""Reading documents and checking values: every flaw is collected, each with its path and its fix."""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any, Final, Optional, TypeVar

from gridtune_common.errors import Flaw, InvalidDocument

T = TypeVar("T")

#: Whole numbers beyond this do not survive JSON in every language.
LARGEST_WHOLE: Final = 2**53

_MAX_DEPTH: Final = 20
_MAX_SHOWN: Final = 60


class Invalid(ValueError):  # noqa: N818 - named for the fact
    """A value that cannot be built; ``flaws`` say what is wrong, with paths relative to the value."""

    def __init__(self, flaws: Iterable[Flaw], subject: str = "") -> None:
        self.flaws = tuple(flaws)
        super().__init__("; ".join(str(Flaw(join(subject, flaw.path), flaw.message)) for flaw in self.flaws))


class Checked:
    """A frozen dataclass that is valid from birth: its constructor raises `Invalid` with all its flaws."""

    def __post_init__(self) -> None:
        flaws = tuple(self._flaws())
        if flaws:
            raise Invalid(flaws, self._subject())
        self._settle()

    def _subject(self) -> str:
        """What to call this value in an error."""
        return type(self).__name__

    def _flaws(self) -> Iterator[Flaw]:
        """What is wrong with the fields, with paths relative to this value."""
        raise NotImplementedError

    def _settle(self) -> None:
        """Bring checked fields into their one form."""

    def _set(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)


class Flaws:
    """Collects what is wrong with a document while it is read to its end."""

    def __init__(self) -> None:
        self._found: list[Flaw] = []

    def __len__(self) -> int:
        return len(self._found)

    def __iter__(self) -> Iterator[Flaw]:
        return iter(self._found)

    def add(self, path: str, message: str) -> None:
        """Note one flaw."""
        self._found.append(Flaw(path, message))

    def adopt(self, path: str, flaws: Iterable[Flaw]) -> None:
        """Note flaws whose paths are relative to *path*."""
        self._found.extend(Flaw(join(path, flaw.path), flaw.message) for flaw in flaws)

    def build(self, path: str, kind: Callable[..., T], /, **fields: Any) -> Optional[T]:
        """Build a value, or note its flaws and return None."""
        try:
            return kind(**fields)
        except Invalid as invalid:
            self.adopt(path, invalid.flaws)
            return None

    def raise_if_any(self) -> None:
        """Refuse the document if anything is wrong with it.

        Raises:
            InvalidDocument: At least one flaw was noted.
        """
        if self._found:
            raise InvalidDocument(self._found)


def join(path: str, below: str) -> str:
    """Continue a path with a key or an index.

    >>> join("space", "width"), join("files", "[0]"), join("", "stop"), join("stop", "")
    ('space.width', 'files[0]', 'stop', 'stop')
    """
    return path + ("." if path and below and not below.startswith("[") else "") + below


def show(value: object) -> str:
    """Write a value as in a document, cut short if it is long.

    >>> show(True), show("adam"), show([1, 2.5])
    ('true', '"adam"', '[1, 2.5]')
    """
    try:
        text = json.dumps(value, ensure_ascii=False, default=str)
    except (TypeError, ValueError, RecursionError):
        text = f"a {type(value).__name__}"
    return text if len(text) <= _MAX_SHOWN else text[: _MAX_SHOWN - 1] + "…"


def closest(word: object, known: Iterable[str]) -> Optional[str]:
    """The known word that *word* was probably meant to be."""
    names = {name.lower(): name for name in known}
    lowered = str(word).lower()
    found = difflib.get_close_matches(lowered, names, n=1, cutoff=0.6)
    longer = [name for name in names if len(lowered) > 2 and name.startswith(lowered)]
    return names[[*found, *longer][0]] if found or longer else None


def did_you_mean(word: object, known: Collection[str], otherwise: str = "known are") -> str:
    """End a message about an unknown word with the closest known one, or with all of them.

    >>> did_you_mean("lowest", ["low", "high"]), did_you_mean("colour", ["low", "high"])
    ('did you mean low?', 'known are low, high')
    """
    guess = closest(word, known)
    return f"did you mean {guess}?" if guess else f"{otherwise} {', '.join(known)}"


def read_mapping(
    document: Any, path: str, keys: Collection[str], flaws: Flaws, hints: Optional[Mapping[str, str]] = None
) -> Optional[dict[str, Any]]:
    """Read an object with known keys; a key with the value null counts as left out.

    Args:
        document: What is written at *path*.
        path: Where, for the flaws.
        keys: The keys that are known there.
        flaws: Takes what is wrong.
        hints: For some unknown keys, what to do about them.

    Returns:
        The known keys that have a value; None if there is no object at all.
    """
    if not isinstance(document, Mapping):
        flaws.add(path, f"{show(document)} is no mapping; write {path or 'it'} as keys and values")
        return None
    for key in document:
        if key not in keys:
            hint = (hints or {}).get(str(key))
            flaws.add(join(path, str(key)), f"unknown key; {hint or did_you_mean(key, keys)}")
    return {key: value for key, value in document.items() if key in keys and value is not None}


def is_number(value: object) -> bool:
    """Whether this is a number; booleans are none."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def check_number(path: str, value: Any) -> Iterator[Flaw]:
    """A finite number is expected."""
    if not is_number(value):
        yield Flaw(path, f"{show(value)} is no number; write one without quotes, such as 0.5")
    elif not _is_finite(value):
        yield Flaw(path, f"{show(value)} is not finite; write a plain number")


def check_whole(path: str, value: Any, low: int, high: int = LARGEST_WHOLE) -> Iterator[Flaw]:
    """A whole number from *low* to *high* is expected."""
    if not isinstance(value, int) or isinstance(value, bool):
        yield Flaw(path, f"{show(value)} is no whole number; write one, such as {max(low, 1)}")
    elif value < low:
        yield Flaw(path, f"{value} is too small; the least is {low}")
    elif value > high:
        yield Flaw(path, f"{show(value)} is too large; the most is {high}")


def check_text(path: str, value: Any, example: str) -> Iterator[Flaw]:
    """A text with something in it is expected."""
    if not isinstance(value, str):
        yield Flaw(path, f"{show(value)} is no text; write one, such as {example}")
    elif not value.strip():
        yield Flaw(path, f"is empty; write a text, such as {example}")
    elif "\0" in value:
        yield Flaw(path, "contains a zero byte; remove it")


def check_json(path: str, value: Any, depth: int = 0) -> Iterator[Flaw]:
    """A value that JSON can carry is expected: finite, with text for keys, and not nested without end."""
    if depth > _MAX_DEPTH:
        yield Flaw(path, f"is nested deeper than {_MAX_DEPTH} levels; make it flatter")
    elif isinstance(value, Mapping):
        for key, below in value.items():
            if not isinstance(key, str):
                yield Flaw(join(path, str(key)), f"the key {show(key)} is no text; put it in quotes")
            yield from check_json(join(path, str(key)), below, depth + 1)
    elif isinstance(value, (list, tuple)):
        for index, below in enumerate(value):
            yield from check_json(join(path, f"[{index}]"), below, depth + 1)
    else:
        yield from check_scalar(path, value)


def check_scalar(path: str, value: Any) -> Iterator[Flaw]:
    """A boolean, finite number, text or null is expected."""
    if is_number(value):
        yield from check_number(path, value)
    elif not (value is None or isinstance(value, (bool, str))):
        yield Flaw(path, f"{show(value)} is no boolean, number, text or null; put it in quotes to make it text")


def copy_json(value: Any) -> Any:
    """A copy of a JSON value that shares nothing with it."""
    if isinstance(value, Mapping):
        return {key: copy_json(below) for key, below in value.items()}
    if isinstance(value, (list, tuple)):
        return [copy_json(below) for below in value]
    return value


def identity(value: object) -> tuple[str, object]:
    """What tells values apart: type and value, for Python takes True for 1 and 1 for 1.0."""
    return type(value).__name__, value


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number beyond every float
        return False
