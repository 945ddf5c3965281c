"""Whatever arrives, every frame has one outcome and good frames decode as if they had come alone."""

import json
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.feeds.feed import Feed
from storage.schema import BROKEN
from tests.actors.feeds import test_binance, test_coinbase
from tests.actors.feeds.checks import BATCHES, decode_checked, rows, same_outcomes, without_layouts
from tests.actors.feeds.test_binance import AGGREGATE, DEPTH, QUOTE, SHUTDOWN, SINGLE, frame
from tests.actors.feeds.test_coinbase import BOOK, HEARTBEAT, INVALID, MATCH, TICKER, UPDATE

COINBASE = [
    MATCH,
    MATCH | {"type": "last_match"},
    TICKER,
    HEARTBEAT,
    {"type": "subscriptions", "channels": [{"name": "matches", "product_ids": ["SKL-BTC"]}]},
    {"type": "error", "message": "no"},
    UPDATE,
    UPDATE | {"changes": []},
    BOOK,
]
GOOD = {
    "binance": [
        *(frame(data) for data in (AGGREGATE, SINGLE, QUOTE, DEPTH, {"e": "kline"})),
        '{"result":null,"id":1}',
        SHUTDOWN,
    ],
    "coinbase": [*map(json.dumps, COINBASE), INVALID],
}


def new_feed(exchange: str) -> Feed:
    """One that waits for answers."""
    feed = test_binance.new_feed() if exchange == "binance" else test_coinbase.new_feed()
    feed.subscribe(feed._symbols.names)
    return feed


numbers = st.one_of(st.integers(), st.floats(), st.sampled_from(["", "0", "-0", "nan", "1e999", "1", 2**63]))
json_values = st.recursive(
    st.none() | st.booleans() | numbers | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


def mutated_fields(message: str) -> st.SearchStrategy[bytes]:
    """The message with one field, of it or of its payload, replaced or removed."""
    tree = json.loads(message)
    places = [(tree, name) for name in tree]
    if isinstance(tree.get("data"), dict):
        places += [(tree["data"], name) for name in tree["data"]]

    def apply(choice: tuple[int, Any, bool]) -> bytes:
        copy = json.loads(message)
        inner, name = places[choice[0]]
        target = copy if inner is tree else copy["data"]
        if choice[2]:
            del target[name]
        else:
            target[name] = choice[1]
        return json.dumps(copy).encode()

    return st.tuples(st.integers(0, len(places) - 1), json_values, st.booleans()).map(apply)


def mutated_bytes(message: str) -> st.SearchStrategy[bytes]:
    """The message with a piece overwritten, cut out or repeated."""
    text = message.encode()
    return st.tuples(st.integers(0, len(text)), st.integers(0, len(text)), st.binary(max_size=6)).map(
        lambda cut: text[: cut[0]] + cut[2] + text[cut[1] :]
    )


def hostile(exchange: str) -> st.SearchStrategy[bytes]:
    messages = st.sampled_from(GOOD[exchange])
    joined = st.tuples(messages, st.sampled_from(["\n", " ", "", ",", "\x00"]), messages).map("".join)
    return st.one_of(
        messages.flatmap(mutated_fields),
        messages.flatmap(mutated_bytes),
        joined.map(str.encode),
        st.binary(max_size=30),
        json_values.map(lambda value: json.dumps(value).encode()),
        st.sampled_from([b'{"x":"}', b'{"}', b'{"type":"\\ud800"}', b"\xff", b"{" * 5000, b'{"type":' * 5000]),
    )


@st.composite
def mixtures(draw: st.DrawFn) -> tuple[str, list[bytes], list[bool]]:
    """An exchange, frames, and which of them are surely good."""
    exchange = draw(st.sampled_from(sorted(GOOD)))
    good = st.sampled_from(GOOD[exchange]).map(lambda message: (message.encode(), True))
    bad = hostile(exchange).map(lambda message: (message, False))
    pairs = draw(st.lists(st.one_of(good, bad), max_size=12))
    return exchange, [pair[0] for pair in pairs], [pair[1] for pair in pairs]


def without_repeated_breaks(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows, but of the `BROKEN` ones of a book only the first and the last: what lies between says nothing new,
    and a feed need not say it for each frame of a flood."""
    breaks: dict[str, list[int]] = {}
    for place, row in enumerate(found):
        if row.get("kind") == BROKEN and "levels" in row:
            breaks.setdefault(row["symbol"], []).append(place)
    between = {place for places in breaks.values() for place in places[1:-1]}
    return [row for place, row in enumerate(found) if place not in between]


@settings(max_examples=400, deadline=None)
@given(mixtures())
def test_hostile_frames_never_raise_and_never_touch_their_neighbours(
    mixture: tuple[str, list[bytes], list[bool]],
) -> None:
    exchange, frames, good = mixture
    ts_recv = np.arange(5_000, 5_000 + len(frames))
    together = decode_checked(new_feed(exchange), frames, ts_recv)

    feed = new_feed(exchange)
    alone = [decode_checked(feed, frames[at : at + 1], ts_recv[at : at + 1]) for at in range(len(frames))]
    for name in BATCHES:
        expected = [row for decoded in alone for row in rows(getattr(decoded, name))]
        assert without_repeated_breaks(rows(getattr(together, name))) == without_repeated_breaks(expected)
    for name in ("rejected", "refused", "replies", "notices"):
        assert [one for decoded in alone for one in getattr(decoded, name)] == list(getattr(together, name))
    assert frozenset().union(*(decoded.subscribed for decoded in alone)) == together.subscribed
    assert not any(decoded.rejected for decoded, fine in zip(alone, good, strict=True) if fine)


@settings(max_examples=300, deadline=None)
@given(mixtures())
def test_with_and_without_layouts_every_frame_has_the_same_outcome(
    mixture: tuple[str, list[bytes], list[bool]],
) -> None:
    exchange, frames, _ = mixture
    # The layouts are those of the wire, which has no spaces.
    frames = [frame.replace(b'": ', b'":').replace(b", ", b",") for frame in frames]
    same_outcomes(new_feed(exchange), without_layouts(new_feed(exchange)), frames)
