"""Stand-ins for tests: a clock to turn by hand, a bell and a store that only remember, a service without processes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from gridtune_steering.bookkeeping.database import Database
from gridtune_steering.doorbell.port import ALL
from gridtune_steering.identity.secrets import service_key
from gridtune_steering.objectstore import open_store
from gridtune_steering.objectstore.places import Place, listed_object
from gridtune_steering.objectstore.port import (
    NoSuchObject,
    ObjectStore,
    StoreAway,
    Stored,
    Unfinished,
    UploadIncomplete,
)
from gridtune_steering.services.steering import Steering
from gridtune_steering.settings import Settings


class ManualClock:
    """Stands still until it is told to go on."""

    def __init__(self, now: datetime = datetime(2030, 1, 1, tzinfo=UTC)) -> None:
        self.now = now

    def __call__(self) -> datetime:
        """The time."""
        return self.now

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.now += timedelta(seconds=seconds)


class RecordingBell:
    """Wakes nobody, and remembers who was rung for."""

    def __init__(self) -> None:
        self.hosts: list[str] = []
        self.askers: list[str] = []

    def ring_hosts(self, task: str) -> None:
        """Remember."""
        self.hosts.append(task)

    def ring_askers(self, task: str, n: int = ALL) -> None:
        """Remember."""
        self.askers.append(task)


class MemoryStore(ObjectStore):
    """Keeps objects in memory; what agents would PUT to an address is given to `put`.

    Attributes:
        is_away: Whether to behave like a store that does not answer.
        data_places: Where inputs of tasks may be.
    """

    min_part_size = 1
    max_parts = 10_000

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self.objects: dict[str, bytes] = {}
        self.uploads: dict[str, tuple[str, datetime, dict[int, bytes]]] = {}
        self.is_away = False
        self.data_places: tuple[Place, ...] = ()
        self._clock = clock
        self._times: dict[str, datetime] = {}

    def put(self, url: str, content: bytes) -> None:
        """What a PUT to this address does."""
        self.check()
        upload, _, part = url.removeprefix("memory:").rpartition("#")
        self.uploads[upload][2][int(part)] = content

    def get(self, url: str) -> bytes:
        """What a GET from this address answers."""
        return self.objects[url.removeprefix("memory:")]

    def begin(self, key: str, size: int, n_parts: int) -> str:
        """Begin an upload."""
        self.check()
        upload = f"upload-{len(self.uploads)}-{key}"
        self.uploads[upload] = (key, self._clock(), {})
        return upload

    def part_urls(self, key: str, upload: str, sizes: Sequence[int], lifetime: timedelta) -> list[str]:
        """Addresses for `put`."""
        return [f"memory:{upload}#{number}" for number in range(len(sizes))]

    def finish(self, key: str, upload: str, sizes: Sequence[int]) -> None:
        """Join the parts."""
        self.check()
        if key in self.objects:
            return
        parts = self.uploads[upload][2]
        missing = [number for number, size in enumerate(sizes) if len(parts.get(number, b"-" * (size + 1))) != size]
        if missing:
            raise UploadIncomplete(f"{len(missing)} of {len(sizes)} parts are missing")
        self.write(key, b"".join(parts[number] for number in range(len(sizes))))
        del self.uploads[upload]

    def abandon(self, key: str, upload: str) -> None:
        """Forget an upload."""
        self.check()
        self.uploads.pop(upload, None)

    def download_url(self, key: str, lifetime: timedelta) -> str:
        """An address for `get`."""
        return f"memory:{key}"

    def data_url(self, source: str, lifetime: timedelta) -> str:
        """An address of what is in one of the places."""
        bucket, key = listed_object(source, self.data_places)
        return f"memory:{bucket}/{key}"

    def write(self, key: str, content: bytes) -> None:
        """Store an object."""
        self.check()
        self.objects[key], self._times[key] = content, self._clock()

    def read(self, key: str, limit: int) -> bytes:
        """The beginning of an object."""
        self.check()
        if key not in self.objects:
            raise NoSuchObject(key)
        return self.objects[key][:limit]

    def delete(self, keys: Iterable[str]) -> None:
        """Delete objects."""
        self.check()
        for key in keys:
            self.objects.pop(key, None)

    def listing(self, prefix: str) -> Iterator[Stored]:
        """All objects."""
        self.check()
        for key, content in sorted(self.objects.items()):
            if key.startswith(prefix):
                yield Stored(key=key, size=len(content), modified_at=self._times[key])

    def unfinished(self, prefix: str) -> Iterator[Unfinished]:
        """All uploads."""
        self.check()
        for upload, (key, begun_at, _) in sorted(self.uploads.items()):
            if key.startswith(prefix):
                yield Unfinished(key=key, upload=upload, begun_at=begun_at)

    def check(self) -> None:
        """Raise if it is to seem away."""
        if self.is_away:
            raise StoreAway("the store in memory was told to be away")


def steering_in(folder: Path, clock: ManualClock, *, store: ObjectStore | None = None, **settings: object) -> Steering:
    """A service on a fresh database in *folder*, without processes; objects are kept there, too, or in *store*."""
    known = Settings.from_environment({}, data=folder, **settings)
    database = Database(known.database_url)
    database.migrate()
    kept_in = store or open_store(known, clock, service_key(folder / "service.key"))
    return Steering(database=database, store=kept_in, bell=RecordingBell(), clock=clock, settings=known)
