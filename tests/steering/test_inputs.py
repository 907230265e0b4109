"""Inputs in S3: whose addresses are signed, and whose are not."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import boto3
import pytest
import requests

from gridtune_common.errors import ConfigurationError
from gridtune_common.protocol import Download, FailureCause, LocateInput, PointState, Scope
from gridtune_evaluation.cache import Allowance
from gridtune_evaluation.fetching import AddressDesk, Halt, fetch_signed
from gridtune_steering.objectstore import open_store
from gridtune_steering.objectstore.places import Place, read_places
from gridtune_steering.objectstore.port import NotSigned, ObjectStore
from gridtune_steering.services import inputs
from gridtune_steering.services.access import Caller
from gridtune_steering.services.errors import NotFound, Unusable
from gridtune_steering.settings import Settings
from gridtune_steering.testing import ManualClock, MemoryStore
from real_service import RealService, wait_for
from servers.ceph import Ceph
from service_bench import OPERATOR, Bench

HOUR = timedelta(hours=1)
OBJECT = "s3://public/data/train.npz"
STORE = "s3://gridtune/some/where?endpoint=https://s3.example.org&path_style=true"


def store_with(folder: Path, *places: str, location: str = STORE) -> ObjectStore:
    """The store of a service whose operator has listed these places."""
    settings = Settings.from_environment(
        {"GRIDTUNE_STEERING_DATA_BUCKETS": ", ".join(places)},
        data=folder,
        object_store=location,
        s3_key_id="me",
        s3_secret="s3cr3t",
    )
    return open_store(settings, ManualClock(), b"key")


def submit(bench: Bench, *sources: str) -> str:
    """Submit a task with inputs."""
    data = {f"input-{number}": source for number, source in enumerate(sources)}
    return bench.submit(payload={"command": "true", "data": data})


def locate(bench: Bench, task: str, source: str, caller: Caller = OPERATOR) -> Download:
    """Ask for the address of an input."""
    return inputs.locate(bench.steering, caller, task, LocateInput(source))


# --- which places ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["public", "public/", "public/data/", "other public/data/"])
def test_objects_in_listed_places_are_signed(tmp_path: Path, place: str) -> None:
    """A bucket, or what begins with a prefix in it, on the endpoint of the service's own store."""
    address = store_with(tmp_path, *place.split()).data_url(OBJECT, HOUR)

    assert address.startswith("https://s3.example.org/public/data/train.npz?X-Amz-Algorithm=AWS4-HMAC-SHA256")
    assert "X-Amz-Expires=3600" in address
    assert "s3cr3t" not in address


@pytest.mark.parametrize(
    "source",
    [
        "s3://public/secret.npz",
        "s3://public/database/train.npz",
        "s3://public/Data/train.npz",
        "s3://Public/data/train.npz",
        "s3://public2/data/train.npz",
        "s3://gridtune/some/where/tasks/t/0/e/o",
        "s3://public/data%2Ftrain.npz",
        "s3://public%2Fdata/train.npz",
        "s3://public/%2e%2e/data/train.npz",
    ],
)
def test_objects_elsewhere_are_not_signed(tmp_path: Path, source: str) -> None:
    """Keys are compared letter by letter; the refusal says what the operator can do."""
    store = store_with(tmp_path, "public/data/")

    with pytest.raises(NotSigned, match=r"its operator can list .* in GRIDTUNE_STEERING_DATA_BUCKETS"):
        store.data_url(source, HOUR)


@pytest.mark.parametrize(
    "key",
    [
        "data/../secret.npz",
        "data/./train.npz",
        "data//train.npz",
        "/data/train.npz",
        "data/",
        "data/a/../../../gridtune/some/where/tasks/t",
        "",
    ],
)
def test_keys_that_could_be_resolved_are_not_signed(tmp_path: Path, key: str) -> None:
    """A proxy or a library may make another key of them."""
    store = store_with(tmp_path, "public", "public/data/")

    with pytest.raises(NotSigned, match=r"an empty name, '\.' or '\.\.' in its path"):
        store.data_url(f"s3://public/{key}", HOUR)


