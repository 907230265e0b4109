"""The HTTP API: credentials on every route, problems for every error, one definition for code and document."""

from __future__ import annotations

import csv
import hashlib
import json
import shutil
import threading
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from openapi_spec_validator import validate
from sqlalchemy.exc import OperationalError

from api_bench import Api
from gridtune_common import protocol, wire
from gridtune_common.cli.foreign import Wanted, read_results
from gridtune_common.client import new_request_id
from gridtune_common.protocol import Scope
from gridtune_steering.api.app import PREFIX, create_app
from gridtune_steering.api.routing import ROUTES, Access, Route
from gridtune_steering.doorbell import Gate, LocalBell, WaitingRoom
from gridtune_steering.objectstore.folder import FolderStore
from gridtune_steering.objectstore.port import StoreAway, StoreError, StoreFull, UploadIncomplete
from gridtune_steering.objectstore.s3 import Bucket, S3Store
from gridtune_steering.services import asking, tokens
from gridtune_steering.services.access import Caller
from gridtune_steering.services.steering import Steering
from gridtune_steering.services.tokens import ensure_operator
from real_service import wait_for
from service_bench import Bench, document, on_sqlite

every_route = pytest.mark.parametrize("entry", ROUTES, ids=[entry.name for entry in ROUTES])


@pytest.fixture
def database_kind() -> str:
    """Routes are the same, whatever the database."""
    return "sqlite"


def concrete(entry: Route) -> str:
    """A path of the route with its variables filled in."""
    path = entry.path
    for variable, value in {"<task>": "t", "<path:path>": "f", "<int:number>": "0", "<token>": "k"}.items():
        path = path.replace(variable, value)
    path = path.replace("<path:key>", "a/b")
    return path.replace("<evaluation>", "e")


@pytest.mark.parametrize("is_read_to_its_end", [False, True], ids=["read by its length", "read to its end"])
def test_a_request_that_was_cut_off_is_asked_for_again(api: Api, bench: Bench, is_read_to_its_end: bool) -> None:
    """A broken connection is no refusal: a result whose request lost its end is told again, not put aside."""
    lease = bench.lease(api.submit())
    whole = wire.dump(protocol.Tell("r1", lease.epoch, {"loss": 1.0})).encode()
    cut = {"CONTENT_LENGTH": str(len(whole)), "wsgi.input_terminated": is_read_to_its_end}

    answer = api.call("POST", f"/evaluations/{lease.evaluation}/tell", whole[:-9], environ_overrides=cut)

    assert (answer.status_code, "cut off" in answer.get_json()["detail"]) == (408, True)
    assert api.call("POST", f"/evaluations/{lease.evaluation}/tell", whole).get_json()["accepted"]


@every_route
def test_routes_need_a_token_unless_marked_open(api: Api, entry: Route) -> None:
    """No route was forgotten, whatever is added."""
    answer = api.call(entry.method, concrete(entry), secret="")

    if entry.access is Access.OPEN:
        assert answer.status_code == 200
    elif entry.access is Access.SIGNED:
        assert (answer.status_code, answer.mimetype) == (403, "application/problem+json")
    else:
        assert answer.status_code == 401
        assert answer.mimetype == "application/problem+json"
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")


@every_route
def test_unknown_tokens_open_nothing(api: Api, entry: Route) -> None:
    """A made-up secret is as good as none."""
    if entry.access.needs_token:
        assert api.call(entry.method, concrete(entry), secret="gridtune_guess").status_code == 401


@every_route
def test_a_task_token_evaluates_and_nothing_else(api: Api, entry: Route) -> None:
    """What travels to worker nodes opens only what an agent needs."""
    secret = api.token("task", task=api.submit())

    answer = api.call(entry.method, concrete(entry), secret=secret)

    assert (answer.status_code == 403) == (entry.access in {Access.USER, Access.SIGNED, Access.MONITOR})


@pytest.mark.parametrize("entry", [entry for entry in ROUTES if entry.access is Access.SIGNED], ids=lambda e: e.name)
@pytest.mark.parametrize(
    "query",
    ["", "signature=", "expires=9999999999&signature=", "expires=x&signature=00", "signature=%FF%00&expires=", "&=&"],
)
def test_signed_routes_need_a_signature(api: Api, entry: Route, query: str) -> None:
    """No token opens them, not even the operator's, and no guess."""
    answers = [api.call(method, f"{concrete(entry)}?{query}", b"x") for method in (entry.method, "HEAD")]

    assert [answer.status_code for answer in answers] == [403, 403]


