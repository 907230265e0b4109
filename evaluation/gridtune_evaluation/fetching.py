"""Fetching one input into a folder: over HTTP, from S3 by a signed address or a profile, or by a command of the user's.

Each function is called in a thread of its own, which nobody waits for once its `Halt` was called: it ends as soon as it
looks there, and what it has written so far is removed.
"""

from __future__ import annotations

import hashlib
import importlib
import logging
import os
import re
import shlex
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Callable, Final, Optional, Protocol
from urllib.parse import urlsplit

import requests
import urllib3.exceptions

from gridtune_common import protocol
from gridtune_common.errors import GridtuneError, ServiceError
from gridtune_common.taskfile.command import fill
from gridtune_common.taskfile.data import DataSource
from gridtune_common.units import show_seconds
from gridtune_evaluation.cache import Allowance, DataUnavailable, FetchInterrupted
from gridtune_evaluation.orphans import OrphanGuard
from gridtune_evaluation.outage import backoff, passes
from gridtune_evaluation.transfer import FRESH, REFRESHES, TokenlessSession, proxies_to

_log = logging.getLogger("gridtune.agent")

#: Seconds without a single new byte after which a download is given up.
PATIENCE: Final = 300.0
#: Seconds to connect, and to wait for the next bytes.
_TIMES: Final = (20.0, 60.0)
_CHUNK: Final = 64 * 2**10
_HASHED_AT_ONCE: Final = 2**20
#: Answers below 500 that may be others later.
_LATER: Final = frozenset({408, 425, 429})
#: Answers that say that there is no such rest of a file, but perhaps a whole one.
_OF_ANOTHER_VERSION: Final = frozenset({412, 416})
#: Answers of stores to an address that has expired.
_EXPIRED: Final = frozenset({400, 401, 403})
#: Seconds between SIGTERM and SIGKILL for a command that must end.
_GRACE: Final = 1.0
_LOOK: Final = 0.05
#: Bytes of a command's output that are logged, and that travel with a failure.
_LOGGED: Final = 8192
_TOLD: Final = 500


class Halt:
    """Tells a fetch to end. Safe to share between threads."""

    def __init__(self) -> None:
        self._called = threading.Event()

    def call(self) -> None:
        """Let the fetch end."""
        self._called.set()

    def pause(self, seconds: float) -> None:
        """Sleep, but not into a halt.

        Raises:
            FetchInterrupted: It was called.
        """
        if self._called.wait(seconds):
            raise FetchInterrupted("a fetch was told to end")

    def check(self) -> None:
        """Raise FetchInterrupted if it was called."""
        self.pause(0)


def show_url(url: str) -> str:
    """An address for messages: a query may hold a signature.

    >>> show_url("https://example.org/a.npz?signature=s3cr3t")
    'https://example.org/a.npz'
    """
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


class _Broken(Exception):  # noqa: N818 - named for the fact
    """A transfer broke off.

    Args:
        reason: Why, without the address.
        for_good: To try again is in vain.
        status: Of the answer, if there was one that says no.
    """

    def __init__(self, reason: str, *, for_good: bool, status: int | None = None) -> None:
        super().__init__(reason)
        self.for_good = for_good
        self.status = status


class _Transfer(Protocol):
    """A file on its way, over as many connections as it takes."""

    def go_on(self, file: BinaryIO) -> None:
        """Get what is missing behind the file's position, or raise `_Broken`."""


def _persevere(url: str, target: Path, transfer: _Transfer, halt: Halt, patience: float) -> None:
    """Go on with a transfer until it is whole, or has brought nothing new for too long."""
    since, most, pauses = time.monotonic(), 0, backoff()
    with target.open("wb") as file:
        while True:
            try:
                transfer.go_on(file)
                return
            except _Broken as broken:
                trouble = f"{show_url(url)} cannot be fetched: {broken}"
                if broken.for_good:
                    raise DataUnavailable(trouble) from broken
            if file.tell() > most:
                since, most, pauses = time.monotonic(), file.tell(), backoff()
            _log.info("%s; trying on.", trouble, extra={"action": "fetch_broke"})
            pause = next(pauses)
            if time.monotonic() + pause > since + patience:
                raise DataUnavailable(f"{trouble}; nothing new for {show_seconds(time.monotonic() - since)}")
            halt.pause(pause)