@pytest.mark.parametrize(
    "key", ["data/%2e%2e/secret", "data/..%2fsecret", "data/a b?versionId=1#x", "data/...", "data/ü"]
)
def test_odd_keys_are_the_keys_that_they_are(tmp_path: Path, key: str) -> None:
    """What looks encoded is not decoded, by us or by those who fetch."""
    address = store_with(tmp_path, "public/data/").data_url(f"s3://public/{key}", HOUR)

    asked = requests.Request("GET", address).prepare().path_url.partition("?")[0]
    assert unquote(asked) == f"/public/{key}"


def test_nothing_is_signed_unless_listed(tmp_path: Path) -> None:
    """Neither by a store that speaks S3, nor by one that does not."""
    with pytest.raises(NotSigned, match="GRIDTUNE_STEERING_DATA_BUCKETS"):
        store_with(tmp_path).data_url(OBJECT, HOUR)
    with pytest.raises(NotSigned, match=r"not in S3; its operator can keep them there"):
        open_store(Settings(data=tmp_path), ManualClock(), b"key").data_url(OBJECT, HOUR)


@pytest.mark.parametrize(
    "place",
    [
        "gridtune",
        "GridTune",
        "gridtune/some/",
        "gridtune/some/where/",
        "gridtune/some/where/tasks/",
        "gridtune/some/where/data/",
    ],
)
def test_the_services_own_objects_cannot_be_listed(tmp_path: Path, place: str) -> None:
    """No place may hold them, or lie among them: the service does not start."""
    with pytest.raises(ConfigurationError, match=r"where the service keeps its own objects, overlap"):
        store_with(tmp_path, "public", place)


def test_places_beside_the_services_own_can_be_listed() -> None:
    """In the same bucket, with another prefix."""
    own = Place("gridtune", "some/where/")

    found = read_places(["gridtune/some/data/", "gridtune/some/where-else/", "gridtune2"], own)

    assert [str(place) for place in found] == ["gridtune/some/data/", "gridtune/some/where-else/", "gridtune2/"]


def test_a_store_without_a_prefix_owns_its_bucket(tmp_path: Path) -> None:
    """What it will keep there one day is not known today."""
    with pytest.raises(ConfigurationError, match="give the service a bucket or a prefix of its own"):
        store_with(tmp_path, "gridtune/data/", location="s3://gridtune?endpoint=https://s3.example.org")


@pytest.mark.parametrize(
    "place", ["public/data", "s3://public", "/", "/data/", "public//", "public/../", "public/./a/", ".", "a:b", "*"]
)
def test_what_is_no_place_is_refused(tmp_path: Path, place: str) -> None:
    """A prefix without its slash would hold more than it says."""
    with pytest.raises(ConfigurationError, match=r"GRIDTUNE_STEERING_DATA_BUCKETS: .* is no place; write bucket or"):
        store_with(tmp_path, place)


def test_places_need_a_store_that_speaks_s3(tmp_path: Path) -> None:
    """There is no credential to sign with otherwise."""
    with pytest.raises(ConfigurationError, match=r"DATA_BUCKETS is of no use: .*OBJECT_STORE is no s3://BUCKET"):
        Settings.from_environment({"GRIDTUNE_STEERING_DATA_BUCKETS": "public"}, data=tmp_path)


# --- which inputs ---------------------------------------------------------------------------------------------------


@pytest.fixture
def signing(store: MemoryStore) -> MemoryStore:
    """The service's store, with a place that its operator has listed."""
    store.data_places = (Place("public"),)
    return store


@pytest.mark.usefixtures("signing")
def test_the_inputs_of_a_task_have_addresses(bench: Bench) -> None:
    """With the token of a worker node; they last as long as those of checkpoints."""
    task = submit(bench, "https://example.org/a", OBJECT)
    agent = Caller(user="ann", scope=Scope.TASK, token="t1", task=task)

    address = locate(bench, task, OBJECT, agent)

    assert address == Download("memory:public/data/train.npz", bench.steering.settings.address_seconds)


@pytest.mark.usefixtures("signing")
def test_what_a_task_does_not_name_has_no_address(bench: Bench) -> None:
    """Not even if it is an input of another one, or nearly one of its own."""
    task, other = submit(bench, OBJECT), submit(bench, "s3://public/other")
    nothing = bench.submit()

    for asked, source in [
        (task, "s3://public/other"),
        (other, OBJECT),
        (nothing, OBJECT),
        (task, f"{OBJECT}/"),
        (task, "S3://public/data/train.npz"),
        (task, "s3://public/data/x/../train.npz"),
        (task, ""),
    ]:
        with pytest.raises(NotFound):
            locate(bench, asked, source)