def test_only_two_routes_are_signed() -> None:
    """Those of objects that the service itself keeps."""
    assert {entry.name for entry in ROUTES if entry.access is Access.SIGNED} == {"put_part", "get_object"}


def test_an_archived_task_is_listed_exported_and_gone(api: Api, bench: Bench) -> None:
    """Its export in every form; all other routes answer 410 and say what to do, and asking agents hear that too."""
    task = api.submit(points=1)
    bench.tell(bench.lease(task))
    bench.work()
    before = {form: api.call("GET", f"/tasks/{task}/export?format={form}").data for form in ("csv", "html")}

    archived = api.call("POST", f"/tasks/{task}/archive")

    assert (archived.status_code, bool(archived.get_json()["archived_at"])) == (200, True)
    assert api.call("GET", "/tasks").get_json()["items"] == [archived.get_json()]
    assert api.call("GET", f"/tasks/{task}/export").get_json()["points"][0]["state"] == "done"
    assert api.call("GET", f"/tasks/{task}/export?format=csv").data == before["csv"]
    assert b"<html" in api.call("GET", f"/tasks/{task}/export?format=html").data
    ask = {"request_id": "r1", "worker": "w"}
    for method, path, body in [
        ("GET", "", None),
        ("GET", "/points", None),
        ("GET", "/points/0", None),
        ("GET", "/best", None),
        ("GET", "/events", None),
        ("GET", "/payload", None),
        ("PATCH", "", {"request_id": "r2", "action": "resume"}),
        ("POST", "/ask", ask),
    ]:
        answer = api.call(method, f"/tasks/{task}{path}", body)
        assert (answer.status_code, answer.get_json()["type"]) == (410, "urn:gridtune:problem:TaskArchived")
        assert f"gridtune export {task}" in answer.get_json()["detail"]
    assert api.call("DELETE", f"/tasks/{task}?request_id=r3").status_code == 204
    assert api.call("GET", f"/tasks/{task}/export").status_code == 404


def test_few_routes_are_open() -> None:
    """Opening a route is a decision, to be made here as well."""
    assert {entry.name for entry in ROUTES if entry.access is Access.OPEN} == {
        "healthz",
        "readyz",
        "openapi",
        "get_agent",
        "get_agent_checksum",
    }


def test_the_agents_file_comes_with_its_checksum(api: Api) -> None:
    """It can be verified by ``sha256sum --check``; caches have to ask whether they still have the right one."""
    file, checksum = (api.call("GET", f"/agent/gridtune-agent.pyz{ending}", secret="") for ending in ("", ".sha256"))

    digest = hashlib.sha256(file.data).hexdigest()
    assert (file.mimetype, file.headers["ETag"]) == ("application/zip", f'"{digest}"')
    assert checksum.text == f"{digest}  gridtune-agent.pyz\n"
    assert {answer.headers["Cache-Control"] for answer in (file, checksum)} == {"no-cache"}


def test_the_agents_file_is_not_sent_again_to_who_has_it(api: Api) -> None:
    """The tag of an earlier answer gets 304, as often as somebody asks: each gives its place back."""
    path = f"{PREFIX}/agent/gridtune-agent.pyz"
    tag = api.client.head(path, buffered=True).headers["ETag"]

    answers = [api.client.get(path, headers={"If-None-Match": tag}, buffered=True) for _ in range(99)]

    assert {(answer.status_code, answer.data) for answer in answers} == {(304, b"")}