def _begin_again(file: BinaryIO) -> None:
    file.seek(0)
    file.truncate()


# --- HTTP ---------------------------------------------------------------------------------------------------


def fetch_http(
    url: str, target: Path, allowance: Allowance, halt: Halt, patience: float = PATIENCE, *, is_checked: bool = False
) -> None:
    """Download a file; broken connections are taken up where they broke.

    Args:
        url: Where it is.
        target: The file to write.
        allowance: How much may be written.
        halt: Ends it.
        patience: Seconds without a new byte after which it is given up.
        is_checked: A checksum would show if two versions of the file were put together.

    Raises:
        DataUnavailable: The server says no, or brought nothing new for *patience* seconds.
        FetchInterrupted: The halt was called.
        OSError: The disk.
    """
    with requests.Session() as session:
        _persevere(url, target, _Download(session, url, allowance, halt, is_checked), halt, patience)


class _Download:
    """A transfer over HTTP."""

    def __init__(self, session: requests.Session, url: str, allowance: Allowance, halt: Halt, is_checked: bool) -> None:
        self._session = session
        self._url = url
        self._allowance = allowance
        self._halt = halt
        self._is_checked = is_checked
        self._version: str | None = None

    def go_on(self, file: BinaryIO) -> None:
        """Get the rest, or all of it if nothing would tell that the rest is of another version."""
        self._halt.check()
        if self._version is None and not self._is_checked:
            _begin_again(file)
        headers = {"Accept-Encoding": "identity"}
        if file.tell():
            headers["Range"] = f"bytes={file.tell()}-"
        if file.tell() and self._version is not None:
            headers["If-Range"] = self._version
        try:
            with self._get(headers) as response:
                continues = _continues(response, file, self._version)
                if not continues:
                    _begin_again(file)
                response.raise_for_status()
                if response.status_code == 206 and not continues:
                    raise _Broken("it has changed meanwhile", for_good=False)
                self._version = _version(response)
                self._take(response, file)
        except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
            raise _Broken(_reason(error), for_good=_is_for_good(error), status=_status(error)) from error

    def _get(self, headers: dict[str, str]) -> requests.Response:
        return self._session.get(self._url, headers=headers, stream=True, timeout=_TIMES)

    def _take(self, response: requests.Response, file: BinaryIO) -> None:
        length = response.headers.get("Content-Length", "")
        expected = file.tell() + int(length) if length.isdecimal() else None
        if expected is not None:
            self._allowance.need(expected)
        for chunk in iter(lambda: response.raw.read(_CHUNK, decode_content=False), b""):
            self._halt.check()
            file.write(chunk)
            self._allowance.need(file.tell())
        if expected is not None and file.tell() < expected:
            raise requests.ConnectionError("the connection was closed too early")


def _continues(response: requests.Response, file: BinaryIO, version: str | None) -> bool:
    """Whether the answer begins where the file ends; one that is no answer at all takes nothing away."""
    if response.status_code >= 400 and response.status_code != 416:
        return True
    begins = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
    is_rest = response.status_code == 206 and begins is not None and int(begins[1]) == file.tell()
    return is_rest and (version is None or _version(response) in (None, version))  # some servers ignore If-Range


def _version(response: requests.Response) -> str | None:
    """What tells this version of the file from others, for a later `If-Range`."""
    tag = response.headers.get("ETag", "")
    return tag if tag.startswith('"') else response.headers.get("Last-Modified")


def _status(error: Exception) -> int | None:
    return error.response.status_code if isinstance(error, requests.HTTPError) else None