@pytest.mark.usefixtures("signing")
def test_a_token_reaches_the_inputs_of_its_own_task_alone(bench: Bench) -> None:
    """Other users' tasks are not even there."""
    task, other = submit(bench, OBJECT), submit(bench, OBJECT)
    callers = [
        Caller(user="ann", scope=Scope.TASK, token="t1", task=other),
        Caller(user="ann", scope=Scope.USER, token="t2"),
    ]

    for caller in callers:
        with pytest.raises(NotFound):
            locate(bench, task, OBJECT, caller)


@pytest.mark.usefixtures("signing")
def test_other_inputs_need_no_address(bench: Bench) -> None:
    """What is not in S3 is fetched from where it is."""
    task = submit(bench, "https://example.org/a")

    with pytest.raises(Unusable):
        locate(bench, task, "https://example.org/a")


# --- over a real store ----------------------------------------------------------------------------------------------

CONTENT = os.urandom(300_000)
OPEN, CLOSED = "s3://inputs/open/train.npz", "s3://inputs/closed/train.npz"


@pytest.fixture(scope="module")
def objects(ceph: Ceph) -> Any:
    """A client of the store, in which there are inputs."""
    client = boto3.client(
        "s3",
        endpoint_url=ceph.endpoint,
        region_name="us-east-1",
        aws_access_key_id=ceph.key_id,
        aws_secret_access_key=ceph.secret,
    )
    for bucket in ("inputs", "service"):
        client.create_bucket(Bucket=bucket)
    for source in (OPEN, CLOSED):
        client.put_object(Bucket="inputs", Key=source.split("/", 3)[3], Body=CONTENT)
    return client


def settings_of(ceph: Ceph, places: str) -> dict[str, str]:
    """The environment of a service that keeps its objects there."""
    return {
        "GRIDTUNE_STEERING_OBJECT_STORE": f"s3://service/own?endpoint={ceph.endpoint}&path_style=true",
        "GRIDTUNE_STEERING_S3_KEY_ID": ceph.key_id,
        "GRIDTUNE_STEERING_S3_SECRET": ceph.secret,
        "GRIDTUNE_STEERING_DATA_BUCKETS": places,
    }


@pytest.fixture
def service(ceph: Ceph, objects: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RealService]:
    """A service that signs what is below one prefix; agents beside it have neither credentials nor boto3 nor aws."""
    service = RealService(tmp_path, settings=settings_of(ceph, "inputs/open/"))
    service.start()
    without_s3 = tmp_path / "without-s3"
    without_s3.mkdir()
    (without_s3 / "boto3.py").write_text("raise ImportError('there is no boto3 on this node')\n")
    monkeypatch.setenv("PYTHONPATH", str(without_s3))
    monkeypatch.setenv("PATH", "/nowhere")
    yield service
    service.end()


def task_with(source: str) -> dict[str, Any]:
    """A task whose training measures its input."""
    command = "/usr/bin/test -r in/train.npz && echo '{\"loss\": '$(/usr/bin/wc -c < in/train.npz)'}' > output.json"
    return {
        "name": "inputs",
        "space": {"x": {"type": "float", "low": 0.0, "high": 1.0}},
        "objective": {"metric": "loss"},
        "stop": {"points": 1},
        "retry": {"attempts": 1, "infrastructure": 1},
        "payload": {"command": command, "data": {"in/train.npz": source}},
    }


def logs_of(service: RealService) -> str:
    """What service and agents have logged."""
    return "".join(path.read_text(errors="replace") for path in service.folder.rglob("*.log"))


def test_a_node_without_credentials_trains_on_objects(service: RealService) -> None:
    """An agent that has the task's token and nothing else gets the input; no log has the signature."""
    task = service.submit(task_with(OPEN))

    service.start_agent(task).wait(60)
    [point] = service.export(task).points

    assert (point.state, point.metrics) == (PointState.DONE, {"loss": float(len(CONTENT))})
    assert f"Fetching in/train.npz from {OPEN}." in logs_of(service)
    assert "Signature" not in logs_of(service)


