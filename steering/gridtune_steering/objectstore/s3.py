"""Objects in a bucket of any S3: signed addresses, multipart uploads.

Nothing here depends on what only some stores do: checksums other than MD5, ETags, conditional requests, or the deletion
of many objects at once.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from gridtune_common.errors import MissingExtra
from gridtune_steering.objectstore.places import Place, listed_object
from gridtune_steering.objectstore.port import (
    NoSuchObject,
    NoSuchUpload,
    ObjectStore,
    StoreAway,
    Stored,
    StoreError,
    StoreFull,
    Unfinished,
    UploadIncomplete,
    checked_key,
    checked_prefix,
)

#: What the codes mean that a store answers with; others are told by their status.
_ABSENT = frozenset({"NoSuchKey", "NoSuchUpload", "404"})
_FULL = frozenset({"QuotaExceeded", "InsufficientStorage", "507"})
_BUSY = frozenset({"RequestTimeout", "SlowDown", "Throttling", "ThrottlingException", "OperationAborted"})
#: For data and for the check of health: seconds to connect and to wait for an answer, and tries.
_PATIENT, _QUICK = (5, 60, 5), (2, 5, 1)
_ADDRESSING = {None: "auto", True: "path", False: "virtual"}
#: Items on a page of a listing; no store gives more.
_PAGE = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket:
    """Where a bucket is and how to get in.

    Attributes:
        prefix: What all keys begin with in the bucket, with a ``/`` at its end unless it is empty.
        endpoint: URL of the store; empty for Amazon's.
        public: URL of the store for agents, if it is another one: signed addresses begin with it.
        region: Empty for what boto3 finds by itself.
        path_style: Whether the bucket's name is in the path or in the host's name; None for what boto3 finds right.
        ca: Certificates to trust; None for the usual ones.
        key_id: With *secret*; both empty for boto3's own ways to find credentials.
    """

    name: str
    prefix: str = ""
    endpoint: str = ""
    public: str = ""
    region: str = ""
    path_style: bool | None = None
    ca: Path | None = None
    key_id: str = ""
    secret: str = field(default="", repr=False)

    @property
    def shown(self) -> str:
        """How messages call it."""
        return f"s3://{self.name}/{self.prefix}" + (f" at {self.endpoint}" if self.endpoint else "")


class S3Store(ObjectStore):
    """Keeps objects in a bucket, or below a prefix of it.

    Args:
        data_places: Where inputs of tasks may be; never where the store's own objects are.
    """

    min_part_size = 5 * 2**20
    max_parts = 10_000

    def __init__(self, bucket: Bucket, data_places: Sequence[Place] = ()) -> None:
        self._bucket = bucket
        self._data_places = data_places
        session = _session(bucket)
        self._client = _client(session, bucket, *_PATIENT)
        self._quick_client = _client(session, bucket, *_QUICK)
        seen = replace(bucket, endpoint=bucket.public) if bucket.public else bucket
        self._signing_client = _client(session, seen, *_QUICK)  # it sends nothing

    def begin(self, key: str, size: int, n_parts: int) -> str:
        """A multipart upload, unless there is a single part."""
        if n_parts == 1:
            checked_key(key)
            return ""
        with self._translated("begin an upload"):
            upload: str = self._client.create_multipart_upload(**self._at(key))["UploadId"]
        return upload

    def part_urls(self, key: str, upload: str, sizes: Sequence[int], lifetime: timedelta) -> list[str]:
        """An address for each part, with its length signed."""
        if not upload:
            return [self._signed("put_object", {**self._at(key), "ContentLength": size}, lifetime) for size in sizes]
        place = {**self._at(key), "UploadId": upload}
        return [
            self._signed("upload_part", {**place, "PartNumber": part, "ContentLength": size}, lifetime)
            for part, size in enumerate(sizes, 1)
        ]

    def finish(self, key: str, upload: str, sizes: Sequence[int]) -> None:
        """Put the parts together; a single one is looked for."""
        parts = self._sent_parts(key, upload) if upload else None
        if parts is None:
            self._check_object(key, sizes)
            return
        _check_parts(parts, sizes)
        finished = {"Parts": [{"PartNumber": part["PartNumber"], "ETag": part["ETag"]} for part in parts]}
        try:
            with self._translated("finish an upload", absent=NoSuchUpload(upload)):
                self._client.complete_multipart_upload(**self._at(key), UploadId=upload, MultipartUpload=finished)
        except NoSuchUpload:
            self._check_object(key, sizes)  # finished meanwhile, by a request whose answer got lost or by another

    def abandon(self, key: str, upload: str) -> None:
        """Drop the parts; a single one is an object."""
        if not upload:
            self.delete([key])
            return
        with suppress(NoSuchUpload), self._translated("abandon an upload", absent=NoSuchUpload(upload)):
            self._client.abort_multipart_upload(**self._at(key), UploadId=upload)

    def download_url(self, key: str, lifetime: timedelta) -> str:
        """An address on the store itself."""
        return self._signed("get_object", self._at(key), lifetime)

    def data_url(self, source: str, lifetime: timedelta) -> str:
        """An address on the store itself, if the object is in a place that is listed."""
        bucket, key = listed_object(source, self._data_places)
        return self._signed("get_object", {"Bucket": bucket, "Key": key}, lifetime)

    def write(self, key: str, content: bytes) -> None:
        """One PUT."""
        md5 = base64.b64encode(hashlib.md5(content, usedforsecurity=False).digest()).decode()
        with self._translated("write an object"):
            self._client.put_object(**self._at(key), Body=content, ContentMD5=md5)

    def read(self, key: str, limit: int) -> bytes:
        """One GET, broken off at the limit."""
        with self._translated("read an object", absent=NoSuchObject(key)):
            answer = self._client.get_object(**self._at(key))  # no range: an empty object has none
            with answer["Body"] as body:
                content: bytes = body.read(limit)
        return content

    def delete(self, keys: Iterable[str]) -> None:
        """One by one: not every store deletes many at once."""
        for key in keys:
            with self._translated("delete an object"):
                self._client.delete_object(**self._at(key))

    def listing(self, prefix: str) -> Iterator[Stored]:
        """Page by page."""
        for item in self._pages("list_objects_v2", "Contents", prefix):
            key = item["Key"].removeprefix(self._bucket.prefix)
            yield Stored(key=key, size=item["Size"], modified_at=item["LastModified"])

    def unfinished(self, prefix: str) -> Iterator[Unfinished]:
        """Multipart uploads, page by page."""
        for item in self._pages("list_multipart_uploads", "Uploads", prefix):
            key = item["Key"].removeprefix(self._bucket.prefix)
            yield Unfinished(key=key, upload=item["UploadId"], begun_at=item["Initiated"])

    def check(self) -> None:
        """Ask for the bucket, once and without much patience."""
        absent = StoreError(f"there is no bucket {self._bucket.shown}; make it, or mend GRIDTUNE_STEERING_OBJECT_STORE")
        with self._translated("look at the bucket", absent=absent):
            self._quick_client.head_bucket(Bucket=self._bucket.name)

    # --- requests

    def _at(self, key: str) -> dict[str, Any]:
        return {"Bucket": self._bucket.name, "Key": self._bucket.prefix + checked_key(key)}

    def _signed(self, operation: str, parameters: dict[str, Any], lifetime: timedelta) -> str:
        seconds = max(1, int(lifetime.total_seconds()))
        with self._translated("sign an address"):
            url: str = self._signing_client.generate_presigned_url(operation, Params=parameters, ExpiresIn=seconds)
        return url

    def _pages(self, operation: str, what: str, prefix: str) -> Iterator[dict[str, Any]]:
        begin = self._bucket.prefix + checked_prefix(prefix)
        with self._translated("list"):
            for page in self._client.get_paginator(operation).paginate(
                Bucket=self._bucket.name, Prefix=begin, PaginationConfig={"PageSize": _PAGE}
            ):
                yield from page.get(what, [])

    def _sent_parts(self, key: str, upload: str) -> list[dict[str, Any]] | None:
        """The parts that the store has, in order; None if it does not know the upload (any more)."""
        try:
            with self._translated("list parts", absent=NoSuchUpload(upload)):
                pages = self._client.get_paginator("list_parts").paginate(
                    **self._at(key), UploadId=upload, PaginationConfig={"PageSize": _PAGE}
                )
                return [part for page in pages for part in page.get("Parts", [])]
        except NoSuchUpload:
            return None

    def _check_object(self, key: str, sizes: Sequence[int]) -> None:
        absent = UploadIncomplete(f"nothing was sent for {key}, or its upload is gone; send it again")
        with self._translated("look at an object", absent=absent):
            size = self._client.head_object(**self._at(key))["ContentLength"]
        if size != sum(sizes):
            raise UploadIncomplete(f"the object {key} has {size} bytes, not {sum(sizes)}")

    @contextmanager
    def _translated(self, doing: str, *, absent: StoreError | None = None) -> Iterator[None]:
        """Say in our own words what the store, or the way to it, refuses; no address with a signature gets into it."""
        from botocore import exceptions

        try:
            yield
        except exceptions.ClientError as error:
            raise self._of_answer(error, doing, absent) from error
        except (exceptions.NoCredentialsError, exceptions.PartialCredentialsError) as error:
            fix = "set GRIDTUNE_STEERING_S3_KEY_ID and GRIDTUNE_STEERING_S3_SECRET"
            raise StoreError(f"cannot {doing}: there are no credentials for {self._bucket.shown}; {fix}") from error
        except (exceptions.ConnectionError, exceptions.HTTPClientError, exceptions.IncompleteReadError) as error:
            raise StoreAway(f"cannot {doing}: {self._bucket.shown} does not answer ({type(error).__name__})") from error
        except exceptions.BotoCoreError as error:
            raise StoreError(f"cannot {doing} in {self._bucket.shown}: {type(error).__name__}") from error

    def _of_answer(self, error: Any, doing: str, absent: StoreError | None) -> StoreError:
        code = str(error.response.get("Error", {}).get("Code", ""))
        status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
        said = f"cannot {doing}: {self._bucket.shown} says {code or 'no'} (status {status})"
        if absent is not None and code in _ABSENT:
            return absent
        if code in _FULL:
            return StoreFull(said)
        if status >= 500 or status == 429 or code in _BUSY:
            return StoreAway(said)
        if status in {401, 403}:
            return StoreError(f"{said}; check GRIDTUNE_STEERING_S3_KEY_ID and what it may do with the bucket")
        return StoreError(said)


def _check_parts(parts: Sequence[dict[str, Any]], sizes: Sequence[int]) -> None:
    sent = {part["PartNumber"]: part["Size"] for part in parts}
    due = dict(enumerate(sizes, 1))
    wrong = [part for part in sorted(sent.keys() | due.keys()) if sent.get(part) != due.get(part)]
    if wrong:
        shown = ", ".join(str(part) for part in wrong[:10]) + (", …" if len(wrong) > 10 else "")
        raise UploadIncomplete(f"of {len(sizes)} parts, these are missing or have another size: {shown}")


def _session(bucket: Bucket) -> Any:
    try:
        import boto3
    except ImportError as error:
        raise MissingExtra("boto3 (for object stores that speak S3)", "s3") from error
    return boto3.Session(
        aws_access_key_id=bucket.key_id or None,
        aws_secret_access_key=bucket.secret or None,
        region_name=bucket.region or ("us-east-1" if bucket.endpoint else None),
    )


def _client(session: Any, bucket: Bucket, connect_seconds: float, read_seconds: float, tries: int) -> Any:
    from botocore.config import Config

    config = Config(
        signature_version="s3v4",
        request_checksum_calculation="when_required",  # older stores refuse what the libraries add otherwise
        response_checksum_validation="when_required",
        connect_timeout=connect_seconds,
        read_timeout=read_seconds,
        retries={"mode": "standard", "total_max_attempts": tries},
        max_pool_connections=32,
        s3={"addressing_style": _ADDRESSING[bucket.path_style]},
    )
    ca = str(bucket.ca) if bucket.ca else None
    return session.client("s3", endpoint_url=bucket.endpoint or None, verify=ca, config=config)
