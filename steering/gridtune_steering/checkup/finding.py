"""What a check of the service's surroundings finds."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from gridtune_common import units


class Verdict(Enum):
    """How things stand."""

    OK = "ok"  #: As it should be.
    WARNING = "warning"  #: The service works, but somebody should look at it.
    WRONG = "wrong"  #: The service does not work like this, or is not safe.


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check saw.

    Attributes:
        check: What was looked at, in a word or two.
        advice: What to do; empty if nothing has to be done.
    """

    check: str
    verdict: Verdict
    seen: str
    advice: str = ""


def ok(check: str, seen: str) -> Finding:
    """All is well."""
    return Finding(check, Verdict.OK, seen)


def warning(check: str, seen: str, advice: str) -> Finding:
    """It works, but."""
    return Finding(check, Verdict.WARNING, seen, advice)


def wrong(check: str, seen: str, advice: str) -> Finding:
    """It does not work like this."""
    return Finding(check, Verdict.WRONG, seen, advice)


def about_clocks(check: str, ahead: float, *, blur: float, tolerable: float) -> Finding:
    """How far another machine's clock is from this one's.

    Args:
        check: Whose clock it is.
        ahead: Seconds by which the other clock is ahead.
        blur: How far off *ahead* may be, in seconds.
        tolerable: More seconds than these are wrong.
    """
    apart = max(abs(ahead) - blur, 0.0)
    if apart == 0.0:
        return ok(check, f"as this machine's, within {max(blur, 0.001):.1g} s")
    seen = f"{units.show_seconds(abs(ahead))} {'ahead of' if ahead > 0 else 'behind'} this machine's"
    if apart <= tolerable / 10:
        return ok(check, seen)
    advice = "set both clocks by NTP: leases and signed addresses end by them"
    return (wrong if apart > tolerable else warning)(check, seen, advice)


def milliseconds(seconds: float) -> str:
    """A short time.

    >>> milliseconds(0.00042), milliseconds(0.25)
    ('0.4 ms', '250 ms')
    """
    value = seconds * 1000
    return f"{value:.1g} ms" if value < 1 else f"{value:.0f} ms"
