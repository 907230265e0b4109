"""Where checkpoints of a run are kept: what is there, and what can go wrong with it."""

from __future__ import annotations

import contextlib
import io
import json
import random
import tarfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, Protocol
from urllib.parse import quote

import boto3

from faults.deployment import Deployment
from faults.journal import BEGINNING, FROZEN, STATE, State
from gridtune_steering.bookkeeping.database import TROUBLE, Database
from gridtune_steering.identity.secrets import service_key
from gridtune_steering.objectstore import open_store
from gridtune_steering.objectstore.port import NoSuchObject, ObjectStore, StoreError
from gridtune_steering.services import collecting
from gridtune_steering.services.steering import Steering
from gridtune_steering.services.storage import PREFIX
from gridtune_steering.settings import Settings
from gridtune_steering.testing import RecordingBell
from servers.ceph import Ceph

_BUCKET: Final = "gridtune-faults"
_LARGEST: Final = 2**24
#: After so long everything is collected that will ever be.
_LONG: Final = timedelta(days=8)
#: Checkpoints that are superseded may be deleted after an hour; pending uploads have a day.
_A_WHILE: Final = timedelta(hours=2)
#: Ceph's daemons end with the thread that started them, so this is one that stays.
_CEPHS_PARENT: Final = ThreadPoolExecutor(1)
#: Checkpoints that somebody may go on from, with the newest of each point first.
_WANTED: Final = """
select objects.id, key, objects.point from objects
join points on points.task_id = objects.task_id and points.number = objects.point
where kind = 'checkpoint' and committed_at is not null and doomed_at is null and points.state in ('ready', 'running')
order by objects.number desc
"""
_COMMITTED: Final = "select id, key from objects where kind = 'checkpoint' and committed_at is not null"


class Depot(Protocol):
    """What stands behind the object store."""

    @property
    def settings(self) -> dict[str, str]:
        """The service's settings for it."""

    def go_away(self) -> Callable[[], None] | None:
        """Be away until the function is called that is returned; None if it is away already."""

    def strays(self) -> list[str]:
        """What lies around that is no object."""


class FolderDepot:
    """A folder that is reached by a symbolic link, so that it can go and come back at once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "shelf"
        self._folder.mkdir()
        self._link = folder / "store"
        self._is_away = False
        self._point_to(self._folder)

    @property
    def settings(self) -> dict[str, str]:
        """The service's settings for it."""
        return {"GRIDTUNE_STEERING_OBJECT_STORE": f"folder:{self._link}"}

    def go_away(self) -> Callable[[], None] | None:
        """Lead every path below the link nowhere."""
        if self._is_away:
            return None
        self._is_away = True
        self._point_to(self._link)
        return self._come_back

    def strays(self) -> list[str]:
        """Files of uploads and drafts."""
        return [str(path) for name in ("uploads", "drafts") for path in (self._folder / name).rglob("*")]

    def _come_back(self) -> None:
        self._point_to(self._folder)
        self._is_away = False

    def _point_to(self, target: Path) -> None:
        draft = self._link.with_name("store.new")
        draft.symlink_to(target)
        draft.replace(self._link)


class BucketDepot:
    """A prefix in a bucket of a real store that speaks S3."""

    def __init__(self, ceph: Ceph, prefix: str) -> None:
        self._ceph = ceph
        self._prefix = prefix
        self._is_away = False
        boto3.client(
            "s3",
            endpoint_url=ceph.endpoint,
            region_name="us-east-1",
            aws_access_key_id=ceph.key_id,
            aws_secret_access_key=ceph.secret,
        ).create_bucket(Bucket=_BUCKET)

    @property
    def settings(self) -> dict[str, str]:
        """The service's settings for it."""
        endpoint = quote(self._ceph.endpoint, safe="")
        return {
            "GRIDTUNE_STEERING_OBJECT_STORE": f"s3://{_BUCKET}/{self._prefix}?endpoint={endpoint}&path_style=true",
            "GRIDTUNE_STEERING_S3_KEY_ID": self._ceph.key_id,
            "GRIDTUNE_STEERING_S3_SECRET": self._ceph.secret,
        }

    def go_away(self) -> Callable[[], None] | None:
        """Kill what speaks S3."""
        if self._is_away:
            return None
        self._is_away = True
        outage = contextlib.ExitStack()
        outage.enter_context(self._ceph.gateway_down())

        def come_back() -> None:
            _CEPHS_PARENT.submit(outage.close).result()
            self._is_away = False

        return come_back

    def strays(self) -> list[str]:
        """Nothing besides objects and unfinished uploads."""
        return []


