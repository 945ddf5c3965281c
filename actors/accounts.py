"""Accounts: I say who users are. I own their log and the keys that tokens are signed with; whoever answers requests has
a copy of what is needed to check tokens, without secrets, and hears from me at once when that changes. I survive being
killed (the log has what I said), ClickHouse being away (its table of users is a copy) and a disk that takes nothing:
then nobody can sign in or be changed, and whoever is signed in goes on.
"""

import asyncio
import hashlib
import os
import secrets
import time
import unicodedata
import uuid
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, Literal

import msgspec
import structlog
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from actors.account_book import AccountBook, NotNow, Refused, Told, check_password, check_role
from actors.account_tokens import SECOND, BadToken, Claims, Verifier, signed
from actors.buckets import Buckets
from actors.chronicle import Chronicle
from actors.sign_in_attempts import Attempts
from actors.signing_keys import new_key, read_keys, rotated, write_keys
from config import Settings
from storage.users import AccountLog, ApiKey, KeyRemoved, Record, Role, Session, SessionEnded, User, UserRemoved

DAY: Final = 86_400 * SECOND
#: What an API key begins with: one that leaked is found by looking for it.
KEY_PREFIX: Final = "rfk_"
#: Passwords that are checked at the same time (64 MiB each), and that wait for it.
HASHING: Final = 2
MOST_WAITING: Final = 32
#: Who asks for news waits this long when there are none.
NEWS_S: Final = 10.0
#: The log is made short when it has grown by this.
COMPACT_BYTES: Final = 1 << 20
#: So many at once, and as many again in that many seconds; of an address.
REGISTRATIONS: Final = (5, 3600.0)
#: Failures that are written down, likewise.
NOTED_FAILURES: Final = (100, 100.0)

_WRONG: Final = "The name or the password is wrong."

log = structlog.get_logger(__name__)


class KnownKey(msgspec.Struct, frozen=True):
    """What who checks keys has to know of one."""

    key_id: str
    user_id: str
    role: Role
    expires_at: int | None


class Known(msgspec.Struct, frozen=True, kw_only=True):
    """What who checks tokens and keys has to know: public keys by `kid`, users by id, API keys by digest, the sessions
    that have ended, and where requests are counted. `version` tells two of them apart."""

    version: int
    public_keys: dict[str, bytes]
    users: dict[str, Told]
    keys: dict[str, KnownKey]
    ended: frozenset[str]
    redis_url: str | None

    def __repr__(self) -> str:
        return f"Known({self.version})"


