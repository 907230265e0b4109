"""Signed addresses: whoever holds one may do the one thing that it says, until it expires."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from urllib.parse import urlencode

from gridtune_steering.objectstore.port import AddressRefused

#: Keeps these signatures apart from everything else that is made with the service's key.
_PURPOSE = b"purpose/signed-addresses"


class Signer:
    """Signs query strings and checks them, with a key derived from the service's."""

    def __init__(self, service_key: bytes, clock: Callable[[], datetime]) -> None:
        self._key = hmac.digest(service_key, _PURPOSE, hashlib.sha256)
        self._clock = clock

    def signed(self, method: str, path: str, fields: Mapping[str, str | int], lifetime: timedelta) -> str:
        """The query string that allows *method* on *path* with these fields for so long."""
        expires = int((self._clock() + lifetime).timestamp())
        query = {**{name: str(value) for name, value in fields.items()}, "expires": str(expires)}
        return urlencode({**query, "signature": self._signature(method, path, query)})

    def verify(self, method: str, path: str, query: Mapping[str, str]) -> None:
        """Check a query string that came back.

        Raises:
            AddressRefused: It was not signed for this, or it has expired.
        """
        fields = {name: value for name, value in query.items() if name != "signature"}
        due = self._signature(method, path, fields)
        if not hmac.compare_digest(due.encode(), query.get("signature", "").encode()):
            raise AddressRefused("this address was not signed for this request; ask for a fresh one")
        if self._clock().timestamp() >= int(fields["expires"]):
            raise AddressRefused("this address has expired; ask for a fresh one")

    def _signature(self, method: str, path: str, fields: Mapping[str, str]) -> str:
        # every part is quoted and joined by what is never left unquoted, so that no two requests read the same
        text = "\n".join([method, urlencode({"path": path}), urlencode(sorted(fields.items()))])
        return hmac.digest(self._key, text.encode(), hashlib.sha256).hex()