def _is_for_good(error: Exception) -> bool:
    """Whether to try again is in vain."""
    status = _status(error)
    if status is not None:
        return status < 500 and status not in (*_LATER, *_OF_ANOTHER_VERSION)
    if isinstance(error, requests.exceptions.SSLError):
        return "CERTIFICATE_VERIFY_FAILED" in str(error)
    known = (requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema, requests.TooManyRedirects)
    return isinstance(error, known)


def _reason(error: BaseException) -> str:
    """Why, without the address: what libraries say has its query in it."""
    if isinstance(error, requests.HTTPError):
        return f"the server answered {error.response.status_code} {error.response.reason}".rstrip()
    if isinstance(error, requests.exceptions.SSLError):
        return "its certificate cannot be verified"
    causes = list(_causes(error))
    for cause in causes:
        if isinstance(cause, OSError) and cause.strerror and not isinstance(cause, requests.RequestException):
            return cause.strerror
    if any(isinstance(cause, (requests.Timeout, TimeoutError)) for cause in causes):
        return "no answer in time"
    return "the connection broke"


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An error and all that led to it, also where libraries keep it among the arguments."""
    waiting, seen = [error], set[int]()
    while waiting:
        error = waiting.pop(0)
        if id(error) not in seen:
            seen.add(id(error))
            yield error
            below = [error.__cause__, error.__context__, getattr(error, "reason", None), *error.args]
            waiting += [one for one in below if isinstance(one, BaseException)]


# --- S3, by signed addresses --------------------------------------------------------------------------------


@dataclass(frozen=True)
class AddressDesk:
    """Where addresses of objects in S3 are asked for.

    Attributes:
        ask: Gives the address of ``s3://bucket/key``, or raises ServiceError; called from any thread.
        ca: Certificate authorities to trust there; None for the system's.
    """

    ask: Callable[[str], protocol.Download]
    ca: Optional[str] = None


class NoAddress(GridtuneError):  # noqa: N818 - named for the fact
    """The service gives no address for an object."""


def fetch_signed(
    url: str,
    target: Path,
    desk: AddressDesk,
    allowance: Allowance,
    halt: Halt,
    patience: float = PATIENCE,
    *,
    is_checked: bool = False,
) -> None:
    """Download an object of S3 from an address that the service signs, without any credentials.

    Args:
        url: ``s3://bucket/key``.
        target: The file to write.
        desk: Gives the address, and another one when that has expired.
        allowance: How much may be written.
        halt: Ends it.
        patience: Seconds without a new byte after which it is given up.
        is_checked: A checksum would show if two versions of the file were put together.

    Raises:
        NoAddress: The service gives none; nothing was fetched.
        DataUnavailable: The store says no, or brought nothing new for *patience* seconds.
        FetchInterrupted: The halt was called.
        OSError: The disk.
    """
    with TokenlessSession() as session:
        download = _SignedDownload(session, url, desk, allowance, halt, is_checked)
        try:
            _persevere(url, target, download, halt, patience)
        except DataUnavailable as error:
            if download.had_address:
                raise
            raise NoAddress(download.trouble) from error


class _SignedDownload(_Download):
    """A transfer over HTTP from addresses that expire.

    Attributes:
        had_address: Whether there ever was one.
        trouble: Why there is none now.
    """

    def __init__(
        self,
        session: requests.Session,
        url: str,
        desk: AddressDesk,
        allowance: Allowance,
        halt: Halt,
        is_checked: bool,
    ) -> None:
        super().__init__(session, url, allowance, halt, is_checked)
        self._desk = desk
        self._address = ""
        self._fresh_until = 0.0
        self._n_refused = 0
        self.had_address = False
        self.trouble = ""

    def go_on(self, file: BinaryIO) -> None:
        """Get the rest, if need be from another address the next time."""
        before = file.tell()
        try:
            super().go_on(file)
        except ServiceError as error:
            self.trouble = str(error)
            raise _Broken(self.trouble, for_good=not passes(error)) from error
        except _Broken as broken:
            if file.tell() > before:
                self._n_refused = 0
            if broken.status not in _EXPIRED:
                raise
            self._address = ""
            self._n_refused += 1
            reason = f"{broken} at the address that the service signed"
            raise _Broken(reason, for_good=self._n_refused > REFRESHES) from broken

    def _get(self, headers: dict[str, str]) -> requests.Response:
        if not self._address or time.monotonic() >= self._fresh_until:
            given = self._desk.ask(self._url)
            self._address, self._fresh_until = given.url, time.monotonic() + FRESH * given.expires_seconds
            self.had_address = True
        return self._session.get(
            self._address,
            headers=headers,
            stream=True,
            timeout=_TIMES,
            verify=self._desk.ca,
            proxies=proxies_to(self._address),
        )


# --- S3, by the user's profile ------------------------------------------------------------------------------


def fetch_s3(
    url: str, target: Path, allowance: Allowance, halt: Halt, guard: OrphanGuard, patience: float = PATIENCE
) -> None:
    """Get an object with the node's own boto3 or ``aws``, and so with the user's profile.

    Raises:
        DataUnavailable: There is neither, or it could not get it.
        FetchInterrupted: The halt was called.
        OSError: The disk.
    """
    try:
        importlib.import_module("boto3")
    except ImportError:
        if shutil.which("aws") is None:
            fix = "install one of them, or give an https address"
            raise DataUnavailable(f"{url} cannot be fetched: this node has neither boto3 nor aws; {fix}") from None
        words = ["aws", "s3", "cp", "--only-show-errors", url, str(target)]
        run_command(" ".join(map(shlex.quote, words)), target, halt, guard)
    else:
        _persevere(url, target, _ObjectDownload(url, allowance, halt), halt, patience)


class _ObjectDownload:
    """A transfer by boto3."""

    def __init__(self, url: str, allowance: Allowance, halt: Halt) -> None:
        self._bucket, self._key = url.split("/", 3)[2:]
        self._allowance = allowance
        self._halt = halt
        self._version: str | None = None

    def go_on(self, file: BinaryIO) -> None:
        """Get the rest of the same version."""
        boto3, errors = importlib.import_module("boto3"), importlib.import_module("botocore.exceptions")
        rest = {"Range": f"bytes={file.tell()}-", "IfMatch": self._version} if file.tell() else {}
        try:
            found = boto3.session.Session().client("s3").get_object(Bucket=self._bucket, Key=self._key, **rest)
            self._version = found["ETag"]
            self._allowance.need(file.tell() + found["ContentLength"])
            for chunk in found["Body"].iter_chunks(_CHUNK):
                self._halt.check()
                file.write(chunk)
        except errors.ClientError as error:
            status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 500)
            if status in _OF_ANOTHER_VERSION:
                _begin_again(file)
            passes = status >= 500 or status in (*_LATER, *_OF_ANOTHER_VERSION)
            raise _Broken(str(error), for_good=not passes) from error
        except errors.BotoCoreError as error:
            passes = isinstance(error, (errors.HTTPClientError, errors.IncompleteReadError))
            raise _Broken(str(error), for_good=not passes) from error


# --- commands -----------------------------------------------------------------------------------------------


def fetch_by_command(source: DataSource, target: Path, halt: Halt, guard: OrphanGuard) -> Path:
    """Run the user's command and return what it made.

    Raises:
        DataUnavailable: It failed, or made nothing that could be meant.
        FetchInterrupted: The halt was called.
        OSError: It could not be started.
    """
    places = {"target": str(target), "dir": str(target.parent)}
    run_command(fill(source.command or "", places, ()), target, halt, guard)
    return _product(target)


def run_command(command: str, target: Path, halt: Halt, guard: OrphanGuard) -> None:
    """Run a command in the folder of what it makes, and end whatever it has started.

    Raises:
        DataUnavailable: It failed.
        FetchInterrupted: The halt was called.
        OSError: It could not be started.
    """
    log = target.parent.parent / "output.log"
    with log.open("wb") as output:
        leader = subprocess.Popen(
            ["/bin/sh", "-c", command],
            cwd=target.parent,
            env={name: value for name, value in os.environ.items() if not name.startswith("GRIDTUNE_")},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    guard.watch(leader.pid)
    try:
        while not _has_ended(leader):
            halt.pause(_LOOK)
    finally:
        _end(leader)
        guard.forget(leader.pid)
        said = _end_of(log)
        if said:
            _log.info("The command for %s printed:\n%s", target.name, said, extra={"action": "fetch_output"})
    if leader.returncode != 0:
        how = f"exit code {leader.returncode}" if leader.returncode > 0 else f"signal {-leader.returncode}"
        raise DataUnavailable(f"its command failed with {how}: {said[-_TOLD:] or 'it printed nothing'}")


def _end(leader: subprocess.Popen[bytes]) -> None:
    """End whatever is left of the command, politely if it is still under way itself."""
    if not _has_ended(leader):
        _signal(leader, signal.SIGTERM)
        deadline = time.monotonic() + _GRACE
        while not _has_ended(leader) and time.monotonic() < deadline:
            time.sleep(_LOOK)
    _signal(leader, signal.SIGKILL)
    leader.wait()


def _has_ended(leader: subprocess.Popen[bytes]) -> bool:
    """Whether it has; it is not reaped, so that its group can still be signalled."""
    if not hasattr(os, "waitid"):  # macOS before Python 3.13
        return leader.poll() is not None
    return os.waitid(os.P_PID, leader.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _signal(leader: subprocess.Popen[bytes], number: int) -> None:
    try:
        os.killpg(leader.pid, number)
    except (ProcessLookupError, PermissionError):
        pass  # nobody is left


def _end_of(log: Path) -> str:
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - _LOGGED))
            return file.read().decode(errors="replace").strip()
    except FileNotFoundError:
        return ""  # removed, for nobody waits any more


def _product(target: Path) -> Path:
    """The target, or the only file below its folder, as tools with names of their own leave it."""
    if target.is_symlink() or target.exists():
        return target
    found = [Path(parent, file) for parent, _, files in os.walk(target.parent) for file in files]
    if len(found) == 1:
        return found[0]
    made = ", ".join(sorted(str(path.relative_to(target.parent)) for path in found)[:5])
    what = f"several files, but no {target.name}: {made}" if made else "no file"
    raise DataUnavailable(f"its command made {what}; let it write {{target}}")


# --- what arrived -------------------------------------------------------------------------------------------


def flaw_of(path: Path, source: DataSource, halt: Halt) -> str:
    """What is wrong with a file; empty if it is what the task says.

    Raises:
        DataUnavailable: It is a folder, and the task has a checksum or a size.
        FetchInterrupted: The halt was called.
        OSError: It cannot be read.
    """
    if source.sha256 is None and source.size_bytes is None:
        return ""
    if path.is_dir():
        raise DataUnavailable("it is a folder, and checksums and sizes are for files; leave them out")
    size = path.stat().st_size
    if source.size_bytes is not None and size != source.size_bytes:
        return f"it has {size} bytes, not the {source.size_bytes} that the task says"
    found = _sha256(path, halt) if source.sha256 is not None else None
    if found != source.sha256:
        return f"its SHA-256 is {found}, not {source.sha256} as the task says"
    return ""


def _sha256(path: Path, halt: Halt) -> str:
    checksum = hashlib.sha256()
    with path.open("rb") as file:
        for chunk in iter(lambda: file.read(_HASHED_AT_ONCE), b""):
            checksum.update(chunk)
            halt.check()
    return checksum.hexdigest()
