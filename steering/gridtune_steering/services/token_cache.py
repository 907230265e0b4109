"""Tokens that were shown to this process a moment ago, so that not each request has to look its token up."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import datetime, timedelta

from gridtune_steering.bookkeeping.schema import Record

#: Tokens that are remembered at most. Those that nobody knows have a place of their own, or guesses would drive out
#: the good ones.
_MOST_KNOWN, _MOST_UNKNOWN = 10_000, 1_000
#: A token that is not known yet may be made at any moment, by another process.
_UNKNOWN_FOR = timedelta(seconds=1)

_Entries = dict[str, tuple[datetime, Record | None]]


class TokenCache:
    """What the database said of tokens, by the hash of their secret. Safe to share between threads.

    What another process changes is seen when an entry has become old; what this one changes, with `forget`.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: _Entries = {}
        self._unknown: _Entries = {}
        self._n_forgotten = 0

    def find(
        self, digest: str, read: Callable[[], Record | None], *, now: datetime, lifetime: timedelta
    ) -> Record | None:
        """The token with this hash, from memory if it was read within *lifetime*, or by *read*."""
        with self._lock:
            at, row = self._known.get(digest) or self._unknown.get(digest) or (None, None)
            n_forgotten = self._n_forgotten
        if at is not None and now - (lifetime if row is not None else min(lifetime, _UNKNOWN_FOR)) < at <= now:
            return row
        row = read()
        with self._lock:
            if n_forgotten == self._n_forgotten:  # else the row may be from before a revocation
                self._keep(digest, now, row)
        return row

    def forget(self, token: str) -> None:
        """Read a token anew from now on, for it has changed."""
        with self._lock:
            self._n_forgotten += 1
            for digest in [key for key, (_, row) in self._known.items() if row is not None and row.id == token]:
                del self._known[digest]

    def _keep(self, digest: str, now: datetime, row: Record | None) -> None:
        self._known.pop(digest, None)
        self._unknown.pop(digest, None)
        entries, most = (self._unknown, _MOST_UNKNOWN) if row is None else (self._known, _MOST_KNOWN)
        entries[digest] = (now, row)
        if len(entries) > most:
            del entries[next(iter(entries))]  # the one that was read the longest time ago