def test_downloads_of_the_agent_leave_room_for_others(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody needs a token for it, so it must not take all threads."""
    monkeypatch.setattr(Gate, "enter", lambda _: False)

    answer = api.call("GET", "/agent/gridtune-agent.pyz", secret="")

    assert (answer.status_code, int(answer.headers["Retry-After"])) in {(503, 1), (503, 2), (503, 3)}


def test_a_task_token_reaches_its_own_task_alone(api: Api) -> None:
    """Another task does not exist for it."""
    mine, other = api.submit(), api.submit()
    secret = api.token("task", task=mine)
    ask = {"request_id": new_request_id(), "worker": "w"}

    assert api.call("POST", f"/tasks/{mine}/ask", ask, secret=secret).status_code == 204
    assert api.call("POST", f"/tasks/{other}/ask", ask, secret=secret).status_code == 404


def test_users_see_their_own_tasks(api: Api) -> None:
    """Others' tasks are not found; operators see all."""
    ann, bob = api.token("user", user="ann"), api.token("user", user="bob")
    message = {"request_id": new_request_id(), "document": document()}
    task = api.call("POST", "/tasks", message, secret=ann).get_json()["summary"]["id"]

    assert api.call("GET", f"/tasks/{task}", secret=ann).status_code == 200
    assert api.call("GET", f"/tasks/{task}", secret=bob).status_code == 404
    assert api.call("GET", "/tasks", secret=bob).get_json()["items"] == []
    assert [item["id"] for item in api.call("GET", "/tasks").get_json()["items"]] == [task]


def test_users_make_no_tokens_for_others(api: Api) -> None:
    """Nobody can promote themselves."""
    ann = api.token("user", user="ann")

    for more in ({"scope": "operator"}, {"scope": "user", "user": "bob"}):
        message = {"request_id": new_request_id(), **more}
        assert api.call("POST", "/tokens", message, secret=ann).status_code == 403


@on_sqlite
def test_a_repeated_request_for_a_token_gives_the_same_secret(api: Api, bench: Bench) -> None:
    """Idempotent, though the secret is stored nowhere."""
    message = {"request_id": "r1", "scope": "user", "user": "ann"}

    first, again = (api.call("POST", "/tokens", message).get_json() for _ in range(2))

    assert first == again
    database = (bench.steering.settings.data / "gridtune.db").read_bytes()
    wal = (bench.steering.settings.data / "gridtune.db-wal").read_bytes()
    assert first["secret"].encode() not in database + wal


def test_revoked_and_expired_tokens_open_nothing(api: Api, bench: Bench) -> None:
    """Both are told apart from unknown ones, so that their holder knows what to do."""
    ann, bob = api.token("user", user="ann"), api.token("user", user="bob", lifetime_seconds=10)
    listed = api.call("GET", "/tokens", secret=ann).get_json()["items"]
    api.call("DELETE", f"/tokens/{listed[0]['id']}?request_id=r9")
    bench.clock.advance(11)

    revoked, expired = (api.call("GET", "/whoami", secret=secret) for secret in (ann, bob))

    assert (revoked.status_code, revoked.get_json()["detail"]) == (401, "the token was revoked")
    assert (expired.status_code, expired.get_json()["detail"][:17]) == (401, "the token expired")


def test_the_operators_token_is_readable_by_its_owner_alone(api: Api, bench: Bench) -> None:
    """Files with secrets have mode 0600."""
    for name in ("operator.token", "service.key"):
        assert (bench.steering.settings.data / name).stat().st_mode & 0o777 == 0o600
    assert tokens.authenticate(bench.steering, api.secret).scope is Scope.OPERATOR


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "words"),
    [
        ("GET", "/nowhere", None, 404, ""),
        ("PUT", "/tasks", None, 405, ""),
        ("GET", "/tasks/nope", None, 404, "no task 'nope'"),
        ("GET", "/tasks?limit=0", None, 422, "limit"),
        ("GET", "/tasks?colour=red", None, 422, "unknown parameter"),
        ("GET", "/tasks?after=%FF", None, 422, "no cursor"),
        ("GET", "/tasks?after=MDAwMS0wMS0wMVQwMDowMDowMCsxNDowMCB4", None, 422, "no cursor"),
        ("POST", "/tasks/t/ask", {"request_id": "r", "worker": ""}, 422, "worker"),
        ("GET", "/workers?after=%FF", None, 422, "no cursor"),
        ("GET", "/workers?after=OTphYg", None, 422, "no cursor"),
        ("GET", "/workers?after=MToAYQ", None, 422, "no cursor"),
        ("GET", "/workers?after=MQ", None, 422, "no cursor"),
        ("POST", "/tasks", b"{", 422, "JSON"),
        ("POST", "/tasks", b"", 422, ""),
        ("POST", "/tasks", {"request_id": "r"}, 422, "document"),
        ("POST", "/tasks", {"request_id": "", "document": {}}, 422, "request_id"),
        ("POST", "/tasks", b'{"request_id": "r", "document": {"a": NaN}}', 422, "finite"),
        ("POST", "/tasks", {"request_id": "r\0", "document": {}}, 422, "NUL"),
        ("POST", "/tasks", {"request_id": "r", "document": {"space": {}}}, 422, "space"),
        ("POST", "/tasks/t/points", {"request_id": "r", "points": [{"parameters": {"x": []}}]}, 422, "points.0"),
        ("POST", "/tasks/t/points", {"request_id": "r", "points": []}, 404, "no task 't'"),
        ("POST", "/tasks/t/results", {"request_id": "r", "results": [{"parameters": {}}]}, 422, "results.0.metrics"),
        ("POST", "/tasks/t/results", b'{"request_id": "r", "results": [{"metrics": {"a": NaN}}]}', 422, "results"),
        ("POST", "/evaluations/e/heartbeat", {"epoch": 2**60}, 422, "exact"),
        ("POST", "/evaluations/e/heartbeat", {"epoch": "1"}, 422, "epoch"),
    ],
)
def test_bad_input_gets_a_problem_that_says_what_to_mend(
    api: Api, method: str, path: str, body: Any, status: int, words: str
) -> None:
    """RFC 9457, with the place and the fix."""
    answer = api.call(method, path, body)

    problem = answer.get_json()
    assert (answer.status_code, answer.mimetype) == (status, "application/problem+json")
    assert problem["status"] == status
    assert words in json.dumps(problem)


