"""Who asks: an API key, an access token or the instance's own token becomes an identity, in each replica by itself.

A replica has a copy of what the accounts actor says (`actors.accounts.Known`) and hears at once when it changes, so no
request waits for an actor, and who is signed in stays so while that actor is away.
"""

import asyncio
import contextlib
import hmac
from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec
import structlog

from actors.account_book import INSTANCE
from actors.account_tokens import BadToken, Claims, ExpiredToken, Verifier
from actors.accounts import KEY_PREFIX, Known, digest
from serve_apps.asgi import BadRequest, Scope
from storage.users import ROLES, Role, weaker

#: Who a request comes from, in its scope; see `serve_apps.guard`.
IDENTITY: Final = "rayfeed.identity"
#: A longer one is none.
MOST_CHARACTERS: Final = 4096
#: Tokens whose signature need not be checked again.
MOST_CHECKED: Final = 10_000
#: Who comes right after the start waits this long for what is known.
FIRST_S: Final = 3.0
RETRY_S: Final = 0.2
_GET_ONE: Final = "POST /api/v1/auth/login gives one, and secrets/api_token of the data folder holds one."

#: Asks the accounts actor, see `Accounts.known`.
AskKnown = Callable[[int | None], Awaitable[Known | None]]

log = structlog.get_logger(__name__)


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """Who asks, until `expires_at` (ns since the epoch; None: as long as the key is good). `user_id` is "" for the
    instance's own token, `session_id` for everything but tokens of a session."""

    user_id: str
    name: str
    email: str | None
    role: Role
    session_id: str
    expires_at: int | None

    @property
    def roles(self) -> tuple[Role, ...]:
        """Its role and those below it."""
        return ROLES[ROLES.index(self.role) :]

    @property
    def is_operator(self) -> bool:
        """Whether it is the instance's own token."""
        return not self.user_id


class Identities:
    """Who may ask. `ask` gives what is known, `token` is the instance's own, `clock` tells ns."""

    def __init__(self, ask: AskKnown, token: str, clock: Callable[[], int]) -> None:
        self._ask = ask
        self._own = digest(token)
        self._clock = clock
        self._known: Known | None = None
        self._verifier = Verifier({})
        self._checked: dict[str, Claims] = {}
        self._there = asyncio.Event()
        self._following: asyncio.Task[None] | None = None

    @property
    def known(self) -> Known | None:
        return self._known

    async def ready(self) -> None:
        """Follow what is known from now on; returns as soon as anything is, or after a while."""
        if self._following is None:
            self._following = asyncio.create_task(self._follow(), name="accounts")
        if self._known is None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._there.wait(), FIRST_S)

    async def close(self) -> None:
        if self._following is not None:
            self._following.cancel()
            await asyncio.wait([self._following])

    def tell(self, known: Known) -> None:
        """What is known from now on."""
        self._known = known
        self._verifier = Verifier(known.public_keys)
        self._checked.clear()
        self._there.set()

    def identify(self, scope: Scope) -> Identity | None:
        """Who a request comes from; None for one that does not say. `BadRequest` (401) for one that says something that
        is not good, 503 while nothing is known yet."""
        given = credentials(scope)
        return None if given is None else self.authenticate(given)[0]

    def authenticate(self, given: str) -> tuple[Identity, int | None]:
        """Whose key or token that is, and until when it is good (ns; None: until it is taken away). `BadRequest`."""
        if not given or len(given) > MOST_CHARACTERS:
            raise BadRequest(401, f"This is no token. {_GET_ONE}")
        digested = digest(given) if len(given) < 200 else ""
        if hmac.compare_digest(digested, self._own):
            return Identity(user_id="", name=INSTANCE, email=None, role="admin", session_id="", expires_at=None), None
        if self._known is None:
            raise BadRequest(503, "Who is allowed to ask is not known yet: ask again in a moment.")
        identity = self._by_key(self._known, digested) if given.startswith(KEY_PREFIX) else self._by_token(given)
        return identity, identity.expires_at

    async def admit(self, given: str | None, needed: bool) -> float | None:
        """Until when a live connection may go on (seconds since the epoch; None: for ever) of who shows that key or
        token, or nothing where none is `needed`. `BadRequest`."""
        await self.ready()
        if given is None and not needed:
            return None
        _, expires_at = self.authenticate(given or "")
        return None if expires_at is None else expires_at / 1e9

    def _by_key(self, known: Known, digested: str) -> Identity:
        key = known.keys.get(digested)
        if key is None or key.user_id not in known.users:
            raise BadRequest(401, "This key is not known here (any more).")
        if key.expires_at is not None and key.expires_at <= self._clock():
            raise BadRequest(401, "This key has expired: make a new one.")
        user = known.users[key.user_id]
        return Identity(
            user_id=key.user_id,
            name=user.name,
            email=user.email,
            role=weaker(user.role, key.role),
            session_id="",
            expires_at=key.expires_at,
        )

    def _by_token(self, token: str) -> Identity:
        assert self._known is not None
        claims = self._checked.get(token)
        try:
            if claims is None or claims.expires_at <= self._clock():
                claims = self._verifier.claims(token, "access", self._clock())
                if len(self._checked) >= MOST_CHECKED:
                    self._checked.clear()
                self._checked[token] = claims
        except ExpiredToken as error:
            raise BadRequest(401, str(error)) from None
        except BadToken as error:
            raise BadRequest(401, f"{error} {_GET_ONE}") from None
        user = self._known.users.get(claims.user_id)
        if user is None or claims.session_id in self._known.ended:
            raise BadRequest(401, "The session has ended: sign in.")
        return Identity(
            user_id=claims.user_id,
            name=user.name,
            email=user.email,
            role=user.role,
            session_id=claims.session_id,
            expires_at=claims.expires_at,
        )

    async def _follow(self) -> None:
        while True:
            try:
                known = await self._ask(self._known.version if self._known else None)
                if known is not None:
                    self.tell(known)
            except asyncio.CancelledError:
                raise
            except Exception as error:  # noqa: BLE001 - whatever it is, the actor comes back
                log.debug("the accounts do not answer", error=repr(error))
                await asyncio.sleep(RETRY_S)


def credentials(scope: Scope) -> str | None:
    """What a request says of who it is: `Authorization: Bearer ...` or `X-API-Key: ...`. "" for what is neither."""
    for name, value in scope["headers"]:
        if name == b"authorization":
            kind, _, given = value.decode("latin-1").partition(" ")
            return given.strip() if kind.lower() == "bearer" else ""
        if name == b"x-api-key":
            text: str = value.decode("latin-1").strip()
            return text
    return None


def identify(scope: Scope, role: Role = "readonly") -> Identity:
    """Who a request comes from, who has at least that role. `BadRequest`: 401 for nobody, 403 for another role."""
    identity = identity_of(scope)
    if identity is None:
        raise BadRequest(401, "Sign in first: POST /api/v1/auth/login, then Authorization: Bearer TOKEN.")
    if role not in identity.roles:
        raise BadRequest(403, f"This is for the role {role}; {identity.name} is {identity.role}.")
    return identity


def identity_of(scope: Scope) -> Identity | None:
    """Who a request comes from, once the guard has found out."""
    found: Any = scope.get(IDENTITY)
    return found if isinstance(found, Identity) else None
