"""The keys that tokens are signed with (Ed25519), newest first, in a file that only its owner can read. One that
another took over from stays good until the last token signed with it has expired.
"""

import hashlib
import os
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path

import msgspec
import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

log = structlog.get_logger(__name__)


class SigningKey(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """One key; `secret` is its private half. `retired_at` (ns) is when another one took over."""

    secret: bytes
    created_at: int
    retired_at: int | None = None

    def __repr__(self) -> str:
        return f"SigningKey({self.kid})"

    @cached_property
    def private(self) -> Ed25519PrivateKey:
        return Ed25519PrivateKey.from_private_bytes(self.secret)

    @cached_property
    def public(self) -> bytes:
        return self.private.public_key().public_bytes_raw()

    @cached_property
    def kid(self) -> str:
        """What a token says it is signed with."""
        return hashlib.sha256(self.public).hexdigest()[:16]


def new_key(now: int) -> SigningKey:
    return SigningKey(secret=Ed25519PrivateKey.generate().private_bytes_raw(), created_at=now)


def rotated(keys: Iterable[SigningKey], now: int, kept_ns: int) -> list[SigningKey]:
    """A new key, then those before it: each is kept for `kept_ns` after it was retired."""
    old = [key if key.retired_at is not None else msgspec.structs.replace(key, retired_at=now) for key in keys]
    return [new_key(now), *(key for key in old if key.retired_at is not None and key.retired_at + kept_ns > now)]


def read_keys(path: Path, now: int) -> list[SigningKey]:
    """The keys in that file; a new one where there is none, or the file is damaged: then it is set aside. OSError."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if path.exists():
        try:
            if keys := msgspec.json.decode(path.read_bytes(), type=list[SigningKey]):
                assert all(key.kid for key in keys)
                return keys
        except ValueError:
            path.replace(path.with_suffix(".damaged"))
            log.error("the signing keys were damaged and are set aside: all have to sign in", path=str(path))
    keys = [new_key(now)]
    write_keys(path, keys)
    return keys


def write_keys(path: Path, keys: Sequence[SigningKey]) -> None:
    """The file is there whole or not at all. OSError."""
    new = path.with_suffix(".new")
    new.unlink(missing_ok=True)
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(msgspec.json.format(msgspec.json.encode(list(keys))))
        file.flush()
        os.fsync(descriptor)
    new.replace(path)
