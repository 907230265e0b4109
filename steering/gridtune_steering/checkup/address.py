"""The service's public address, as agents find it: reachable, trusted, of the right kind, and on time."""

from __future__ import annotations

import ipaddress
import json
import os
import socket
import ssl
import time
from collections.abc import Iterator
from typing import Final
from urllib.parse import urlsplit

import certifi
import requests

from gridtune_common import __version__, protocol
from gridtune_common.client import reason_of
from gridtune_steering.checkup import web
from gridtune_steering.checkup.finding import Finding, about_clocks, ok, warning, wrong
from gridtune_steering.checkup.web import Answer, Site

_CHECK: Final = "address"
#: A certificate that ends within so many days is to be renewed.
_DAYS: Final = 21
#: Deadlines of leases are told as durations, so that clocks matter little to agents; signed addresses by time.
_TOLERABLE: Final = 60.0
_PATIENCE: Final = 10.0


def examine(site: Site) -> Iterator[Finding]:
    """What agents would find at a base URL."""
    address = urlsplit(site.url)
    if address.scheme not in {"http", "https"} or not address.hostname:
        yield wrong(_CHECK, f"{site.url} is no address", "give --url https://HOST")
        return
    if address.scheme == "https":
        yield _about_certificate(site, address.hostname, address.port or 443)
    elif not _is_loopback(address.hostname):
        yield warning("certificate", "none: the address has no TLS, and tokens can be read on their way", _TLS)
    try:
        answer = web.fetch(f"{site.url}/api/v1/readyz", site.ca)
    except requests.exceptions.SSLError:
        return  # the certificate was told of
    except requests.RequestException as error:
        advice = "is the service started, its proxy, and its name known here?"
        yield wrong(_CHECK, f"{site.url} cannot be reached: {reason_of(error)}", advice)
        return
    yield _about_answer(site, answer)
    if answer.ahead is not None:
        yield about_clocks("address clock", answer.ahead, blur=answer.blur, tolerable=_TOLERABLE)


_TLS: Final = "put a proxy with TLS before it, see docs/operating.md"


def _about_answer(site: Site, answer: Answer) -> Finding:
    spoken = answer.headers.get(protocol.PROTOCOL_HEADER)
    if 300 <= answer.status < 400:
        there = answer.headers.get("Location", "").partition("/api/v1/")[0]
        return wrong(_CHECK, f"{site.url} sends callers on to {there}", "give agents that address instead")
    if spoken is None:
        seen = f"{site.url} answers with status {answer.status}, but it is no gridtune service"
        return wrong(_CHECK, seen, "does the proxy pass /api/v1/ on to the service?")
    if spoken != str(protocol.PROTOCOL_VERSION):
        seen = f"{site.url} speaks protocol {spoken}, and this program {protocol.PROTOCOL_VERSION}"
        return wrong(_CHECK, seen, "bring service and agents to the same version")
    health = _health(answer)
    troubles = [f"{name}: {state}" for name, state in health.checks.items() if state != "ok"]
    if answer.status != 200 or troubles:
        seen = f"{site.url} is not ready ({', '.join(troubles) or f'status {answer.status}'})"
        return wrong(_CHECK, seen, "the service's log has the rest")
    if health.version != __version__:
        seen = f"{site.url} runs gridtune {health.version}, and this is {__version__}"
        return warning(_CHECK, seen, "restart the service, or ask the program that it is started from")
    return ok(_CHECK, f"{site.url} is ready: gridtune {health.version}, protocol {spoken}")


def _health(answer: Answer) -> protocol.Health:
    try:
        said = json.loads(answer.content)
        return protocol.Health(str(said["status"]), str(said["version"]), dict(said.get("checks", {})))
    except (ValueError, KeyError, TypeError):
        return protocol.Health("", "")


def _about_certificate(site: Site, host: str, port: int) -> Finding:
    """Trusted by what agents trust by themselves: the bundle of requests, unless they are told another one."""
    bundle = site.ca or os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE") or certifi.where()
    try:
        context = ssl.create_default_context(cafile=bundle)
        with socket.create_connection((host, port), _PATIENCE) as plain:
            with context.wrap_socket(plain, server_hostname=host) as secured:
                ends = dict(secured.getpeercert() or {}).get("notAfter", "")
    except ssl.SSLCertVerificationError as error:
        advice = "give its authority by --ca FILE, here and to agents, or get another certificate"
        return wrong("certificate", f"not trusted: {error.verify_message.rstrip('.')}", advice)
    except (OSError, ValueError) as error:
        return wrong("certificate", f"no TLS with {host} port {port}: {error}", "is this the port of the proxy?")
    days = int((ssl.cert_time_to_seconds(str(ends)) - time.time()) // 86_400)
    seen = f"trusted, good for {days} more days"
    return ok("certificate", seen) if days >= _DAYS else warning("certificate", seen, "renew it")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