def test_a_place_that_is_not_listed_is_refused(service: RealService) -> None:
    """The attempt fails, and its message says what the operator can do, and what the node lacks."""
    task = service.submit(task_with(CLOSED))

    agent = service.start_agent(task)
    [failed] = wait_for("the failure", lambda: [e for e in service.export(task).evaluations if e.ended_at])
    agent.terminate()
    agent.wait(30)

    assert failed.cause == FailureCause.INFRASTRUCTURE.value
    assert "this node has neither boto3 nor aws" in failed.message
    assert f"this service signs no address for {CLOSED}; its operator can list" in failed.message


def test_a_service_that_would_open_its_own_objects_does_not_start(ceph: Ceph, objects: Any, tmp_path: Path) -> None:
    """It says which setting is wrong."""
    service = RealService(tmp_path, settings=settings_of(ceph, "inputs, service/own/tasks/"))

    with pytest.raises(AssertionError, match=r"GRIDTUNE_STEERING_DATA_BUCKETS: service/own/tasks/ and service/own/"):
        service.start()


def test_addresses_are_good_for_reading_one_object_for_a_while(ceph: Ceph, objects: Any, tmp_path: Path) -> None:
    """Not for writing, not for another object, and not for ever."""
    settings = Settings.from_environment(settings_of(ceph, "inputs/open/"), data=tmp_path)
    address = open_store(settings, ManualClock(), b"key").data_url(OPEN, HOUR)

    assert requests.get(address, timeout=60).content == CONTENT
    assert requests.put(address, b"x", timeout=60).status_code == 403
    assert requests.delete(address, timeout=60).status_code == 403
    assert requests.get(address.replace("/open/", "/closed/"), timeout=60).status_code == 403
    assert urlsplit(address).path == "/inputs/open/train.npz"


class Interruption(Allowance):
    """Breaks the first connection in the middle of an object, when something else has happened."""

    def __init__(self, happens: Callable[[], object]) -> None:
        super().__init__(lambda size: None)
        self._happens: Callable[[], object] | None = happens

    def need(self, size: int) -> None:
        """Break."""
        if self._happens is not None and 100_000 < size < len(CONTENT):
            self._happens()
            self._happens = None
            raise requests.ConnectionError("the connection broke")


class Counter:
    """Signs addresses for a second at first, says that they are good for an hour, and counts them."""

    def __init__(self, store: ObjectStore) -> None:
        self.lifetimes = [timedelta(seconds=1)]
        self.n_signed = 0
        self._store = store

    def __call__(self, source: str) -> Download:
        """Sign."""
        self.n_signed += 1
        lifetime = self.lifetimes.pop() if self.lifetimes else HOUR
        return Download(self._store.data_url(source, lifetime), 3600.0)


@pytest.fixture
def counter(ceph: Ceph, objects: Any, tmp_path: Path) -> Counter:
    """A signer of real addresses."""
    settings = Settings.from_environment(settings_of(ceph, "inputs/open/"), data=tmp_path)
    return Counter(open_store(settings, ManualClock(), b"key"))


def test_an_address_that_expires_amid_an_object_is_renewed(counter: Counter, tmp_path: Path) -> None:
    """The store refuses the old one, and the rest comes from another."""
    interruption = Interruption(lambda: time.sleep(2.5))

    fetch_signed(OPEN, tmp_path / "got", AddressDesk(counter), interruption, Halt())

    assert (tmp_path / "got").read_bytes() == CONTENT
    assert counter.n_signed == 2


def test_an_object_that_changes_meanwhile_is_fetched_anew(counter: Counter, objects: Any, tmp_path: Path) -> None:
    """Halves of two versions are never put together, whatever the store makes of the question."""
    place = {"Bucket": "inputs", "Key": "open/changing"}
    objects.put_object(**place, Body=CONTENT[::-1])
    interruption = Interruption(lambda: objects.put_object(**place, Body=CONTENT))
    counter.lifetimes = []

    fetch_signed("s3://inputs/open/changing", tmp_path / "got", AddressDesk(counter), interruption, Halt())

    assert (tmp_path / "got").read_bytes() == CONTENT
