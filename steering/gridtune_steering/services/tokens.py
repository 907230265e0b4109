"""Tokens: who holds which, and what they open."""

from __future__ import annotations

import hmac
import re
from datetime import datetime, timedelta

from sqlalchemy.engine import Connection

from gridtune_common.errors import Flaw
from gridtune_common.protocol import CreatedToken, CreateToken, Identity, Scope, Token, TokenList
from gridtune_steering.bookkeeping import events, tokens
from gridtune_steering.bookkeeping.schema import Record
from gridtune_steering.identity import secrets
from gridtune_steering.services.access import Caller, visible_task
from gridtune_steering.services.errors import NotAllowed, NotAuthenticated, NotFound, Unusable
from gridtune_steering.services.idempotency import once
from gridtune_steering.services.steering import Steering
from gridtune_steering.services.times import iso

#: The service's own hand in the audit log.
SERVICE = "gridtune"
_LONGEST_LIFETIME = timedelta(days=3650)
#: No slash: the service's own hands in the audit log have one.
_USER = re.compile(r"[A-Za-z0-9._@-]{1,100}")


def authenticate(steering: Steering, secret: str) -> Caller:
    """Find out who holds this secret, as the database said it a few seconds ago at most.

    Raises:
        NotAuthenticated: Nobody, or the token is expired or revoked.
    """
    digest, now = secrets.secret_hash(secret), steering.clock()

    def read() -> Record | None:
        with steering.database.read() as connection:
            return tokens.find_by_hash(connection, digest)

    lifetime = timedelta(seconds=steering.settings.token_cache_seconds)
    row = steering.token_cache.find(digest, read, now=now, lifetime=lifetime)
    if row is None:
        raise NotAuthenticated("the token is not known here")
    if row.revoked_at is not None:
        raise NotAuthenticated("the token was revoked")
    if row.expires_at is not None and row.expires_at <= now:
        raise NotAuthenticated(f"the token expired at {iso(row.expires_at)}")
    return Caller(user=row.user, scope=Scope(row.scope), token=row.id, task=row.task_id, expires_at=row.expires_at)


def is_for_metrics(steering: Steering, secret: str) -> bool:
    """Whether this is the secret that opens the metrics and nothing else; it takes the same time, right or wrong."""
    known = steering.settings.metrics_token.encode()
    return bool(known) and hmac.compare_digest(known, secret.encode())


def ensure_operator(steering: Steering) -> None:
    """On first start, make the operator's token and leave its secret in the data folder, for its owner's eyes alone."""
    path = steering.settings.data / "operator.token"
    if path.exists() and _is_known(steering, path.read_text().strip()):
        return
    now, token = steering.clock(), secrets.new_id()
    secret = secrets.token_secret(_key(steering), token)
    with steering.database.write() as connection:
        _insert(
            connection,
            token,
            secret,
            user="operator",
            scope=Scope.OPERATOR,
            name="bootstrap",
            now=now,
            actor=SERVICE,
        )
        secrets.write_private(path, secret)


def _is_known(steering: Steering, secret: str) -> bool:
    """Whether a secret opens anything; the database may have been replaced beside its file."""
    try:
        authenticate(steering, secret)
    except NotAuthenticated:
        return False
    return True


def create(steering: Steering, caller: Caller, message: CreateToken) -> CreatedToken:
    """Make a token for the caller, or, as an operator, for anyone.

    Raises:
        NotAllowed: The caller may not give away so much.
        NotFound: No such task.
        Unusable: The request contradicts itself.
    """
    now = steering.clock()
    with steering.database.write() as connection:

        def effect() -> Token:
            return _create(steering, connection, caller, message, now)

        token = once(connection, caller, "create token", message, Token, effect, now=now)
    return CreatedToken(token=token, secret=secrets.token_secret(_key(steering), token.id))


