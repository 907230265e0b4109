"""Kinds of arguments, checked where they are read."""

from __future__ import annotations

import argparse

from gridtune_common import units


def positive(word: str) -> int:
    """A whole number above zero.

    >>> positive("3")
    3
    """
    try:
        number = int(word)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{word!r} is no whole number above zero")
    return number


def number(word: str) -> int:
    """A whole number from zero.

    >>> number("0")
    0
    """
    if not word.isdecimal():
        raise argparse.ArgumentTypeError(f"{word!r} is no whole number from zero")
    return int(word)


def duration(word: str) -> float:
    """A duration with its unit, in seconds.

    >>> duration("7d")
    604800.0
    """
    try:
        return units.seconds(word)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
