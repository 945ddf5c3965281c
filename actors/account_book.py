"""Who may do what: users, keys and sessions of an instance, as their log tells them. Pure: a decision gives the records
to write down, which count once they are applied; the time is passed in.

A session begins with a password and goes on by refresh tokens, each good for one use. One that comes back after its use
was copied by somebody: whoever has the newer one may be the thief, so the session ends for both.
"""

import re
from collections import defaultdict
from collections.abc import Iterable
from typing import Any, Final

import msgspec

from actors.account_tokens import BadToken, Claims
from config import SettingsError
from storage.users import (
    ROLES,
    ApiKey,
    KeyRemoved,
    Record,
    Role,
    Session,
    SessionEnded,
    User,
    UserRemoved,
)

#: Of a user at the same time; the one that would end first makes room.
MOST_SESSIONS: Final = 50
SHORTEST_PASSWORD: Final = 8
#: Hashing takes longer for longer ones.
LONGEST_PASSWORD: Final = 256
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{2,63}")
_EMAIL: Final = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9](?:[A-Za-z0-9.-]{0,180}[A-Za-z0-9])?")
_KEY_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._@+-]{0,63}")
#: What the instance's own token is called; nobody else.
INSTANCE: Final = "instance"


class AccountError(SettingsError):
    """A user, password or key that cannot be; the message is one line for the user."""


class UnknownAccount(AccountError):
    """There is no user or key of that name."""


class Refused(AccountError):
    """Who asks has not proven who they are."""


class NotNow(AccountError):
    """It may go well later, in so many seconds: there were too many attempts, or the disk takes nothing."""

    def __init__(self, said: str, retry_after_s: int = 1, too_many: bool = False) -> None:
        super().__init__(said, retry_after_s, too_many)

    def __str__(self) -> str:
        return str(self.args[0])

    @property
    def retry_after_s(self) -> int:
        return int(self.args[1])

    @property
    def too_many(self) -> bool:
        return bool(self.args[2])


class Told(msgspec.Struct, frozen=True):
    """What who checks tokens and keys has to know of a user."""

    name: str
    email: str | None
    role: Role