def _create(steering: Steering, connection: Connection, caller: Caller, message: CreateToken, now: datetime) -> Token:
    if caller.scope is Scope.TASK:
        raise NotAllowed("this token may evaluate a task's points, and nothing else")
    user = message.user or caller.user
    if not caller.sees_all and (message.scope is Scope.OPERATOR or user != caller.user):
        raise NotAllowed("only operators make tokens for others, or for operators")
    if not _USER.fullmatch(user):
        flaw = Flaw("user", f"{user[:100]!r} is no user name; write letters, digits and . _ @ -, at most 100")
        raise Unusable("the token's user cannot be used", [flaw])
    task = _task_of(connection, caller, message)
    token = secrets.new_id()
    _insert(
        connection,
        token,
        secrets.token_secret(_key(steering), token),
        user=user,
        scope=message.scope,
        name=message.name,
        task=task,
        expires_at=_expiry(caller, message.lifetime_seconds, now),
        now=now,
        actor=caller.user,
    )
    row = tokens.find(connection, token)
    if row is None:
        raise NotFound("token", token)
    return _token(row)


def _task_of(connection: Connection, caller: Caller, message: CreateToken) -> str | None:
    if (message.scope is Scope.TASK) != (message.task is not None):
        flaw = Flaw("task", "name the task for scope 'task', and leave it out for other scopes")
        raise Unusable("the token's scope and task do not fit", [flaw])
    return None if message.task is None else str(visible_task(connection, caller, message.task).id)


def _expiry(caller: Caller, lifetime: float | None, now: datetime) -> datetime | None:
    """When the token ends: never later than the one that made it."""
    if lifetime is None:
        return caller.expires_at
    if not 0 < lifetime <= _LONGEST_LIFETIME.total_seconds():
        limit = int(_LONGEST_LIFETIME.total_seconds())
        flaw = Flaw("lifetime_seconds", f"{lifetime:g} is out of range: above 0 and at most {limit}")
        raise Unusable("the token's lifetime cannot be used", [flaw])
    end = now + timedelta(seconds=lifetime)
    return end if caller.expires_at is None else min(end, caller.expires_at)


def _insert(
    connection: Connection,
    token: str,
    secret: str,
    *,
    user: str,
    scope: Scope,
    name: str,
    now: datetime,
    actor: str,
    task: str | None = None,
    expires_at: datetime | None = None,
) -> None:
    tokens.insert(
        connection,
        id=token,
        hash=secrets.secret_hash(secret),
        name=name,
        user=user,
        scope=scope.value,
        task_id=task,
        created_at=now,
        expires_at=expires_at,
    )
    details = {"token": token, "user": user, "scope": scope.value}
    events.add(connection, at=now, actor=actor, kind="token.created", task=task, details=details)


def listing(steering: Steering, caller: Caller) -> TokenList:
    """The caller's tokens; an operator sees all."""
    with steering.database.read() as connection:
        rows = tokens.of_user(connection, None if caller.sees_all else caller.user)
    return TokenList(items=[_token(row) for row in rows])


def revoke(steering: Steering, caller: Caller, token: str) -> None:
    """Make one of the caller's tokens useless; an operator revokes any. Doing it again changes nothing.

    Raises:
        NotFound: No such token, or it is somebody else's.
    """
    now = steering.clock()
    with steering.database.write() as connection:
        row = tokens.find(connection, token)
        if row is None or not (caller.sees_all or row.user == caller.user):
            raise NotFound("token", token)
        if row.revoked_at is None:
            tokens.revoke(connection, token, now=now)
            events.add(connection, at=now, actor=caller.user, kind="token.revoked", details={"token": token})
    steering.token_cache.forget(token)


def identity(caller: Caller) -> Identity:
    """Who the caller is to the service."""
    return Identity(user=caller.user, scope=caller.scope, token=caller.token, task=caller.task)


def _token(row: Record) -> Token:
    return Token(
        id=row.id,
        name=row.name,
        user=row.user,
        scope=Scope(row.scope),
        created_at=iso(row.created_at),
        task=row.task_id,
        expires_at=iso(row.expires_at),
        revoked_at=iso(row.revoked_at),
    )


def _key(steering: Steering) -> bytes:
    return secrets.service_key(steering.settings.data / "service.key")
