"""Create, list and revoke tokens.

A new token is printed once and not kept:

    export GRIDTUNE_TOKEN=$(gridtune token create --task TASK)

A token for a task can evaluate that task's points and nothing else: it is the one that travels to worker
nodes.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path

from gridtune_common.cli import arguments as kinds
from gridtune_common.cli import connection, output, text
from gridtune_common.client import new_request_id
from gridtune_common.errors import ConfigurationError
from gridtune_common.protocol import CreatedToken, CreateToken, Scope, Token, TokenList


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the three things to do, and their arguments."""
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    create = _action(actions, "create", _create, "make a token and print it")
    create.add_argument("--task", metavar="TASK", help="id of the one task whose points it may evaluate")
    create.add_argument("--scope", choices=[scope.value for scope in Scope], help="task with --task, otherwise user")
    create.add_argument("--user", default="", metavar="NAME", help="who acts with it, if not you (operators)")
    create.add_argument("--name", default="", help="what it is for")
    create.add_argument("--lifetime", type=kinds.duration, metavar="TIME", help="such as 12h or 30d; no end if absent")
    create.add_argument("-o", "--output", type=Path, metavar="FILE", help="write it here, for you alone to read")
    _action(actions, "list", _list, "list tokens, without their secrets")
    revoke = _action(actions, "revoke", _revoke, "make a token useless", json=False)
    revoke.add_argument("id", metavar="ID", help="id of the token, as 'gridtune token list' shows it")


def run(arguments: argparse.Namespace) -> int:
    """Do one of the three."""
    return int(arguments.action(arguments))


def _action(
    actions: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    function: Callable[[argparse.Namespace], int],
    explanation: str,
    *,
    json: bool = True,
) -> argparse.ArgumentParser:
    parser = actions.add_parser(name, help=explanation, description=explanation.capitalize() + ".", allow_abbrev=False)
    if json:
        connection.add_json(parser)
    connection.add_arguments(parser)
    parser.set_defaults(action=function)
    return parser


def _create(arguments: argparse.Namespace) -> int:
    scope = _scope(arguments)
    with connection.opened(arguments) as client:
        message = CreateToken(
            request_id=new_request_id(),
            scope=scope,
            name=arguments.name,
            user=arguments.user,
            task=arguments.task,
            lifetime_seconds=arguments.lifetime,
        )
        created = client.create_token(message)
    _hand_over(arguments, created)
    return 0


def _scope(arguments: argparse.Namespace) -> Scope:
    scope = Scope(arguments.scope) if arguments.scope else Scope.TASK if arguments.task else Scope.USER
    if (scope is Scope.TASK) != bool(arguments.task):
        raise ConfigurationError("--scope task and --task TASK belong together")
    return scope


def _hand_over(arguments: argparse.Namespace, created: CreatedToken) -> None:
    token = created.token
    if arguments.output is not None:
        _write_secret(arguments.output, created.secret)
    elif not arguments.json:
        output.say(created.secret)
    if arguments.json:
        output.emit(created if arguments.output is None else token)
    until = f", valid until {text.local(token.expires_at)}" if token.expires_at else ""
    task = f" for task {token.task}" if token.task else ""
    where = f", in {arguments.output}" if arguments.output else ""
    output.note(f"token {token.id}: {token.scope.value}{task}, user {text.one_line(token.user)}{until}{where}")


def _write_secret(path: Path, secret: str) -> None:
    try:
        path.unlink(missing_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secret + "\n")
    except OSError as error:
        raise ConfigurationError(f"cannot write {path}: {error.strerror}") from error


def _list(arguments: argparse.Namespace) -> int:
    with connection.opened(arguments) as client:
        tokens = client.tokens()
    if arguments.json:
        output.emit(TokenList(tokens))
        return 0
    header = ["id", "scope", "user", "task", "created", "expires", "name"]
    rows = [_row(token) for token in tokens]
    width, style = output.width_of(sys.stdout), output.style_of(sys.stdout)
    for line in text.table(header, rows, width=width, style=style) if rows else ["no tokens"]:
        output.say(line)
    return 0


def _row(token: Token) -> list[str]:
    ends = "revoked" if token.revoked_at else text.local(token.expires_at) if token.expires_at else "never"
    created = text.local(token.created_at)
    return [
        token.id,
        token.scope.value,
        text.one_line(token.user),
        token.task or "-",
        created,
        ends,
        token.name,
    ]


def _revoke(arguments: argparse.Namespace) -> int:
    with connection.opened(arguments) as client:
        client.revoke_token(arguments.id)
    output.say(f"token {arguments.id} is revoked")
    return 0
