"""The object store: a small object is written, fetched through its signed address, and deleted."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final
from urllib.parse import parse_qsl, urlsplit

import requests

from gridtune_common.client import reason_of
from gridtune_common.errors import ConfigurationError, MissingExtra
from gridtune_steering.checkup import folder, web
from gridtune_steering.checkup.finding import Finding, about_clocks, milliseconds, ok, wrong
from gridtune_steering.checkup.web import Site
from gridtune_steering.identity.secrets import new_id
from gridtune_steering.objectstore import open_store
from gridtune_steering.objectstore.folder import FolderStore
from gridtune_steering.objectstore.port import ObjectStore, StoreError
from gridtune_steering.settings import Settings

_CHECK: Final = "object store"
_ADDRESSES: Final = "addresses"
_LIFETIME: Final = timedelta(minutes=5)
#: Stores refuse signatures of clocks that are further away than a quarter of an hour, in seconds.
_TOLERABLE: Final = 300.0
_FIX: Final = "see GRIDTUNE_STEERING_OBJECT_STORE in docs/operating.md"


def examine(settings: Settings, key: bytes | None, site: Site | None) -> Iterator[Finding]:
    """What to know of the store.

    Args:
        settings: Name the store.
        key: The service's key; None if it is not made yet.
        site: Where the service can be reached, through which a folder's objects are fetched.
    """
    root = folder_of(settings)
    if root is not None and not settings.data.exists() and root.parent == settings.data:
        yield ok(_CHECK, f"{root} is made by the first start")
        return
    if root is not None and not folder.is_usable(folder.nearest(root)):
        yield wrong(_CHECK, f"{root} is not this user's, or cannot be written to", _FIX)
        return
    try:
        store = open_store(settings, lambda: datetime.now(UTC), key or secrets.token_bytes(32))
        yield from _probe(settings, store, site if key is not None else None)
    except (ConfigurationError, MissingExtra, StoreError) as error:
        yield wrong(_CHECK, str(error), _FIX)


def _probe(settings: Settings, store: ObjectStore, site: Site | None) -> Iterator[Finding]:
    started = time.perf_counter()
    store.check()
    key, content = f"probes/{new_id(16)}", secrets.token_bytes(64)
    try:
        store.write(key, content)
        took = time.perf_counter() - started
        fetched = list(_fetch(settings, store, key, content, site))
    finally:
        started = time.perf_counter()
        store.delete([key])
    took += time.perf_counter() - started
    yield ok(_CHECK, f"{_where(settings)}, an object was written and deleted in {milliseconds(took)}")
    yield from fetched


def folder_of(settings: Settings) -> Path | None:
    """The folder that the objects are in; None if they are elsewhere."""
    kind, _, path = settings.object_store.partition(":")
    return None if kind == "s3" else Path(path) if kind else settings.data / "objects"


def _where(settings: Settings) -> str:
    """The store without options, which need no showing."""
    return str(folder_of(settings) or settings.object_store.partition("?")[0])


def _fetch(settings: Settings, store: ObjectStore, key: str, content: bytes, site: Site | None) -> Iterator[Finding]:
    url = store.download_url(key, _LIFETIME)
    if "://" not in url and site is None:
        _fetch_here(store, key, url)
        yield ok(_ADDRESSES, "signatures hold; not fetched over HTTP: no service runs here, and no --url is given")
        return
    base = site.url if site is not None and "://" not in url else ""
    trust = _certificates(settings) if not base else site.ca if site is not None else None
    try:
        answer = web.fetch(base + url, trust)
    except requests.RequestException as error:
        yield wrong(_ADDRESSES, f"an object cannot be fetched: {reason_of(error)}", _FIX)
        return
    if answer.content != content:
        seen = f"fetching an object from {base or _host(url)} was answered with status {answer.status}"
        advice = "do this folder, this key and this store belong to the service that answers there?" if base else _FIX
        yield wrong(_ADDRESSES, seen, advice)
        return
    yield ok(_ADDRESSES, f"an object was fetched from {base or _host(url)}")
    if not base and answer.ahead is not None:
        yield about_clocks("store clock", answer.ahead, blur=answer.blur, tolerable=_TOLERABLE)


def _fetch_here(store: ObjectStore, key: str, url: str) -> None:
    """What a web process does with the address."""
    if isinstance(store, FolderStore):
        store.fetch(key, dict(parse_qsl(urlsplit(url).query)))


def _certificates(settings: Settings) -> str | None:
    """What an S3 store is trusted by, as its options say."""
    return dict(parse_qsl(urlsplit(settings.object_store).query)).get("ca")


def _host(url: str) -> str:
    address = urlsplit(url)
    return f"{address.scheme}://{address.netloc}"