class AccountBook:
    """Everything the records say. At most `most_users`, with `most_keys` each; access tokens are good for `access_ns`
    after the session they belong to has ended, where nobody knows that."""

    def __init__(self, records: Iterable[Record], most_users: int, most_keys: int, access_ns: int) -> None:
        self._most_users, self._most_keys, self._access_ns = most_users, most_keys, access_ns
        self._users: dict[str, User] = {}
        self._by_name: dict[str, str] = {}
        self._keys: dict[str, ApiKey] = {}
        self._sessions: dict[str, Session] = {}
        #: By user: its sessions.
        self._own: defaultdict[str, dict[str, None]] = defaultdict(dict)
        #: When each can be forgotten.
        self._ended: dict[str, int] = {}
        #: Users that were removed, as far back as the log goes.
        self.removed: list[User] = []
        for record in records:
            self.apply(record)

    @property
    def users(self) -> list[User]:
        """By name."""
        return sorted(self._users.values(), key=lambda user: user.name.lower())

    @property
    def keys(self) -> list[ApiKey]:
        return sorted(self._keys.values(), key=lambda key: key.created_at)

    @property
    def sessions(self) -> int:
        return len(self._sessions)

    def told(self) -> dict[str, Told]:
        return {user.user_id: Told(user.name, user.email, user.role) for user in self._users.values()}

    def ended(self, now: int) -> list[str]:
        """Sessions of which tokens may be about that have not expired."""
        return [session_id for session_id, forgotten_at in self._ended.items() if forgotten_at > now]

    def records(self, now: int) -> list[Record]:
        """What a log has to hold for all this, without what has expired."""
        sessions = [session for session in self._sessions.values() if session.expires_at > now]
        ended = [SessionEnded(one, at) for one, at in self._ended.items() if at > now]
        return [*self._users.values(), *self._keys.values(), *sessions, *ended]

    def apply(self, record: Record) -> None:
        match record:
            case User():
                if before := self._users.get(record.user_id):
                    del self._by_name[before.name.lower()]
                self._users[record.user_id] = record
                self._by_name[record.name.lower()] = record.user_id
            case UserRemoved(user_id):
                if user := self._users.pop(user_id, None):
                    del self._by_name[user.name.lower()]
                    self.removed.append(user)
                self._keys = {key_id: key for key_id, key in self._keys.items() if key.user_id != user_id}
                for session_id in self._own.pop(user_id, {}):
                    self._sessions.pop(session_id, None)
            case ApiKey():
                self._keys[record.key_id] = record
            case KeyRemoved(key_id):
                self._keys.pop(key_id, None)
            case Session():
                self._sessions[record.session_id] = record
                self._own[record.user_id][record.session_id] = None
            case SessionEnded(session_id, forgotten_at):
                if session := self._sessions.pop(session_id, None):
                    self._own[session.user_id].pop(session_id, None)
                self._ended[session_id] = forgotten_at

    def forget(self, now: int) -> None:
        """Drop what has expired."""
        self.removed.clear()
        self._ended = {session_id: at for session_id, at in self._ended.items() if at > now}
        for session in [session for session in self._sessions.values() if session.expires_at <= now]:
            del self._sessions[session.session_id]
            self._own[session.user_id].pop(session.session_id, None)

    def find(self, name: str) -> User | None:
        """Upper and lower case are the same."""
        return self._users.get(self._by_name.get(name.lower(), ""))

    def user(self, name: str) -> User:
        if found := self.find(name):
            return found
        raise UnknownAccount(f"there is no user called {name[:64]!r}; rayfeed user list shows them")

    def by_id(self, user_id: str) -> User:
        if found := self._users.get(user_id):
            return found
        raise Refused("This user is no longer there.")

    def new_user(self, given: Any, user_id: str, now: int) -> User:
        """A user without a password yet, of `name`, `role` and `email`. `AccountError` says what does not fit."""
        name, role, email = given.get("name"), given.get("role"), given.get("email")
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise AccountError("a name has 3 to 64 letters, digits or . _ @ + -, and begins with a letter or digit")
        if name.lower() == INSTANCE:
            raise AccountError(f"{INSTANCE} is what the instance's own token is called; choose another name")
        check_role(role)
        if email is not None and not (isinstance(email, str) and _EMAIL.fullmatch(email)):
            raise AccountError("email must be an address like name@example.org")
        if self.find(name):
            raise AccountError(f"there is a user called {name} already")
        if len(self._users) >= self._most_users:
            raise AccountError(f"there are {self._most_users} users, and no more may be (setting security.max_users)")
        return User(user_id=user_id, name=name, email=email, role=role, created_at=now, password_hash="")

    def new_key(self, user: User, name: str, role: Role | None, days: int | None, now: int, **own: str) -> ApiKey:
        """`own`: its `key_id` and `digest`."""
        if not _KEY_NAME.fullmatch(name):
            raise AccountError("a key's name has 1 to 64 letters, digits, spaces or . _ @ + -")
        if role is not None and ROLES.index(check_role(role)) < ROLES.index(user.role):
            raise AccountError(f"{user.name} is {user.role}: a key cannot allow more than that")
        if days is not None and not 1 <= days <= 3650:
            raise AccountError("a key is good for 1 to 3650 days")
        if sum(key.user_id == user.user_id for key in self._keys.values()) >= self._most_keys:
            most = f"{self._most_keys} keys, and no more may be (setting security.max_keys_per_user)"
            raise AccountError(f"{user.name} has {most}; remove one with: rayfeed key remove")
        expires_at = None if days is None else now + days * 86_400 * 1_000_000_000
        return ApiKey(
            user_id=user.user_id, name=name, role=role or user.role, created_at=now, expires_at=expires_at, **own
        )

    def key(self, key_id: str, owner: str | None = None) -> ApiKey:
        """With `owner` (an id) only one of theirs."""
        found = self._keys.get(key_id)
        if found is None or owner not in (None, found.user_id):
            raise UnknownAccount(f"there is no key {key_id[:64]!r}; rayfeed key list shows them")
        return found

    def begin(self, session: Session, now: int) -> list[Record]:
        """A session of a user, and the end of that which makes room for it."""
        own = [self._sessions[session_id] for session_id in self._own.get(session.user_id, {})]
        too_many = max(0, len(own) - MOST_SESSIONS + 1)
        oldest = sorted(own, key=lambda one: one.expires_at)[:too_many]
        return [session, *(self._end(one.session_id, now) for one in oldest)]

    def goes_on(self, claims: Claims, token_id: str, expires_at: int, now: int) -> Session | SessionEnded:
        """What to write down for a refresh token that is used: that another one (`token_id`) may be used next, or, for
        one that was used before, that the session ends. `BadToken` where there is none any more."""
        session = self._sessions.get(claims.session_id)
        if session is None or session.user_id != claims.user_id or session.expires_at <= now:
            raise BadToken("The session has ended: sign in.")
        if session.token_id != claims.token_id:
            return self._end(session.session_id, now)
        return msgspec.structs.replace(session, token_id=token_id, expires_at=expires_at)

    def end(self, session_id: str, now: int) -> list[Record]:
        return [self._end(session_id, now)] if session_id in self._sessions else []

    def end_all(self, user_id: str, now: int) -> list[Record]:
        """Of a user."""
        return [self._end(session_id, now) for session_id in self._own.get(user_id, {})]

    def _end(self, session_id: str, now: int) -> SessionEnded:
        return SessionEnded(session_id, now + self._access_ns)


def check_role(role: Any) -> Role:
    if role not in ROLES:
        raise AccountError(f"role must be one of: {', '.join(ROLES)}")
    known: Role = role
    return known


def check_password(password: Any, name: str) -> str:
    """A password that may be used; `AccountError` says what it lacks, never what it is."""
    if not isinstance(password, str):
        raise AccountError("password must be a text")
    kinds = {
        "an upper-case letter": str.isupper,
        "a lower-case letter": str.islower,
        "a digit": str.isdigit,
        "another sign": lambda sign: not sign.isalnum(),
    }
    lacks = [kind for kind, is_one in kinds.items() if not any(map(is_one, password))]
    if not SHORTEST_PASSWORD <= len(password) <= LONGEST_PASSWORD:
        lacks.insert(0, f"{SHORTEST_PASSWORD} to {LONGEST_PASSWORD} signs")
    if lacks:
        raise AccountError(f"the password needs {', '.join(lacks)}")
    if name.lower() in password.lower():
        raise AccountError("the password must not hold the name of its user")
    return password
