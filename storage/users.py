"""What must not be forgotten about users: who they are, what they sign in with, their keys and their sessions.

One log (`storage.record_log`) in a folder that only its owner can read; the table `users` in ClickHouse has the same
users without what is secret. Whoever reads the log from the beginning knows the state: the last record counts.
Passwords are there as argon2id hashes, keys as SHA-256 of what their owner has.
"""

from pathlib import Path
from typing import Final, Literal

import msgspec

from storage.record_log import RecordLog

Role = Literal["admin", "user", "readonly"]
#: From the most to the least that one may do.
ROLES: Final[tuple[Role, ...]] = ("admin", "user", "readonly")


class User(msgspec.Struct, frozen=True, kw_only=True, tag="user"):
    """Times are ns since the epoch, UTC."""

    user_id: str
    name: str
    email: str | None
    role: Role
    created_at: int
    password_hash: str

    def __repr__(self) -> str:
        return f"User({self.name!r}, {self.role})"


class UserRemoved(msgspec.Struct, frozen=True, tag="user_removed"):
    """With all keys and sessions."""

    user_id: str


class ApiKey(msgspec.Struct, frozen=True, kw_only=True, tag="key"):
    """It allows what both its own role and that of its user allow, until `expires_at`."""

    key_id: str
    user_id: str
    name: str
    role: Role
    #: SHA-256 of the whole key, hex.
    digest: str
    created_at: int
    expires_at: int | None


class KeyRemoved(msgspec.Struct, frozen=True, tag="key_removed"):
    key_id: str


class Session(msgspec.Struct, frozen=True, kw_only=True, tag="session"):
    """From a sign-in on: the one refresh token that is good for something now, until `expires_at`."""

    session_id: str
    user_id: str
    token_id: str
    expires_at: int


class SessionEnded(msgspec.Struct, frozen=True, tag="session_ended"):
    """None of its tokens is good for anything. At `forgotten_at` the last of them has expired by itself."""

    session_id: str
    forgotten_at: int


Record = User | UserRemoved | ApiKey | KeyRemoved | Session | SessionEnded

_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder(Record).decode


class AccountLog(RecordLog[Record]):
    """The log of an instance in `folder`; one process writes it. OSError when the disk fails."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        super().__init__(folder / "accounts.log", _encode, _decoded)


def weaker(one: Role, other: Role) -> Role:
    """What both allow."""
    return max(one, other, key=ROLES.index)


def _decoded(content: bytes) -> Record | None:
    try:
        record: Record = _decode(content)
    except msgspec.DecodeError:
        return None
    return record
