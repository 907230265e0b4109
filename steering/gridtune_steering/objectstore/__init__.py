"""Where checkpoints and logs are kept: a port and its adapters, a folder and S3."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Final
from urllib.parse import SplitResult, parse_qsl, urlsplit

from gridtune_common.errors import ConfigurationError
from gridtune_steering.objectstore.folder import FolderStore
from gridtune_steering.objectstore.places import Place, read_places
from gridtune_steering.objectstore.port import BadKey, ObjectStore, checked_prefix
from gridtune_steering.objectstore.s3 import Bucket, S3Store
from gridtune_steering.settings import Settings

_VARIABLE: Final = "GRIDTUNE_STEERING_OBJECT_STORE"
_OPTIONS: Final = ("endpoint", "public", "region", "path_style", "ca")
_STYLES: Final = {"": None, "true": True, "false": False}


def open_store(settings: Settings, clock: Callable[[], datetime], service_key: bytes) -> ObjectStore:
    """The object store that the settings name.

    Raises:
        ConfigurationError: They name none that can be used.
        MissingExtra: It needs a library that is not installed.
    """
    location = settings.object_store
    if location.startswith("s3://"):
        bucket = _bucket(location, settings)
        return S3Store(bucket, read_places(settings.data_buckets, Place(bucket.name, bucket.prefix)))
    return FolderStore(_folder(location, settings), service_key, clock)


def _folder(location: str, settings: Settings) -> Path:
    if not location:
        return settings.data / "objects"
    kind, _, path = location.partition(":")
    if kind != "folder":
        raise ConfigurationError(f"{_VARIABLE}: {kind!r} is no kind of store; write folder:/PATH or s3://BUCKET/PREFIX")
    if not Path(path).is_absolute():
        raise ConfigurationError(f"{_VARIABLE}: {path!r} is no absolute path; write folder:/PATH")
    return Path(path)


def _bucket(location: str, settings: Settings) -> Bucket:
    address = urlsplit(location)
    options = _options(address)
    ca = Path(options["ca"]) if "ca" in options else None
    if ca is not None and not ca.is_file():
        raise ConfigurationError(f"{_VARIABLE}: there is no file {ca} with certificates")
    path_style = options.get("path_style", "")
    if path_style not in _STYLES:
        raise ConfigurationError(f"{_VARIABLE}: path_style is true or false, not {path_style!r}")
    return Bucket(
        name=address.netloc,
        prefix=_prefix(address.path),
        endpoint=_url("endpoint", options),
        public=_url("public", options),
        region=options.get("region", ""),
        path_style=_STYLES[path_style],
        ca=ca,
        key_id=settings.s3_key_id,
        secret=settings.s3_secret,
    )


def _options(address: SplitResult) -> dict[str, str]:
    if "@" in address.netloc:
        raise ConfigurationError(
            f"{_VARIABLE}: no credentials here; they belong into GRIDTUNE_STEERING_S3_KEY_ID and _S3_SECRET"
        )
    if not address.netloc or ":" in address.netloc or address.fragment:
        raise ConfigurationError(
            f"{_VARIABLE}: write s3://BUCKET/PREFIX?endpoint=URL&…, with the store's address as endpoint"
        )
    try:
        options = parse_qsl(address.query, strict_parsing=bool(address.query), keep_blank_values=False)
    except ValueError as error:
        raise ConfigurationError(f"{_VARIABLE}: what comes after '?' is no list of NAME=VALUE joined by '&'") from error
    for name, _ in options:
        if name not in _OPTIONS:
            close = difflib.get_close_matches(name, _OPTIONS, n=1)
            hint = f"did you mean {close[0]}?" if close else f"there are: {', '.join(_OPTIONS)}"
            raise ConfigurationError(f"{_VARIABLE}: {name!r} is no option of a bucket; {hint}")
    return dict(options)


def _url(name: str, options: Mapping[str, str]) -> str:
    url = options.get(name, "")
    if not url:
        return ""
    address = urlsplit(url)
    if address.scheme not in {"http", "https"} or not address.hostname or "@" in address.netloc:
        raise ConfigurationError(f"{_VARIABLE}: {name} is a URL like https://s3.example.org, without credentials")
    return url.rstrip("/")


def _prefix(path: str) -> str:
    prefix = path.strip("/")
    try:
        checked_prefix(prefix)
    except BadKey as error:
        raise ConfigurationError(f"{_VARIABLE}: {error}") from error
    return f"{prefix}/" if prefix else ""
