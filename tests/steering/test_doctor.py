"""``gridtune doctor``: each thing that is wrong is told of, with what to do, and no secret is shown."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import ssl
import subprocess
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import boto3
import psycopg
import pytest
import sqlalchemy as sa

from gridtune_common import __version__
from gridtune_common.cli import main
from gridtune_common.cli.output import Style
from gridtune_common.protocol import PROTOCOL_HEADER
from gridtune_steering.checkup import Finding, Site, Verdict, address, examine, folder
from gridtune_steering.checkup.finding import about_clocks
from gridtune_steering.commands import doctor
from gridtune_steering.doorbell import postgres as doorbell
from gridtune_steering.services import founding
from gridtune_steering.settings import Settings
from servers.ceph import Ceph
from servers.postgres import Postgres
from service_bench import Bench


@pytest.fixture
def data(bench: Bench) -> Path:
    """The data folder of a service that was started before, on a database of each kind."""
    founding.found(bench.steering)
    bench.steering.settings.data.chmod(0o700)
    return bench.steering.settings.data


def look(bench: Bench, **changes: object) -> dict[str, Finding]:
    """What is found, by what was looked at."""
    kept = bench.steering.settings
    settings = Settings.from_environment({}, **{"data": kept.data, "database": kept.database, **changes})
    return {finding.check: finding for finding in examine(settings, running=None, public=None)}


def only_trouble(findings: dict[str, Finding]) -> dict[str, Verdict]:
    """What is not well."""
    return {check: found.verdict for check, found in findings.items() if found.verdict is not Verdict.OK}


@pytest.mark.usefixtures("data")
def test_a_service_in_order_is_found_well(bench: Bench) -> None:
    """Everything is looked at, the kind and version of the database are named, and nothing is left behind."""
    findings = look(bench)

    assert only_trouble(findings) == {}
    kinds = {"data folder", "free space", "database", "schema", "service key", "operator token", "object store"}
    assert kinds | {"addresses", "agent's file"} <= set(findings)
    assert findings["database"].seen.startswith(("SQLite 3.", "PostgreSQL 1"))
    assert "a round trip" in findings["database"].seen
    if bench.steering.settings.database:
        assert {"durability", "connections", "database clock", "rings"} <= set(findings)
        assert "a NOTIFY is heard" in findings["rings"].seen
    assert list((bench.steering.settings.data / "objects").rglob("probes/*")) == []


def test_a_first_start_is_looked_forward_to(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a data folder nothing is wrong, nothing is made, and a typing error in the path would be seen."""
    monkeypatch.chdir(tmp_path)

    code = main(["doctor", "--data", "new"])

    lines = capsys.readouterr().out.splitlines()
    assert (code, list(tmp_path.iterdir())) == (0, [])
    assert f"warning  data folder     {tmp_path / 'new'} does not exist" in lines
    assert lines[-1].endswith("ok, 1 warning")