def test_a_task_document_is_refused_with_every_flaw(api: Api) -> None:
    """All at once, each with its path."""
    bad = document(algorithm="hyperopt/tep")
    bad["space"]["width"]["low"] = 600

    errors = api.call("POST", "/tasks", {"request_id": "r", "document": bad}).get_json()["errors"]

    assert errors[0]["path"] == "space.width.low"
    assert "600 is above high (512)" in errors[0]["message"]


@pytest.mark.parametrize(
    ("paths", "words"),
    [([], "train.py is missing"), (["train.py", "train.py"], "comes twice"), (["train.py", "train.py/x"], "a folder")],
    ids=["missing", "twice", "file and folder"],
)
def test_a_tasks_files_are_all_there_and_fit_together(api: Api, paths: list[str], words: str) -> None:
    """What would fail on every worker is refused at once."""
    payload = {"command": "python train.py", "files": ["train.py"]}
    message = {
        "request_id": new_request_id(),
        "document": document(payload=payload),
        "files": [{"path": path, "content": ""} for path in paths],
    }

    answer = api.call("POST", "/tasks", message)

    assert answer.status_code == 422
    assert words in answer.text


def test_a_database_that_is_away_is_no_mistake(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients are told to come back."""

    def fail(*_: object) -> None:
        raise OperationalError("SELECT", {}, Exception("database is locked"))

    monkeypatch.setattr(tokens, "listing", fail)
    answer = api.call("GET", "/tokens")

    assert (answer.status_code, int(answer.headers["Retry-After"])) in {(503, 1), (503, 2), (503, 3)}


def test_a_token_lives_no_longer_than_its_maker(api: Api) -> None:
    """An expiring token cannot make itself an heir."""
    ann = api.token("user", user="ann", lifetime_seconds=100)
    answer = api.call("POST", "/tokens", {"request_id": new_request_id(), "scope": "user"}, secret=ann).get_json()
    mine = api.call("GET", "/tokens", secret=ann).get_json()["items"]

    assert {token["expires_at"] for token in [answer["token"], *mine]} == {answer["token"]["expires_at"]}
    assert answer["token"]["expires_at"] is not None


def test_nobody_is_called_after_the_service(api: Api) -> None:
    """The audit log's own actors have a slash."""
    message = {"request_id": new_request_id(), "scope": "user", "user": "gridtune/reaper"}

    assert api.call("POST", "/tokens", message).status_code == 422


def test_a_token_file_beside_a_new_database_is_replaced(api: Api, bench: Bench) -> None:
    """The operator is not locked out when the database was replaced."""
    (bench.steering.settings.data / "operator.token").write_text("gridtune_of_another_database\n")

    ensure_operator(bench.steering)

    secret = (bench.steering.settings.data / "operator.token").read_text().strip()
    assert tokens.authenticate(bench.steering, secret).scope is Scope.OPERATOR


def signed_part(bench: Bench, size: int) -> tuple[str, str]:
    """Begin an upload of one part; returns its name and its address, without the prefix of the API."""
    store = bench.steering.store
    upload = store.begin("a/b", size, 1)
    (address,) = store.part_urls("a/b", upload, [size], timedelta(hours=1))
    assert address.startswith(PREFIX)
    return upload, address.removeprefix(PREFIX)


def test_parts_are_as_large_as_their_addresses_say(api: Api, bench: Bench) -> None:
    """The limit of other bodies is not theirs, nor do they need a token."""
    api.client.application.config["MAX_CONTENT_LENGTH"] = 10
    upload, address = signed_part(bench, 100_000)

    sent = api.call("PUT", address, b"x" * 100_000, secret="")
    longer = api.call("PUT", address, b"x" * 100_001, secret="")
    bench.steering.store.finish("a/b", upload, [100_000])

    assert (sent.status_code, sent.data) == (200, b"")
    assert (longer.status_code, longer.get_json()["type"]) == (400, "urn:gridtune:problem:WrongLength")
    assert bench.steering.store.read("a/b", 2**20) == b"x" * 100_000


def test_an_upload_that_was_abandoned_is_not_found(api: Api, bench: Bench) -> None:
    """Its address is still good, but leads nowhere."""
    upload, address = signed_part(bench, 1)
    bench.steering.store.abandon("a/b", upload)

    assert api.call("PUT", address, b"x", secret="").status_code == 404


def test_objects_are_not_for_browsers(api: Api, bench: Bench) -> None:
    """What a training stored is saved and not shown; nobody keeps a copy on the way; its head can be had alone."""
    bench.steering.store.write("a/b", b"<script>")
    address = bench.steering.store.download_url("a/b", timedelta(hours=1)).removeprefix(PREFIX)

    answer = api.call("GET", address, secret="")
    head = api.call("HEAD", address, secret="")
    content = answer.get_data()
    answer.close()

    assert (answer.status_code, content, answer.mimetype) == (200, b"<script>", "application/octet-stream")
    assert answer.headers["Content-Disposition"].startswith("attachment")
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Cache-Control"] == "no-store"
    assert (head.status_code, head.data, head.headers["Content-Length"]) == (200, b"", "8")


@pytest.mark.parametrize("method", ["GET", "PUT"])
def test_objects_kept_elsewhere_are_not_here(bench: Bench, tmp_path: Path, method: str) -> None:
    """With a bucket, addresses are the bucket's own."""
    elsewhere = S3Store(Bucket(name="bucket", endpoint="http://127.0.0.1:9", key_id="me", secret="x"))
    with LocalBell(tmp_path) as bell:
        room = WaitingRoom(bell.listen_as_asker())
        client = create_app(replace(bench.steering, store=elsewhere), room).test_client()

        assert client.open(f"{PREFIX}/objects/a/b", method=method).status_code == 404
        bell.remove()


@pytest.mark.parametrize(
    ("error", "status"),
    [(StoreAway("x"), 503), (StoreFull("x"), 507), (StoreError("x"), 502), (UploadIncomplete("x"), 409)],
)
def test_a_store_in_trouble_is_told(
    api: Api, bench: Bench, monkeypatch: pytest.MonkeyPatch, error: StoreError, status: int
) -> None:
    """Each kind of trouble has its status; one that may pass says so."""

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(FolderStore, "receive", fail)
    answer = api.call("PUT", signed_part(bench, 1)[1], b"x", secret="")

    assert answer.status_code == status
    assert ("Retry-After" in answer.headers) == (status == 503)


def test_a_service_without_its_store_is_not_ready(api: Api, bench: Bench) -> None:
    """The check names what is away, and no more: anybody may ask."""
    assert api.call("GET", "/readyz", secret="").get_json()["checks"] == {"database": "ok", "store": "ok"}

    shutil.rmtree(bench.steering.settings.data / "objects", ignore_errors=True)
    (bench.steering.settings.data / "objects").touch()
    answer = api.call("GET", "/readyz", secret="")

    assert answer.status_code == 503
    assert answer.get_json()["checks"] == {"database": "ok", "store": "StoreAway"}


def test_bodies_have_a_limit(api: Api) -> None:
    """Too much is refused before it is read."""
    assert api.call("POST", "/tasks", b"x" * (33 * 2**20)).status_code == 413


def test_submitting_again_gives_the_same_task(api: Api) -> None:
    """A submission whose answer got lost makes no second task."""
    message = {"request_id": "r1", "document": document()}

    first, again = (api.call("POST", "/tasks", message).get_json() for _ in range(2))

    assert first == again
    assert len(api.call("GET", "/tasks").get_json()["items"]) == 1


def test_pages_follow_each_other(api: Api) -> None:
    """Every task once, newest first."""
    submitted = [api.submit() for _ in range(5)]
    seen: list[str] = []
    after = ""
    while True:
        page = api.call("GET", f"/tasks?limit=2{after}").get_json()
        seen += [item["id"] for item in page["items"]]
        if page["next"] is None:
            break
        after = f"&after={page['next']}"

    assert sorted(seen) == sorted(submitted)


def test_a_listing_finds_tasks_by_name(api: Api) -> None:
    """Names are not unique, so they are looked up and not addressed."""
    task = api.submit()

    assert [item["id"] for item in api.call("GET", "/tasks?name=bench").get_json()["items"]] == [task]
    assert api.call("GET", "/tasks?name=other").get_json()["items"] == []
    assert api.call("GET", "/tasks/bench").status_code == 404


def test_own_points_and_results_come_over_http(api: Api, bench: Bench) -> None:
    """A point to be tried, a result to be learnt; the export has both, and the CSV says who proposed a point."""
    task = api.submit()
    point = {"x": 1.0, "rate": 0.01, "drop": 0.1, "width": 64, "layers": 1, "kind": "adam", "batch": 16}
    points = {"request_id": "r1", "points": [{"parameters": point}]}
    results = {"request_id": "r2", "results": [{"parameters": {**point, "x": 2.0}, "metrics": {"loss": 1.5}}]}

    added = api.call("POST", f"/tasks/{task}/points", points)
    imported = api.call("POST", f"/tasks/{task}/results", {**results, "source": "notebook"})
    bench.tell(bench.lease(task))
    bench.tell(bench.lease(task))

    exported = api.call("GET", f"/tasks/{task}/export").get_json()
    rows = list(csv.DictReader(api.call("GET", f"/tasks/{task}/export?format=csv").text.splitlines()))
    assert (added.get_json(), imported.get_json()) == ({"added": 1, "waiting": 1}, {"taken": 1, "skipped": {}})
    assert [(wish["parameters"], wish["point"]) for wish in exported["wishes"]] == [(point, 0)]
    assert [(known["source"], known["observed"]) for known in exported["known"]] == [("notebook", 0)]
    assert [row["origin"] for row in rows] == ["user", "algorithm"]


def test_an_export_can_be_imported_as_it_is(api: Api, bench: Bench, tmp_path: Path) -> None:
    """As CSV and as JSON, with points of every kind and those that have no result."""
    task, other = api.submit(points=20), api.submit()
    for _ in range(12):
        bench.tell(bench.lease(task))
    bench.fail(bench.lease(task))
    wanted = Wanted.by(api.call("GET", f"/tasks/{other}").get_json()["document"])
    found = []
    for form in ("csv", "json"):
        path = tmp_path / f"results.{form}"
        path.write_bytes(api.call("GET", f"/tasks/{task}/export?format={form}").data)
        found.append(read_results(path, wanted))

    assert found[0].results == found[1].results
    assert [len(found[0].results), found[0].n_unfinished, found[0].ignored] == [12, 1, ()]
    message = {"request_id": "r", "results": [wire.encode(result) for result in found[0].results]}
    assert api.call("POST", f"/tasks/{other}/results", message).get_json() == {"taken": 12, "skipped": {}}


def test_a_host_that_is_set_aside_is_told_to_come_later(api: Api, bench: Bench) -> None:
    """Its ask is answered like any other without a point, but for how long; operators see it and forgive it."""
    task = api.submit()
    bench.lease(task, "good")
    for number in range(4):
        bench.fail(bench.lease(task, "w", host="bad node", site="cern"), text=f"{'abcd'[number]} is broken")
    ask = {"request_id": new_request_id(), "worker": "w", "host": "bad node", "site": "cern", "wait": 5.0}
    forgive = {"request_id": new_request_id(), "host": "bad node"}

    answer = api.call("POST", f"/tasks/{task}/ask", ask)
    first, second = api.call("GET", "/workers?limit=1"), api.call("GET", "/workers?all=true").get_json()["items"][1]
    forgiven = api.call("POST", "/workers/forgive", forgive)

    assert answer.status_code == 204
    assert 30 <= int(answer.headers["Retry-After"]) <= 47
    assert [item["host"] for item in first.get_json()["items"]] == ["good"]
    assert (second["host"], second["failed"], second["set_aside_until"]) == ("bad node", 4, "2030-01-01T00:05:00.000Z")
    assert [item["set_aside_until"] for item in forgiven.get_json()["items"]] == [None]
    assert api.call("POST", f"/tasks/{task}/ask", {**ask, "wait": 0.0}).headers.get("Retry-After", 0, int) < 30


def test_hosts_are_for_operators(api: Api) -> None:
    """Users and their tasks' tokens are refused, and unknown hosts are not found."""
    ann = api.token("user", user="ann")
    forgive = {"request_id": new_request_id(), "host": "a"}

    assert api.call("GET", "/workers", secret=ann).status_code == 403
    assert api.call("POST", "/workers/forgive", forgive, secret=ann).status_code == 403
    assert api.call("POST", "/workers/forgive", forgive).status_code == 404


def test_a_repeated_deletion_deletes_once(api: Api) -> None:
    """The answer is the same, though there is nothing left to delete."""
    task = api.submit()
    api.call("PATCH", f"/tasks/{task}", {"request_id": "r1", "action": "cancel"})

    assert [api.call("DELETE", f"/tasks/{task}?request_id=r2").status_code for _ in range(2)] == [204, 204]


def test_a_deleted_task_is_gone_and_its_events_stay(api: Api, bench: Bench) -> None:
    """Only ended tasks can be deleted; the audit log outlives them."""
    task = api.submit()
    assert api.call("DELETE", f"/tasks/{task}?request_id=r1").status_code == 409
    api.call("PATCH", f"/tasks/{task}", {"request_id": "r2", "action": "cancel"})

    assert api.call("DELETE", f"/tasks/{task}?request_id=r3").status_code == 204
    assert api.call("GET", f"/tasks/{task}").status_code == 404
    with bench.steering.database.read() as connection:
        query = sa.text("SELECT kind FROM events WHERE task_id = :task ORDER BY id")
        kinds = connection.execute(query, {"task": task}).scalars().all()
    assert kinds[-1] == "task.deleted"


def test_exports_hold_everything(api: Api, bench: Bench) -> None:
    """JSON with all tables and the task file as submitted, CSV with a line a point, HTML to look at."""
    message = {"request_id": "r", "document": document(points=2), "source": "name: bench  # as written\n"}
    task = api.call("POST", "/tasks", message).get_json()["summary"]["id"]
    for _ in range(2):
        bench.tell(bench.lease(task))
    bench.work()

    exported = api.call("GET", f"/tasks/{task}/export").get_json()
    lines = api.call("GET", f"/tasks/{task}/export?format=csv").text.splitlines()
    page = api.call("GET", f"/tasks/{task}/export?format=html")

    assert exported["task"]["source"] == "name: bench  # as written\n"
    assert exported["task"]["seed"] == 7
    assert set(exported["task"]["versions"]) == {"gridtune", "python"}
    assert [len(exported[table]) for table in ("points", "evaluations", "reports")] == [2, 2, 0]
    assert lines[0].startswith("number,state,value,attempts,worker")
    assert len(lines) == 3
    assert page.mimetype == "text/html"
    assert "bench" in page.text


def test_an_input_without_an_address_is_a_problem(api: Api) -> None:
    """Agents see why, and that it will not pass; what a task does not name is not there."""
    task = api.submit(payload={"command": "true", "data": {"a": "s3://bucket/key"}})

    refused, unknown = (
        api.call("POST", f"/tasks/{task}/data-address", {"url": url}, secret=api.token("task", task=task))
        for url in ("s3://bucket/key", "s3://bucket/other")
    )

    assert (refused.status_code, refused.get_json()["type"]) == (403, "urn:gridtune:problem:NotSigned")
    assert "GRIDTUNE_STEERING_DATA_BUCKETS" in refused.get_json()["detail"]
    assert unknown.status_code == 404


def test_errors_of_ours_tell_no_details(api: Api, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A crash is a problem document without the traceback, which is for the log."""
    monkeypatch.setattr(tokens, "listing", lambda *_: 1 / 0)

    answer = api.call("GET", "/tokens")

    assert answer.status_code == 500
    assert "division" not in answer.text


def test_the_document_is_valid_openapi(api: Api) -> None:
    """Checked by an independent validator."""
    found = api.call("GET", "/openapi.json", secret="").get_json()

    validate(found)
    assert found["openapi"] == "3.1.0"


def test_the_document_names_every_route(api: Api) -> None:
    """What is served is described, and nothing else."""
    found = api.call("GET", "/openapi.json", secret="").get_json()
    described = {(method.upper(), path) for path, item in found["paths"].items() for method in item}

    assert len(described) == len(ROUTES)
    assert ("POST", "/api/v1/tasks/{task}/ask") in described


def test_every_answer_names_the_protocol(api: Api) -> None:
    """Clients see which version they talk to, also when they are refused."""
    assert api.call("GET", "/tasks", secret="").headers[protocol.PROTOCOL_HEADER] == str(protocol.PROTOCOL_VERSION)


def test_an_ask_that_does_not_fit_is_a_conflict_with_its_reason(api: Api) -> None:
    """The problem names its kind, so that agents know what to do; the owner sees it with the task."""
    task = api.submit(resources={"requires": ["gpu.memory >= 40GiB"]})
    has = {"gpus": 1, "gpu_memory_bytes": 16 * 2**30}

    answer = api.call("POST", f"/tasks/{task}/ask", {"request_id": "r1", "worker": "w", "wait": 9.0, "resources": has})

    problem = answer.get_json()
    assert (answer.status_code, problem["type"]) == (409, "urn:gridtune:problem:DoesNotFit")
    said = "gpu.memory is 16GiB, the task requires >= 40GiB"
    assert problem["detail"] == f"this worker does not fit the task: {said}"
    assert api.call("GET", f"/tasks/{task}").get_json()["unfit"].endswith(said)


def test_usage_and_resources_come_back_with_the_point(api: Api, bench: Bench) -> None:
    """What an agent tells with a result is there to be seen."""
    has = protocol.WorkerResources(cpus=2, labels={"rack": "7"})
    lease = bench.lease(api.submit(), resources=has)
    usage = protocol.Usage(cpu_seconds=12.5, peak_memory_bytes=2**30, runtime="process")
    told = wire.encode(protocol.Tell("r1", lease.epoch, {"loss": 1.0}, usage=usage))

    api.call("POST", f"/evaluations/{lease.evaluation}/tell", told)

    found = api.call("GET", f"/tasks/{lease.task}/points/0").get_json()
    [evaluation] = wire.decode(protocol.PointDetail, found).evaluations
    assert (evaluation.usage, evaluation.resources) == (usage, has)


def test_agents_are_told_what_their_payload_may_use(api: Api) -> None:
    """The resources section travels with the payload."""
    task = api.submit(payload={"command": "true"}, resources={"network": True})

    found = api.call("GET", f"/tasks/{task}/payload").get_json()

    assert found["resources"] == {"cpus": 1, "gpus": 0, "network": True}
    assert (found["document"]["runtime"], found["document"]["pull"]) == ("auto", "missing")


@pytest.fixture
def asks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The workers of all asks that get as far as the database."""
    seen: list[str] = []
    ask = asking.ask

    def noting_ask(
        steering: Steering, caller: Caller, task: str, message: protocol.Ask
    ) -> protocol.Lease | asking.NoPoint:
        seen.append(message.worker)
        return ask(steering, caller, task, message)

    monkeypatch.setattr(asking, "ask", noting_ask)
    return seen


def test_waiting_beyond_the_budget_is_cheap(api: Api, bench: Bench, asks: list[str]) -> None:
    """A worker that waits while nobody rings asks once; each second it only glances at its task."""
    task = api.submit(points=1)
    bench.lease(task)
    asks.clear()

    answer = api.ask(task, "w2", wait=2.5)

    assert answer.status_code == 204
    assert asks == ["w2"]


@pytest.mark.parametrize("change", ["released", "ended"])
def test_a_lost_ring_costs_a_second(api: Api, bench: Bench, asks: list[str], change: str) -> None:
    """A waiting worker sees without being rung that there is a point again, or that its task has ended."""
    task = api.submit(points=1)
    lease = bench.lease(task)

    def happen() -> None:
        wait_for("the ask to wait", lambda: "w2" in asks)
        if change == "released":
            bench.release(lease)
        else:
            bench.tell(lease)
            bench.work()

    happening = threading.Thread(target=happen)
    happening.start()
    answer = api.ask(task, "w2", wait=20.0)
    happening.join()

    assert answer.status_code == (200 if change == "released" else 410)
    assert asks.count("w2") == 2
