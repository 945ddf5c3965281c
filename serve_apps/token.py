"""Who may change an instance over HTTP: admins, and whoever has its own token, which lies in the data folder: whoever
can read that can operate the instance.
"""

import hmac
import os
import secrets
from pathlib import Path

from config import Settings
from serve_apps.asgi import BadRequest, Headers, Scope
from serve_apps.auth_identity import identity_of
from storage.users import Role


def api_token(settings: Settings) -> str:
    """The token in `secrets/api_token` of the data folder, made when it is not there yet."""
    path = settings.data / "secrets" / "api_token"
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not path.exists():
        # Several replicas may come here at once: each writes a whole file, one of them stays.
        own = path.with_name(f"{path.name}.{os.getpid()}")
        own.touch(mode=0o600)
        own.write_text(secrets.token_urlsafe(32))
        _keep_first(own, path)
    return path.read_text()


def check_token(scope: Scope, token: str, doing: str, role: Role = "admin") -> None:
    """`BadRequest` for a request from somebody who may not do what `doing` says (Changing what is collected): it needs
    that role, or the instance's own token. Who asks is found out by `serve_apps.guard`; without one, only that token
    counts."""
    identity = identity_of(scope)
    if identity is not None:
        if role not in identity.roles:
            raise BadRequest(403, f"{doing} is for the role {role}; {identity.name} is {identity.role}.")
        return
    given = dict(scope["headers"]).get(b"authorization", b"")
    if not hmac.compare_digest(given, b"Bearer " + token.encode()):
        raise BadRequest(
            401,
            f"{doing} needs a token of the role {role} (POST /api/v1/auth/login), or that in secrets/api_token of the "
            "data folder: Authorization: Bearer TOKEN.",
        )


def challenge(error: BadRequest) -> Headers:
    """What an answer to that has to carry besides."""
    if error.status == 401:
        return [(b"www-authenticate", b"Bearer")]
    return [(b"retry-after", b"1")] if error.status == 503 else []


def _keep_first(own: Path, path: Path) -> None:
    try:
        path.hardlink_to(own)
    except FileExistsError:
        pass
    finally:
        own.unlink()