class Accounts:
    """An actor: one per instance. `redis_url` is told to those who count requests, `database` is the handle of the
    actor that is told what happened. Methods raise `AccountError` for what cannot be."""

    def __init__(
        self,
        settings: Settings,
        redis_url: str | None = None,
        database: Any = None,
        clock: Callable[[], int] = time.time_ns,
        hasher: PasswordHasher | None = None,
    ) -> None:
        self._settings = settings.security
        self._redis_url = redis_url
        self._clock = clock
        self._hasher = hasher or PasswordHasher()
        #: What a name that is not there is checked against, so that this takes as long.
        self._nobody = ""
        self._threads = ThreadPoolExecutor(HASHING, thread_name_prefix="passwords")
        self._hashing = 0
        self._log = AccountLog(settings.data / "accounts")
        access_ns = self._settings.access_minutes * 60 * SECOND
        self._access_ns, self._refresh_ns = access_ns, self._settings.refresh_days * DAY
        most_users, most_keys = self._settings.max_users, self._settings.max_keys_per_user
        self._book = AccountBook(self._log.read(), most_users, most_keys, access_ns)
        self._compact_above = self._log.size + COMPACT_BYTES
        self._keys_file = settings.data / "secrets" / "signing_keys.json"
        self._keys = read_keys(self._keys_file, clock())
        self._attempts = Attempts()
        self._registrations, self._noted_failures = Buckets(*REGISTRATIONS), Buckets(*NOTED_FAILURES)
        self._failures = self._failures_not_noted = 0
        self._chronicle = None if database is None else Chronicle(database, clock)
        self._told_users = False
        #: Held from a decision until it is written down.
        self._alone = asyncio.Lock()
        self._version = clock()
        self._news = asyncio.Event()

    def __repr__(self) -> str:
        return f"Accounts({len(self._book.users)} users)"

    async def status(self) -> dict[str, Any]:
        """users, keys, sessions, failures (sign-ins that were refused since my start), damaged (lines of the log)."""
        if not self._told_users and self._chronicle is not None:
            self._chronicle.users_are(self._book.users)
            # `rayfeed user remove` may have been given while nothing ran.
            self._chronicle.users_are(self._book.removed, active=False)
            self._told_users = True
        return {
            "actor": repr(self),
            "pid": os.getpid(),
            "users": len(self._book.users),
            "keys": len(self._book.keys),
            "sessions": self._book.sessions,
            "failures": self._failures,
            "damaged": self._log.damaged,
        }

    async def stop(self) -> None:
        if self._chronicle is not None:
            await self._chronicle.flush(1.0)
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._log.close()

    async def known(self, version: int | None = None) -> Known | None:
        """See `Known`; None when it is still that version after some seconds."""
        if version == self._version:
            try:
                await asyncio.wait_for(self._news.wait(), NEWS_S)
            except TimeoutError:
                return None
        return Known(
            version=self._version,
            public_keys={key.kid: key.public for key in self._keys},
            users=self._book.told(),
            keys={key.digest: KnownKey(key.key_id, key.user_id, key.role, key.expires_at) for key in self._book.keys},
            ended=frozenset(self._book.ended(self._clock())),
            redis_url=self._redis_url,
        )

    async def sign_in(self, name: str, password: str, client: str) -> dict[str, Any]:
        """A new session, see `_tokens`. `Refused`, or `NotNow` after too many attempts."""
        self._attempt(name, client)
        if not self._nobody:
            self._nobody = await self._in_thread(self._hasher.hash, secrets.token_bytes())
        user = self._book.find(name)
        good = await self._in_thread(self._is_password, user.password_hash if user else self._nobody, password)
        if user is None or not good:
            self._note_failure("login_failed", "wrong name or password", name, client)
            raise Refused(_WRONG)
        self._attempts.give_back(name.lower(), client)
        hashed = user.password_hash
        if self._hasher.check_needs_rehash(hashed):
            hashed = await self._in_thread(self._hasher.hash, _bytes(password))
        session_id = uuid.uuid4().hex
        async with self._alone:
            now, found = self._clock(), self._book.find(name)
            # It may have been changed, or the user removed, while it was checked.
            if found is None or found.password_hash != user.password_hash:
                raise Refused(_WRONG)
            better = [] if hashed == found.password_hash else [msgspec.structs.replace(found, password_hash=hashed)]
            access, refresh = await self._claims(user.user_id, session_id, now)
            session = Session(
                session_id=session_id, user_id=user.user_id, token_id=refresh.token_id, expires_at=refresh.expires_at
            )
            await self._keep([*better, *self._book.begin(session, now)])
        self._note("login", "signed in", user.name, client=client)
        return self._tokens(access, refresh)

    async def refresh(self, token: str, client: str) -> dict[str, Any]:
        """The next tokens of a session. `Refused` for a token that is not good, which ends the session when it was used
        before."""
        try:
            return await self._refresh(token)
        except BadToken as error:
            self._note_failure("refresh_failed", str(error), "", client)
            raise Refused(str(error)) from None

    async def sign_out(self, session_id: str, user: str) -> None:
        """End a session: none of its tokens is good for anything."""
        async with self._alone:
            await self._keep(self._book.end(session_id, self._clock()))
        self._note("logout", "signed out", user)

    async def register(self, given: Mapping[str, Any], client: str) -> dict[str, Any]:
        """A user who made themselves. `AccountError` where that is not wanted."""
        if not self._settings.register_users:
            raise Refused("Users are made by the operator of this instance: rayfeed user add NAME.")
        taken = self._registrations.take(client, time.monotonic())
        if not taken.allowed:
            raise NotNow("There were too many registrations from your address.", _seconds(taken.retry_in_s), True)
        known = {name: given.get(name) for name in ("name", "email")}
        return await self.add_user({**known, "role": "readonly"}, given.get("password"), "", client=client)

    async def add_user(self, given: Mapping[str, Any], password: Any, by: str, **about: Any) -> dict[str, Any]:
        """See `AccountBook.new_user` and `check_password`. `by`: who does it; `about` goes to the audit log."""
        self._book.new_user(given, "", 0)
        hashed = await self._hashed(password, str(given["name"]))
        async with self._alone:
            user = self._book.new_user(given, uuid.uuid4().hex, self._clock())
            user = msgspec.structs.replace(user, password_hash=hashed)
            await self._keep([user])
        self._tell_user("user_added", user, by, **about)
        return shown_user(user)

    async def remove_user(self, name: str, by: str) -> None:
        async with self._alone:
            user = self._book.user(name)
            await self._keep([*self._book.end_all(user.user_id, self._clock()), UserRemoved(user.user_id)])
        self._tell_user("user_removed", user, by, active=False)

    async def set_role(self, name: str, role: Role, by: str) -> dict[str, Any]:
        """It counts at once, also for tokens and keys that there are."""
        async with self._alone:
            before = self._book.user(name)
            user = msgspec.structs.replace(before, role=check_role(role))
            await self._keep([user])
        self._tell_user("user_role_changed", user, by, before=before.role)
        return shown_user(user)

    async def set_password(self, name: str, password: Any, by: str) -> None:
        """All sessions of the user end."""
        hashed = await self._hashed(password, self._book.user(name).name)
        async with self._alone:
            user = msgspec.structs.replace(self._book.user(name), password_hash=hashed)
            await self._keep([user, *self._book.end_all(user.user_id, self._clock())])
        self._note("user_password_changed", "has a new password", by or user.name, name=user.name)

    async def change_password(self, user_id: str, old: str, new: Any, client: str) -> None:
        """By the user, who knows the old one. `Refused`, or `NotNow` after too many attempts."""
        user = self._book.by_id(user_id)
        self._attempt(user.name, client)
        if not await self._in_thread(self._is_password, user.password_hash, old):
            self._note_failure("login_failed", "wrong old password", user.name, client)
            raise Refused("The old password is wrong.")
        self._attempts.give_back(user.name.lower(), client)
        await self.set_password(user.name, new, user.name)

    async def users(self) -> list[dict[str, Any]]:
        return [shown_user(user) for user in self._book.users]

    async def add_key(self, user: str, name: str, role: Role | None, days: int | None, by: str) -> dict[str, Any]:
        """A key of a user, with `key`: it is not kept and cannot be shown again."""
        secret = KEY_PREFIX + secrets.token_urlsafe(32)
        own = {"key_id": secrets.token_hex(4), "digest": digest(secret)}
        async with self._alone:
            key = self._book.new_key(self._book.user(user), name, role, days, self._clock(), **own)
            await self._keep([key])
        self._note("key_added", "may be used", by, key_id=key.key_id, name=name, owner=user, role=key.role)
        return {**self._shown_key(key), "key": secret}

    async def remove_key(self, key_id: str, by: str, owner: str | None = None) -> None:
        """With `owner` (an id) only one of theirs."""
        async with self._alone:
            key = self._book.key(key_id, owner)
            await self._keep([KeyRemoved(key_id)])
        self._note("key_removed", "no longer good", by, key_id=key_id, name=key.name)

    async def keys(self, owner: str | None = None) -> list[dict[str, Any]]:
        """Of everybody, or of the user with that id; the oldest first."""
        return [self._shown_key(key) for key in self._book.keys if owner in (None, key.user_id)]

    async def rotate(self, revoke: bool, by: str) -> str:
        """Sign with a new key from now on; its `kid`. With `revoke` no token of the others is good any more."""
        async with self._alone:
            await self._rotate(by, revoke)
            return self._keys[0].kid

    async def _refresh(self, token: str) -> dict[str, Any]:
        async with self._alone:
            now = self._clock()
            used = Verifier({key.kid: key.public for key in self._keys}).claims(token, "refresh", now)
            access, refresh = await self._claims(used.user_id, used.session_id, now)
            record = self._book.goes_on(used, refresh.token_id, refresh.expires_at, now)
            await self._keep([record])
        if isinstance(record, SessionEnded):
            raise BadToken("This token was used before, so somebody may have a copy: the session has ended; sign in.")
        return self._tokens(access, refresh)

    async def _claims(self, user_id: str, session_id: str, now: int) -> tuple[Claims, Claims]:
        """Of the next tokens: access and refresh."""
        if self._keys[0].created_at + self._settings.signing_key_days * DAY < now:
            await self._rotate("", False)

        def claims(kind: Literal["access", "refresh"], lifetime: int) -> Claims:
            return Claims(
                kind=kind,
                user_id=user_id,
                session_id=session_id,
                token_id=uuid.uuid4().hex,
                issued_at=now,
                expires_at=now + lifetime,
            )

        return claims("access", self._access_ns), claims("refresh", self._refresh_ns)

    def _tokens(self, access: Claims, refresh: Claims) -> dict[str, Any]:
        """access_token, refresh_token, token_type, and for how many seconds each is good."""
        key = self._keys[0]
        return {
            "access_token": signed(access, key),
            "refresh_token": signed(refresh, key),
            "token_type": "bearer",
            "expires_in": self._access_ns // SECOND,
            "refresh_expires_in": self._refresh_ns // SECOND,
        }

    async def _rotate(self, by: str, revoke: bool) -> None:
        now = self._clock()
        keys = [new_key(now)] if revoke else rotated(self._keys, now, self._refresh_ns)
        try:
            await asyncio.to_thread(write_keys, self._keys_file, keys)
        except OSError as error:
            raise NotNow(f"The disk does not take the new key: {error.strerror}.") from None
        self._keys = keys
        self._tell_news()
        self._note("signing_key_rotated", "tokens are signed with a new key", by, kid=keys[0].kid, revoked=revoke)

    async def _keep(self, records: Sequence[Record]) -> None:
        """Write down what was decided; it counts from then on."""
        try:
            await asyncio.to_thread(self._write, records)
        except OSError as error:
            raise NotNow(f"The disk of this instance takes nothing now: {error.strerror}.") from None
        for record in records:
            self._book.apply(record)
        if not all(isinstance(record, Session) for record in records):
            self._tell_news()
        if self._log.size > self._compact_above:
            self._book.forget(self._clock())
            await asyncio.to_thread(self._compact, self._book.records(self._clock()))

    def _write(self, records: Sequence[Record]) -> None:
        self._log.append(records)
        self._log.sync()

    def _compact(self, records: Sequence[Record]) -> None:
        try:
            self._log.prepare(records)
            self._log.swap(self._log.size)
        except OSError as error:
            log.warning("the log of accounts could not be made short", error=str(error))
        self._compact_above = self._log.size + COMPACT_BYTES

    def _tell_news(self) -> None:
        self._version += 1
        self._news.set()
        self._news = asyncio.Event()

    def _attempt(self, name: str, client: str) -> None:
        wait_s = self._attempts.take(name.lower(), client, time.monotonic())
        if wait_s > 0:
            self._note_failure("login_throttled", "too many attempts", name, client)
            raise NotNow("There were too many attempts to sign in.", _seconds(wait_s), True)

    async def _in_thread[Result](self, work: Callable[..., Result], *arguments: Any) -> Result:
        if self._hashing >= HASHING + MOST_WAITING:
            raise NotNow("Too many sign in at this moment.")
        self._hashing += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work, *arguments)
        finally:
            self._hashing -= 1

    async def _hashed(self, password: Any, name: str) -> str:
        return await self._in_thread(self._hasher.hash, _bytes(check_password(password, name)))

    def _is_password(self, hashed: str, password: str) -> bool:
        try:
            return self._hasher.verify(hashed, _bytes(password))
        except (VerificationError, InvalidHashError):
            return False

    def _shown_key(self, key: ApiKey) -> dict[str, Any]:
        shown = {name: getattr(key, name) for name in ("key_id", "name", "role", "created_at", "expires_at")}
        return {**shown, "user": self._book.by_id(key.user_id).name}

    def _tell_user(self, event: str, user: User, by: str, active: bool = True, **about: Any) -> None:
        if self._chronicle is not None:
            self._chronicle.users_are([user], active)
        self._note(event, f"{user.name} ({user.role})", by, name=user.name, role=user.role, **about)

    def _note(self, event: str, message: str, user: str, *, severity: str = "info", **about: Any) -> None:
        if self._chronicle is not None:
            self._chronicle.note(event, "accounts", message, severity=severity, user=user, **about)

    def _note_failure(self, event: str, message: str, name: str, client: str) -> None:
        self._failures += 1
        if not self._noted_failures.take("", time.monotonic()).allowed:
            self._failures_not_noted += 1
            return
        about = {"client": client, "not_noted_before": self._failures_not_noted}
        self._failures_not_noted = 0
        self._note(event, message, name[:64], severity="warning", **about)


def digest(secret: str) -> str:
    """What is kept of an API key: long and random as it is, nobody finds it by trying."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def shown_user(user: User) -> dict[str, Any]:
    return {
        "user_id": user.user_id,
        "name": user.name,
        "email": user.email,
        "role": user.role,
        "created_at": user.created_at,
    }


def _bytes(password: str) -> bytes:
    """The same for all ways to type it."""
    return unicodedata.normalize("NFKC", password).encode("utf-8", "surrogatepass")


def _seconds(wait: float) -> int:
    return max(1, int(-(-wait // 1)))
