"""Which language a page is in: what the address says, else what the reader chose before (cookie), else what the browser
asks for, else Vietnamese. The front door decides in the same way (`cluster.edge_configuration`), and says it in the
address.
"""

import math
from http.cookies import CookieError, SimpleCookie
from typing import Final, Literal

from serve_apps.asgi import Scope, header_of

Language = Literal["vi", "en"]
#: The first is what readers get of whom nothing is known.
LANGUAGES: Final[tuple[Language, ...]] = ("vi", "en")
COOKIE: Final = "preferred_language"
#: More than anybody's browser says.
_MOST_CHARACTERS: Final = 2000


def known(text: str | None) -> Language | None:
    """The language of that name, if it is one of ours."""
    return next((one for one in LANGUAGES if one == text), None)


def negotiated(scope: Scope) -> Language:
    """What a reader gets whose address does not say."""
    cookie = (header_of(scope, b"cookie") or b"").decode("latin-1")
    asked = (header_of(scope, b"accept-language") or b"").decode("latin-1")
    return known(_chosen(cookie)) or accepted(asked)


def accepted(asked: str) -> Language:
    """The best of Accept-Language (RFC 9110, section 12.5.4): of equal quality the first, of those we do not have
    none."""
    best: tuple[float, Language] = (0.0, LANGUAGES[0])
    for part in asked[:_MOST_CHARACTERS].split(","):
        tag, *parameters = part.strip().lower().split(";")
        language = known(tag.strip().partition("-")[0])
        if language is not None and (quality := _quality(parameters)) > best[0]:
            best = quality, language
    return best[1]


def _quality(parameters: list[str]) -> float:
    for parameter in parameters:
        name, _, value = parameter.strip().partition("=")
        if name.strip() == "q":
            try:
                quality = float(value)
            except ValueError:
                return 0.0
            return quality if math.isfinite(quality) and 0 <= quality <= 1 else 0.0
    return 1.0


def _chosen(cookie: str) -> str | None:
    try:
        found = SimpleCookie(cookie[:_MOST_CHARACTERS]).get(COOKIE)
    except CookieError:
        return None
    return found.value if found else None