@dataclass(frozen=True)
class Remains:
    """What is stored long after the end.

    Attributes:
        known: The kinds of objects that the bookkeeping knows, by key; those that are not committed are ``pending``.
        stored: The keys of what is there.
        strays: Unfinished uploads, and files that are no objects.
    """

    known: dict[str, str]
    stored: set[str]
    strays: list[str]


@dataclass
class Shelf:
    """The stored objects of a run, past the service.

    Attributes:
        states: What is in checkpoints, by id, as their trainings have left it.
        harmed: When checkpoints were damaged or deleted, by id. What leans on them is as bad as they are.
    """

    data: Path
    deployment: Deployment
    depot: Depot
    settings: dict[str, str]
    states: dict[str, State] = field(default_factory=dict)
    harmed: dict[str, float] = field(default_factory=dict)

    def learn(self) -> None:
        """Look into all checkpoints that were committed since the last look."""
        store = self._store()
        for name, key in self.deployment.rows(_COMMITTED):
            if name not in self.states and name not in self.harmed:
                with contextlib.suppress(NoSuchObject):
                    self.states[name] = _state_in(store.read(key, _LARGEST))

    def damage(self, chance: random.Random) -> int | None:
        """Turn a bit over in a checkpoint that somebody may go on from; returns its point."""
        return self._harm(chance, lambda store, key: store.write(key, _with_a_flaw(store.read(key, _LARGEST))))

    def lose(self, chance: random.Random) -> int | None:
        """Delete a checkpoint that somebody may go on from; returns its point."""
        return self._harm(chance, lambda store, key: store.delete([key]))

    def clean(self) -> bool:
        """Collect as the service would some hours from now; whether it could be done."""
        try:
            self.learn()
            with self._steering(datetime.now(UTC) + _A_WHILE) as steering:
                collecting.collect(steering)
        except (StoreError, *TROUBLE):
            return False
        return True

    def remains(self) -> Remains:
        """Collect as the service would in the end, and see what stays; nobody else may be at work."""
        self.learn()
        now = datetime.now(UTC)
        for later in (now + _LONG, now + 2 * _LONG):  # what is found not to be needed is deleted some time after
            with self._steering(later) as steering:
                collecting.collect(steering)
                collecting.search(steering)
                unfinished = [f"{found.key} {found.upload}" for found in steering.store.unfinished(PREFIX)]
                stored = {found.key for found in steering.store.listing("")}
        query = "select key, case when committed_at is null then 'pending' else kind end from objects"
        known = {key: kind for key, kind in self.deployment.rows(query)}
        return Remains(known, stored, unfinished + self.depot.strays())

    def _harm(self, chance: random.Random, harm: Callable[[ObjectStore, str], None]) -> int | None:
        try:
            self.learn()
            wanted = [row for row in self.deployment.rows(_WANTED) if row[0] not in self.harmed]
            if not wanted:
                return None
            name, key, point = chance.choice(wanted[:4])
            began = time.time()
            harm(self._store(), key)
            self.harmed[name] = began
        except StoreError:
            return None
        return int(point)

    def _known_settings(self) -> Settings:
        return Settings.from_environment(self.settings, data=self.data)

    def _store(self, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> ObjectStore:
        return open_store(self._known_settings(), now, service_key(self.data / "service.key"))

    @contextlib.contextmanager
    def _steering(self, now: datetime) -> Iterator[Steering]:
        settings = self._known_settings()
        database = Database(settings.database_url)
        try:
            yield Steering(
                database=database,
                store=self._store(lambda: now),
                bell=RecordingBell(),
                clock=lambda: now,
                settings=settings,
            )
        finally:
            database.close()


def _state_in(archive: bytes) -> State:
    with tarfile.open(fileobj=io.BytesIO(archive)) as members:
        if STATE not in members.getnames():  # its training was slow, and had made its large file alone
            assert FROZEN in members.getnames()
            return BEGINNING
        file = members.extractfile(STATE)
        assert file is not None
        return State(*json.load(file))


def _with_a_flaw(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
