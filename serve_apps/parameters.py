"""The parameters of a request, and what is said of those that do not fit."""

from collections.abc import Collection, Iterable, Mapping
from urllib.parse import parse_qsl

from serve_apps.asgi import BadRequest, Scope

#: A longer number is none that anybody means.
_DIGITS = 6


def known_query(scope: Scope, known: Collection[str]) -> dict[str, str]:
    """The parameters of a request; `BadRequest` for one nobody knows: a misspelt filter must not answer with
    everything, as if there were none."""
    query = dict(parse_qsl(scope["query_string"].decode("ascii", "replace"), keep_blank_values=True))
    if unknown := query.keys() - set(known):
        only = f"only {', '.join(sorted(known))}" if known else "and no other"
        raise BadRequest(400, f"There is no {', '.join(sorted(unknown))} here, {only}.")
    return query


def whole_number(query: Mapping[str, str], name: str, default: int, most: int, or_else: str = "") -> int:
    """A number from 1 to `most`; `BadRequest` for anything else, which names what else would do."""
    text = query.get(name, str(default))
    if not (text.isascii() and text.isdigit() and len(text) <= _DIGITS and 1 <= int(text) <= most):
        raise BadRequest(400, f"{name} must be {or_else}a whole number from 1 to {most}.")
    return int(text)


def one_of(query: Mapping[str, str], name: str, default: str, known: Iterable[str]) -> str:
    """One of the known values; `BadRequest` for another."""
    if (value := query.get(name, default)) not in known:
        raise BadRequest(400, f"{name} must be one of: {', '.join(known)}.")
    return value
