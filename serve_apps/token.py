"""The token that allows to change an instance over HTTP: whoever can read the data folder can operate the instance."""

import hmac
import os
import secrets
from pathlib import Path

from config import Settings
from serve_apps.asgi import BadRequest, Headers, Scope


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


def check_token(scope: Scope, token: str, doing: str) -> None:
    """`BadRequest` for a request without the token, which `doing` (Changing what is collected) needs."""
    given = dict(scope["headers"]).get(b"authorization", b"")
    if not hmac.compare_digest(given, b"Bearer " + token.encode()):
        raise BadRequest(
            401,
            f"{doing} needs the token in secrets/api_token of the data folder: Authorization: Bearer TOKEN.",
        )


def challenge(error: BadRequest) -> Headers:
    """What an answer to that has to carry besides."""
    return [(b"www-authenticate", b"Bearer")] if error.status == 401 else []


def _keep_first(own: Path, path: Path) -> None:
    try:
        path.hardlink_to(own)
    except FileExistsError:
        pass
    finally:
        own.unlink()
