"""Tokens' secrets.

A secret is derived from the token's id and the service's own key, so that a repeated request for a token gives the same
secret without its being stored anywhere; the database knows its hash alone. 256 bits need no slow hash.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import secrets
from pathlib import Path

#: Lets people and secret scanners see what it is.
_PREFIX = "gridtune_"
_ALPHABET = "23456789abcdefghjkmnpqrstvwxyz"


def new_id(length: int = 8) -> str:
    """A short random name that can be read aloud: no sign looks like another."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(length))


def token_secret(key: bytes, token: str) -> str:
    """The secret of the token with this id."""
    digest = hmac.digest(key, b"token/" + token.encode(), hashlib.sha256)
    return _PREFIX + base64.urlsafe_b64encode(digest).decode().rstrip("=")


def secret_hash(secret: str) -> str:
    """What the database keeps of a secret: its SHA-256 in hex."""
    return hashlib.sha256(secret.encode()).hexdigest()


def service_key(path: Path) -> bytes:
    """The service's key, made on first use and readable by its owner alone."""
    write_private(path, secrets.token_hex(32), replace=False)
    return bytes.fromhex(path.read_text().strip())


def fingerprint(key: bytes) -> str:
    """What can be shown of a service's key."""
    return hashlib.sha256(b"gridtune/fingerprint/" + key).hexdigest()


def write_private(path: Path, text: str, *, replace: bool = True) -> None:
    """Write a file that only its owner can read; whoever looks finds all of it or nothing."""
    draft = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text + "\n")
        file.flush()
        os.fsync(descriptor)
    try:
        if replace:
            draft.replace(path)
        else:
            os.link(draft, path)
    except FileExistsError:
        return  # somebody else was first, and theirs counts
    finally:
        draft.unlink(missing_ok=True)