def test_settings_that_cannot_be_read_are_wrong(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The exit code says so, and machines read it."""
    monkeypatch.setenv("GRIDTUNE_STEERING_LEASE_SECOND", "60")

    code = main(["doctor", "--json"])

    [finding] = json.loads(capsys.readouterr().out)["findings"]
    assert (code, finding["check"], finding["verdict"]) == (1, "settings", "wrong")
    assert "did you mean GRIDTUNE_STEERING_LEASE_SECONDS?" in finding["seen"]


def test_what_others_can_read_is_told_of(bench: Bench, data: Path) -> None:
    """A folder or a token that is open to all; a key that is none."""
    data.chmod(0o755)
    (data / "operator.token").chmod(0o644)
    (data / "service.key").write_text("secret")

    findings = look(bench)

    assert findings["data folder"].advice == f"chmod 700 {data}"
    assert (findings["operator token"].verdict, findings["service key"].verdict) == (Verdict.WRONG, Verdict.WRONG)
    assert "secret" not in findings["service key"].seen


def test_a_token_of_another_database_is_told_of(bench: Bench, data: Path) -> None:
    """A database that was put in place of another does not know its operator."""
    (data / "operator.token").write_text("gridtune_other")
    (data / "service.key").unlink()

    findings = look(bench)

    assert findings["operator token"].seen.endswith("is not known to the database")
    assert (findings["service key"].verdict, "backup" in findings["service key"].advice) == (Verdict.WRONG, True)


def test_the_key_of_another_service_is_told_of(bench: Bench, data: Path) -> None:
    """The service would not start with it."""
    (data / "service.key").write_text("00" * 32)

    finding = look(bench)["service key"]

    assert (finding.verdict, "another key than that of the database" in finding.seen) == (Verdict.WRONG, True)


def test_somebody_elses_folder_is_left_alone(bench: Bench, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What another user made there, the service could not write to: nothing is tried."""
    monkeypatch.setattr(os, "getuid", lambda: 12_345)

    findings = look(bench)

    assert "run service and doctor as" in findings["data folder"].advice
    assert findings["object store"].verdict is Verdict.WRONG
    assert not (data / "objects").exists()


def test_sqlite_on_a_network_is_a_warning(
    bench: Bench, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The deepest mount counts, and of two in one place the later one; with PostgreSQL it is none of its business."""
    table = tmp_path / "mountinfo"
    table.write_text(
        "21 1 0:2 / / rw - ext4 /dev/root rw\n"
        f"22 1 0:3 / {data} rw shared:1 - ext4 /dev/b rw\n"
        f"23 1 0:4 / {data} rw shared:2 - nfs4 server:/home rw\n"
        f"24 1 0:5 / {tmp_path}/a\\040b rw - xfs /dev/c rw\n"
    )
    (tmp_path / "a b").mkdir()
    monkeypatch.setattr(folder, "_MOUNTS", table)

    findings = look(bench)

    assert folder.filesystem(Path("/somewhere")) == "ext4"
    assert folder.filesystem(tmp_path / "a b" / "c") == "xfs"
    assert ("file system" in findings) == (bench.steering.settings.database == "")
    if "file system" in findings:
        assert "(nfs4)" in findings["file system"].seen


@pytest.mark.parametrize(("free", "verdict"), [(2**40, Verdict.OK), (2**29, Verdict.WARNING), (2**20, Verdict.WRONG)])
def test_a_full_disk_is_seen_coming(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, verdict: Verdict
) -> None:
    """Little room is a warning, none is wrong."""
    usage = type(shutil.disk_usage(tmp_path))
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage(2**41, 2**41 - free, free))

    found = {finding.check: finding for finding in folder.examine(tmp_path, None)}

    assert found["free space"].verdict is verdict


@pytest.mark.usefixtures("data")
@pytest.mark.parametrize(
    ("revision", "verdict", "words"),
    [("0005", Verdict.WARNING, "and this program needs"), ("0999", Verdict.WRONG, "newer gridtune")],
)
def test_another_revision_of_the_schema_is_told_of(bench: Bench, revision: str, verdict: Verdict, words: str) -> None:
    """An older one is brought up to date by the next start; a newer one is not for this program."""
    with bench.steering.database.write() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = :revision"), {"revision": revision})

    finding = look(bench)["schema"]

    assert (finding.verdict, words in finding.seen) == (verdict, True)


def test_a_database_without_tables_is_fine(postgres: Postgres, tmp_path: Path) -> None:
    """The first start makes them, if the user may."""
    url = postgres.new_database()
    tmp_path.chmod(0o700)
    settings = Settings.from_environment({}, data=tmp_path, database=url)

    findings = {finding.check: finding for finding in examine(settings, running=None, public=None)}

    assert only_trouble(findings) == {}
    assert findings["schema"].seen == "none yet; the first start makes the tables"


def test_a_user_who_may_make_no_tables_is_told(postgres: Postgres, tmp_path: Path) -> None:
    """Before the first start fails on it; the limit of the user's connections is seen as well."""
    url = postgres.new_database()
    name = url.rpartition("/")[2]
    postgres.query(f"CREATE ROLE u{name} LOGIN PASSWORD 'pw' CONNECTION LIMIT 5")
    mine = url.replace(f"gridtune:{postgres.password}@", f"u{name}:pw@")
    postgres.query("REVOKE CREATE ON SCHEMA public FROM PUBLIC", url)
    settings = Settings.from_environment({}, data=tmp_path, database=mine)

    findings = {finding.check: finding for finding in examine(settings, running=None, public=None)}

    assert (findings["schema"].verdict, "GRANT CREATE" in findings["schema"].advice) == (Verdict.WRONG, True)
    assert findings["connections"].seen == "5 are to be had: enough for 0 processes with up to 12 each"


def test_a_database_that_is_away_is_told_of_without_its_password(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither that of the URL nor one among its options is shown, nor the secret of the store."""
    monkeypatch.setenv("GRIDTUNE_STEERING_DATABASE", "postgresql://ann:hidden1@127.0.0.1:1/tune?password=hidden2")
    monkeypatch.setenv("GRIDTUNE_STEERING_OBJECT_STORE", "s3://b/?endpoint=http://127.0.0.1:1")
    monkeypatch.setenv("GRIDTUNE_STEERING_S3_KEY_ID", "me")
    monkeypatch.setenv("GRIDTUNE_STEERING_S3_SECRET", "hidden3")

    code = main(["doctor", "--data", str(tmp_path)])

    printed = capsys.readouterr()
    assert code == 1
    assert "wrong    database        PostgreSQL, ann@127.0.0.1:1/tune cannot be used: " in printed.out
    assert "wrong    object store" in printed.out
    assert "hidden" not in printed.out + printed.err


def test_commits_that_are_not_durable_are_a_warning(postgres: Postgres, tmp_path: Path) -> None:
    """What was acknowledged would be lost in a crash."""
    url = postgres.new_service_database()
    postgres.query(f'ALTER DATABASE "{url.rpartition("/")[2]}" SET synchronous_commit = off')
    settings = Settings.from_environment({}, data=tmp_path, database=url)

    findings = {finding.check: finding for finding in examine(settings, running=None, public=None)}

    assert findings["durability"].verdict is Verdict.WARNING
    assert findings["durability"].seen == "synchronous_commit is off"


def test_a_pool_that_is_deaf_is_found_out(postgres: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that another client gets after LISTEN hears nothing, as in PgBouncer's transaction mode."""
    listen = doorbell.PostgresListener._connect  # noqa: SLF001 - the pool's part

    def pooled(listener: doorbell.PostgresListener) -> psycopg.Connection:
        connection = listen(listener)
        connection.execute("UNLISTEN *")
        return connection

    monkeypatch.setattr(doorbell.PostgresListener, "_connect", pooled)
    settings = Settings.from_environment({}, data=tmp_path, database=postgres.new_service_database())

    findings = {finding.check: finding for finding in examine(settings, running=None, public=None)}

    assert (findings["rings"].verdict, "PgBouncer" in findings["rings"].advice) == (Verdict.WRONG, True)


def test_a_bucket_is_tried_out(ceph: Ceph, tmp_path: Path) -> None:
    """Written, fetched from its signed address as agents do, deleted; and its clock is looked at."""
    names = {"aws_access_key_id": ceph.key_id, "aws_secret_access_key": ceph.secret, "region_name": "us-east-1"}
    boto3.client("s3", endpoint_url=ceph.endpoint, **names).create_bucket(Bucket="doctor")
    settings = Settings.from_environment(
        {},
        data=tmp_path,
        object_store=f"s3://doctor/here?endpoint={ceph.endpoint}&path_style=true",
        s3_key_id=ceph.key_id,
        s3_secret=ceph.secret,
    )

    findings = {finding.check: finding for finding in examine(settings, running=None, public=None)}

    assert (findings["object store"].verdict, findings["addresses"].verdict) == (Verdict.OK, Verdict.OK)
    assert findings["addresses"].seen == f"an object was fetched from {ceph.endpoint}"
    assert findings["store clock"].verdict is Verdict.OK


@pytest.mark.parametrize(
    ("ahead", "verdict", "words"),
    [
        (0.3, Verdict.OK, "within 0.5 s"),
        (-4.0, Verdict.OK, "4.0s behind"),
        (30.0, Verdict.WARNING, "30s ahead of"),
        (-90.0, Verdict.WRONG, "1m30s behind"),
    ],
)
def test_clocks_are_compared(ahead: float, verdict: Verdict, words: str) -> None:
    """A little apart is fine, since only what is longer is measured by them."""
    finding = about_clocks("clock", ahead, blur=0.5, tolerable=60.0)

    assert (finding.verdict, words in finding.seen) == (verdict, True)


# --- the public address


@contextlib.contextmanager
def site(
    headers: dict[str, str], *, status: int = 200, certificate: Path | None = None, body: object = None
) -> Iterator[str]:
    """Something that answers every request alike, with TLS if there is a certificate; its URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            said = json.dumps(body or {"status": "ok", "version": __version__, "checks": {}}).encode()
            self.send_response_only(status)
            for name, value in {"Content-Length": str(len(said)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(said)

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"{'https' if certificate else 'http'}://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def date(seconds_ahead: float = 0.0) -> str:
    """What a clock says that is so far ahead, as a header."""
    return format_datetime(datetime.now(UTC) + timedelta(seconds=seconds_ahead), usegmt=True)


def make_certificate(path: Path, days: int) -> Path:
    """A certificate for this machine that nobody has signed."""
    words = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1", "-days", str(days)]
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", str(path)]
    made = subprocess.run(["openssl", "req", "-x509", *key, *words], capture_output=True, text=True, check=True)
    path.write_text(path.read_text() + made.stdout)
    return path


def visit(url: str, ca: Path | None = None) -> dict[str, Finding]:
    """What is found at an address."""
    return {finding.check: finding for finding in address.examine(Site(url, str(ca) if ca else None))}


def test_a_service_behind_tls_is_looked_at(tmp_path: Path) -> None:
    """Trusted by the authority that was named, good for days to come, of the same protocol, and on time."""
    certificate = make_certificate(tmp_path / "tls.pem", 90)
    with site({PROTOCOL_HEADER: "1", "Date": date()}, certificate=certificate) as url:
        findings = visit(url, certificate)

    assert only_trouble(findings) == {}
    assert findings["certificate"].seen in {"trusted, good for 89 more days", "trusted, good for 90 more days"}
    assert findings["address"].seen == f"{url} is ready: gridtune {__version__}, protocol 1"
    assert "address clock" in findings


def test_a_certificate_that_nobody_trusts_is_wrong(tmp_path: Path) -> None:
    """And nothing is sent there."""
    with site({}, certificate=make_certificate(tmp_path / "tls.pem", 90)) as url:
        findings = visit(url)

    assert only_trouble(findings) == {"certificate": Verdict.WRONG}
    assert findings["certificate"].seen == "not trusted: self-signed certificate"


def test_a_certificate_that_ends_soon_is_a_warning(tmp_path: Path) -> None:
    """There is time to renew it."""
    certificate = make_certificate(tmp_path / "tls.pem", 9)
    with site({PROTOCOL_HEADER: "1"}, certificate=certificate) as url:
        assert visit(url, certificate)["certificate"].verdict is Verdict.WARNING


@pytest.mark.parametrize(
    ("headers", "more", "words"),
    [
        ({}, {}, "it is no gridtune service"),
        ({PROTOCOL_HEADER: "2"}, {}, "speaks protocol 2"),
        ({"Location": "https://other.example.org/api/v1/readyz"}, {"status": 301}, "to https://other.example.org"),
        (
            {PROTOCOL_HEADER: "1"},
            {"status": 503, "body": {"status": "unavailable", "version": "1", "checks": {"store": "StoreAway"}}},
            "is not ready (store: StoreAway)",
        ),
    ],
    ids=["a portal", "another protocol", "a redirection", "not ready"],
)
def test_what_is_no_service_for_agents_is_wrong(headers: dict[str, str], more: dict[str, int], words: str) -> None:
    """Each with its own words."""
    with site(headers, **more) as url:  # type: ignore[arg-type]  # by the names of its arguments
        finding = visit(url)["address"]

    assert (finding.verdict, words in finding.seen) == (Verdict.WRONG, True)


def test_the_clock_of_the_other_side_is_looked_at() -> None:
    """By its Date, which every answer has."""
    with site({PROTOCOL_HEADER: "1", "Date": date(3600)}) as url:
        finding = visit(url)["address clock"]

    assert (finding.verdict, "ahead of this machine's" in finding.seen) == (Verdict.WRONG, True)


def test_nobody_there_is_wrong() -> None:
    """A name that is not known, or a port that nobody listens on."""
    assert visit("http://127.0.0.1:1")["address"].verdict is Verdict.WRONG
    assert visit("ftp://127.0.0.1")["address"].verdict is Verdict.WRONG


# --- how it looks


def test_lines_fit_into_a_terminal() -> None:
    """Columns are aligned, long words are left in one piece, and what to do stands below what was seen."""
    finding = Finding("data folder", Verdict.WARNING, "/srv/gridtune is open to others " * 3, "chmod 700 /srv/gridtune")

    lines = list(doctor.lines(finding, Style(), 80))

    assert lines[0].startswith("warning  data folder     /srv/gridtune is open")
    assert all(line.startswith(" " * 25) for line in lines[1:])
    assert lines[-1] == " " * 25 + "→ chmod 700 /srv/gridtune"
    assert max(map(len, lines)) <= 80


def test_colours_are_for_terminals_alone() -> None:
    """A pipe gets none."""
    finding = Finding("schema", Verdict.OK, "up to date")

    assert list(doctor.lines(finding, Style(), None)) == ["ok       schema          up to date"]
    assert "".join(doctor.lines(finding, Style(colour=True), None)).startswith("\x1b[32mok")


def test_a_file_that_is_no_database_is_told_of(tmp_path: Path) -> None:
    """By what SQLite says of it."""
    (tmp_path / "gridtune.db").write_bytes(b"no database" * 200)
    settings = Settings.from_environment({}, data=tmp_path)

    findings = {finding.check: finding for finding in examine(settings, running=None, public=None)}

    assert (findings["database"].verdict, "not a database" in findings["database"].seen) == (Verdict.WRONG, True)
