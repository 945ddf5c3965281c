"""Layouts as the steps that read them. The placeholders are explained in `layouts`."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from actors.feeds.layouts import readers, steps
from actors.feeds.layouts.words import repeated

_INTEGERS: Final = {
    "trade_id": steps.TRADE_ID,
    "first_sequence": steps.FIRST_SEQUENCE,
    "sequence": steps.SEQUENCE,
    "previous_sequence": steps.PREVIOUS_SEQUENCE,
}
_VALUES: Final = {"price": steps.PRICE, "size": steps.SIZE, "level_price": steps.LEVEL_PRICE}
_MAYBE_VALUES: Final = {
    "bid_price": steps.BID_PRICE,
    "bid_size": steps.BID_SIZE,
    "ask_price": steps.ASK_PRICE,
    "ask_size": steps.ASK_SIZE,
    "last_price": steps.LAST_PRICE,
    "last_size": steps.LAST_SIZE,
    "mark_price": steps.MARK_PRICE,
    "index_price": steps.INDEX_PRICE,
    "open_interest": steps.OPEN_INTEREST,
    "funding_rate": steps.FUNDING_RATE,
    "predicted_funding_rate": steps.PREDICTED_FUNDING_RATE,
}
_TIMES: Final = {
    "milliseconds": (steps.TS_EVENT, 1_000_000),
    "microseconds": (steps.TS_EVENT, 1000),
    "next_funding_milliseconds": (steps.NEXT_FUNDING_TIME, 1_000_000),
}
#: Placeholders for one of a few words: the register, the words, and what each of them stands for.
_CHOICES: Final = {
    "taker_side": (steps.SIDE, "buy|sell", (0, 1)),
    "maker_side": (steps.SIDE, "buy|sell", (1, 0)),
    "level_side": (steps.LEVEL_SIDE, "buy|sell", (0, 1)),
    "level_action": (steps.LEVEL_REMOVED, "new|change|delete", (0, 0, 1)),
}
_OTHERS: Final = {
    "any": steps.ANY,
    "text": steps.TEXT,
    "checksum": steps.CHECKSUM,
    "iso_time": steps.ISO_TIME,
    "seconds_time": steps.SECONDS_TIME,
    "signed_size": steps.SIGNED_SIZE,
    "maker": steps.MAKER,
    "taker": steps.TAKER,
    "trade_uuid": steps.TRADE_UUID,
    "level_count": steps.LEVEL_COUNT,
    "level_size": steps.LEVEL_SIZE,
    "level_amount": steps.LEVEL_AMOUNT,
}
_GROUP_SIDES: Final = {"((": 0, "((bid:": 0, "((ask:": 1}

_MARK: Final = r"<\w+(?::[^>]*)?>|\[\[|\]\]|\(\((?:bid:|ask:)?|\)\)"
_MARKS: Final = re.compile(_MARK)
_PART: Final = re.compile(rf"{_MARK}|(?:(?!{_MARK}).)+")


@dataclass(frozen=True, slots=True)
class Layout:
    """A frame as the exchange writes it, and what it gives: `TRADE`, `HISTORY`, `QUOTE`, `DERIVATIVE`, `BOOK` (a
    change), `BOOK_SNAPSHOT`, `QUOTE | DERIVATIVE` (a row of each) or `IGNORED`.

    `with_decimals` False: the levels' decimals are -1, for feeds that do not keep the text of numbers.
    """

    kind: int
    text: str
    with_decimals: bool = True


def _word(text: bytes) -> tuple[int, int]:
    """At most eight bytes of ASCII as a word, and the mask of what counts of it."""
    return int.from_bytes(text, "little"), (1 << 8 * len(text)) - 1 if len(text) < 8 else -1


class Program:
    """The steps of layouts, put together one layout after the other."""

    def __init__(self, lists: Mapping[str, int]) -> None:
        self._lists = lists
        #: Columns of `steps.STEP`, 0 where absent.
        self._steps: list[dict[str, int]] = []
        self._layouts: list[tuple[int, ...]] = []
        self._literals = b""
        self._words: list[tuple[int, int, int, int]] = []

    def done(self) -> tuple[Any, Any, Any, Any]:
        """The steps, the layouts, the words of choices and the text of all literals."""
        names = steps.STEP.names or ()
        table = np.array([tuple(step.get(name, 0) for name in names) for step in self._steps], steps.STEP)
        layouts = np.array(self._layouts, steps.LAYOUT)
        literals = np.frombuffer(self._literals + bytes(steps.PADDING), np.uint8)
        return table, layouts, np.array(self._words, steps.WORD), literals

    def add(self, layout: Layout) -> None:
        parts = _PART.findall(layout.text)
        first = self._step(steps.NOTHING)
        optional: list[int] = []
        group = -1
        one_row = True
        named = late_name = False
        for before, part in zip(["", *parts], parts, strict=False):
            if not _MARKS.fullmatch(part) or (part == "]]" and not optional):
                self._literal(part.encode("ascii"))
            elif part == "[[":
                optional.append(self._step(steps.OPTIONAL))
            elif part == "]]":
                self._steps[optional.pop()]["jump"] = self._step(steps.NOTHING)
            elif part in _GROUP_SIDES:
                one_row = False
                group = self._step(steps.REPEAT, more=_GROUP_SIDES[part])
                self._step(steps.NOTHING)
            elif part == "))":
                self._step(steps.AGAIN, jump=group + 1)
                self._steps[group]["jump"] = self._step(steps.NOTHING)
                self._steps[group]["pattern"] = self._steps[group + 1]["pattern"]
                group = -1
            else:
                name, _, words = part[1:-1].partition(":")
                if name in self._lists:
                    self._step(steps.SAME_NAME if named else steps.NAME, more=self._lists[name])
                    late_name |= not (named or one_row or group >= 0)
                    named = True
                else:
                    self._placeholder(name, words, quoted=before.endswith('"'))
        own = self._steps[first:]
        if "length" not in own[0] or "length" not in own[-1]:
            raise ValueError(f"a layout begins and ends with literal text: {layout.text}")
        ends_anywhere = (steps.TEXT, steps.NAME)
        if any(step["what"] in ends_anywhere and "length" not in step for step in own):
            raise ValueError(f"literal text must follow <text> and names: {layout.text}")
        self._layouts.append((first, len(self._steps), layout.kind, layout.with_decimals, one_row, late_name))

    def _step(self, what: int, register: int = 0, more: int = 0, jump: int = 0) -> int:
        self._steps.append({"what": what, "register": register, "more": more, "jump": jump})
        return len(self._steps) - 1

    def _literal(self, text: bytes) -> None:
        """Text that must follow what the last step read."""
        if "length" in self._steps[-1]:
            self._step(steps.NOTHING)
        head, mask = _word(text[:8])
        self._steps[-1] |= {
            "length": len(text),
            "head": head,
            "mask": mask,
            "tail": _word(text[-8:])[0],
            "start": len(self._literals),
            "pattern": repeated(text[0]),
        }
        self._literals += text

    def _placeholder(self, name: str, words: str, quoted: bool) -> None:
        if name in _INTEGERS:
            self._step(steps.INTEGER, _INTEGERS[name])
        elif name in _TIMES:
            register, scale = _TIMES[name]
            self._step(steps.TIME, register, scale)
        elif name in _VALUES:
            self._step(steps.VALUE, _VALUES[name], readers.ALWAYS_THERE)
        elif name in _MAYBE_VALUES:
            self._step(steps.VALUE, _MAYBE_VALUES[name], readers.MAYBE_EMPTY if quoted else readers.MAYBE_NULL)
        elif name in _CHOICES:
            register, usual, values = _CHOICES[name]
            first = len(self._words)
            for word, value in zip((words or usual).split("|"), values, strict=True):
                self._words.append((*_word(word.encode()), len(word), value))
            self._step(steps.CHOICE, register, first, len(self._words))
        else:
            self._step(_OTHERS[name])
