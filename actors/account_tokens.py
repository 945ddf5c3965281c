"""Tokens of users: JSON Web Tokens signed with Ed25519. Pure: keys and the time are passed in.

An access token says who asks, a refresh token makes the next pair of them; neither passes for the other. Whoever
checks tokens has the public halves of the keys alone, so a replica that is taken over cannot make any. Several keys
are good at once, told apart by `kid`, so that a new one can take over while tokens of the old one expire.
"""

from collections.abc import Mapping
from typing import Any, Final, Literal

import jwt
import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from actors.signing_keys import SigningKey

Kind = Literal["access", "refresh"]
ISSUER: Final = "rayfeed"
#: A longer text is no token of ours.
MOST_CHARACTERS: Final = 2048
SECOND: Final = 1_000_000_000
#: Clocks of two machines may differ by this.
LEEWAY: Final = 5 * SECOND

_ALGORITHM: Final = "EdDSA"
_TYPES: Final[dict[Kind, str]] = {"access": "at+jwt", "refresh": "rt+jwt"}
_OPTIONS: Final[Any] = {
    "require": ["iss", "sub", "iat", "exp", "jti", "sid", "use"],
    # Against the time that is passed in, below.
    **dict.fromkeys(("verify_exp", "verify_iat", "verify_nbf", "verify_aud"), False),
}


class BadToken(Exception):
    """A text that is no good token, in one line for its owner."""


class ExpiredToken(BadToken):
    """It was good once."""


class Claims(msgspec.Struct, frozen=True, kw_only=True):
    """What a token says. Times are ns since the epoch, cut to seconds in the token."""

    kind: Kind
    user_id: str
    session_id: str
    token_id: str
    issued_at: int
    expires_at: int


def signed(claims: Claims, key: SigningKey) -> str:
    """The token that says so."""
    return jwt.encode(
        {
            "iss": ISSUER,
            "sub": claims.user_id,
            "sid": claims.session_id,
            "jti": claims.token_id,
            "use": claims.kind,
            "iat": claims.issued_at // SECOND,
            "exp": claims.expires_at // SECOND,
        },
        key.private,
        algorithm=_ALGORITHM,
        headers={"kid": key.kid, "typ": _TYPES[claims.kind]},
    )


class Verifier:
    """Checks tokens with public keys, by `kid`."""

    def __init__(self, public_keys: Mapping[str, bytes]) -> None:
        self._keys = {kid: Ed25519PublicKey.from_public_bytes(key) for kid, key in public_keys.items()}

    def claims(self, token: str, kind: Kind, now: int) -> Claims:
        """What a token of that kind says at that time (ns). `BadToken` for everything that is not exactly one."""
        if len(token) > MOST_CHARACTERS or not token.isascii():
            raise BadToken("This is no token.")
        try:
            header = jwt.get_unverified_header(token)
            key = self._keys.get(str(header.get("kid")))
            if key is None:
                raise BadToken("The token is signed with a key that is not known here (any more): sign in.")
            said = jwt.decode(token, key, algorithms=[_ALGORITHM], issuer=ISSUER, options=_OPTIONS)
        except (jwt.PyJWTError, ValueError, TypeError, RecursionError):
            raise BadToken("This is no token of this instance.") from None
        if header.get("typ") != _TYPES[kind] or said["use"] != kind:
            raise BadToken(f"This is no {kind} token.")
        texts = [said[name] for name in ("sub", "sid", "jti")]
        times = [said["iat"], said["exp"]]
        if not all(isinstance(text, str) for text in texts) or not all(type(time) is int for time in times):
            raise BadToken("This is no token of this instance.")
        issued_at, expires_at = (time * SECOND for time in times)
        if now >= expires_at:
            raise ExpiredToken("The token has expired: make a new one with POST /api/v1/auth/refresh, or sign in.")
        if issued_at > now + LEEWAY:
            raise BadToken("The token is not good yet: a clock is wrong.")
        user_id, session_id, token_id = texts
        return Claims(
            kind=kind,
            user_id=user_id,
            session_id=session_id,
            token_id=token_id,
            issued_at=issued_at,
            expires_at=expires_at,
        )
