"""Bringing files to the object store and back, as a port with one adapter; the rules are in `transfer`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Final, Protocol

from gridtune_common import protocol
from gridtune_evaluation import transfer

#: Seconds without a byte from a store before somebody else tries.
_PATIENCE: Final = 600.0


class Carrier(Protocol):
    """Carries files. Shared by all threads of an agent."""

    def upload(
        self,
        path: Path,
        upload: protocol.Upload,
        refresh: Callable[[], protocol.Upload],
        give_up: Callable[[], bool],
    ) -> None:
        """Send a file to its addresses, for as long as it takes.

        Raises:
            TransferError: The store said no, or *give_up* did.
            ServiceError: From *refresh*.
            OSError: The disk.
        """

    def download(
        self,
        target: Path,
        fetch: Callable[[], protocol.Download],
        *,
        size: int,
        sha256: str,
        give_up: Callable[[], bool],
    ) -> None:
        """Fetch a file, for as long as something comes through; it appears when it is whole and right.

        Raises:
            Damaged: It is not what was stored.
            TransferError: The store said no, or *give_up* did.
            ServiceError: From *fetch*.
            OSError: The disk.
        """


@dataclass(frozen=True)
class HttpCarrier:
    """Carries files by HTTP, to signed addresses of the service itself or of an S3.

    Attributes:
        server: The service's base URL.
        ca: Certificate authorities to trust; None for the system's.
    """

    server: str
    ca: str | None = None

    def upload(
        self,
        path: Path,
        upload: protocol.Upload,
        refresh: Callable[[], protocol.Upload],
        give_up: Callable[[], bool],
    ) -> None:
        """Send a file to its addresses."""
        transfer.upload(path, upload, refresh, server=self.server, verify=self.ca, give_up=give_up)

    def download(
        self,
        target: Path,
        fetch: Callable[[], protocol.Download],
        *,
        size: int,
        sha256: str,
        give_up: Callable[[], bool],
    ) -> None:
        """Fetch a file."""
        transfer.download(
            target,
            fetch,
            size=size,
            sha256=sha256,
            server=self.server,
            verify=self.ca,
            give_up=give_up,
            patience_seconds=_PATIENCE,
        )
