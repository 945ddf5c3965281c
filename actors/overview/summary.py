"""The overview as others get it: the 26 keys that clients of such dashboards know, null where nobody knows, and
`fields`, which says of each number who said it, of when it is and whether it is stale.
"""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from actors.overview.fields import COINS, FEAR_GREED, FIELDS, INDICES, MARKET, RSI, Quote, change_of, index_of, price_of
from actors.overview.knowledge import Known

_NOTE: Final = "Whoever collects these values does not answer: they are what was known at `timestamp`."


def summary(known: Mapping[str, Known | None], clock_ns: int, took_s: float) -> dict[str, Any]:
    """Of all FIELDS. `took_s`: what the slowest of the last requests took."""
    there = {name: one for name, one in known.items() if one is not None}
    said: dict[str, Any] = {price_of(coin): _number(known[price_of(coin)]) for coin in COINS}
    said |= {change_of(coin): _number(known[change_of(coin)]) for coin in COINS}
    said |= {name: _number(known[name]) for name in MARKET}
    fear_greed = _number(known[FEAR_GREED])
    return {
        **said,
        FEAR_GREED: None if fear_greed is None else round(fear_greed),
        RSI: _number(known[RSI]),
        "us_stock_indices": {symbol: _index(known[index_of(symbol)]) for symbol in INDICES},
        "fetch_duration_ms": round(took_s * 1000),
        "partial_failure": len(there) < len(FIELDS) or any(one.stale for one in there.values()),
        "last_updated": rfc3339(max(one.as_of for one in there.values())) if there else None,
        "timestamp": rfc3339(clock_ns),
        "fields": {name: _origin(known[name]) for name in FIELDS},
    }


def is_known(said: Mapping[str, Any]) -> bool:
    """Whether anything at all is."""
    return any(one["source"] is not None for one in said["fields"].values())


def aged(said: Mapping[str, Any]) -> dict[str, Any]:
    """The same, told by somebody who heard it a while ago and gets nothing newer: all of it is stale."""
    fields = {name: {**one, "stale": True} for name, one in said["fields"].items()}
    indices = {
        symbol: {**one, "status": "unknown" if one["price"] is None else "stale"}
        for symbol, one in said["us_stock_indices"].items()
    }
    return {**said, "us_stock_indices": indices, "partial_failure": True, "fields": fields, "note": _NOTE}


def restored(said: Mapping[str, Any]) -> Iterator[tuple[str, Known]]:
    """What a summary says that was told before; whatever does not look like one is passed over."""
    fields, indices = said.get("fields"), said.get("us_stock_indices")
    for name, origin in fields.items() if isinstance(fields, dict) else ():
        try:
            value: Any = said.get(name)
            if name.startswith("us_stock_indices.") and isinstance(indices, dict):
                one = indices[name.partition(".")[2]]
                value = Quote(*(float(one[key]) for key in Quote._fields))
            if value is not None and origin["source"] is not None:
                as_of = _moment(origin["as_of"])
                yield (
                    name,
                    Known(value if isinstance(value, Quote) else float(value), str(origin["source"]), as_of, True),
                )
        except (KeyError, TypeError, ValueError, OverflowError):
            continue


def rfc3339(ns: int) -> str:
    return datetime.fromtimestamp(ns // 1_000_000 / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _moment(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp() * 1000) * 1_000_000


def _number(known: Known | None) -> float | None:
    return None if known is None or isinstance(known.value, Quote) else known.value


def _index(known: Known | None) -> dict[str, Any]:
    if known is None or not isinstance(known.value, Quote):
        return {**dict.fromkeys(Quote._fields), "status": "unknown"}
    return {**known.value._asdict(), "status": "stale" if known.stale else "success"}


def _origin(known: Known | None) -> dict[str, Any]:
    if known is None:
        # Nobody knows it, which is no older news than any other.
        return {"source": None, "as_of": None, "stale": True}
    return {"source": known.source, "as_of": rfc3339(known.as_of), "stale": known.stale}
