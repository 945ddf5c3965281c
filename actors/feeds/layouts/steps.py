"""The compiled run of layouts over many frames: what a layout is as steps, and the rows that come out."""

from typing import Final

import numpy as np
from numba import njit

from actors.feeds.layouts import readers
from actors.feeds.layouts.rows import BOOK, BOOK_SNAPSHOT, DERIVATIVE, HISTORY, IGNORED, QUOTE, TRADE
from actors.feeds.layouts.words import address_of, byte_at, find, hash_of, is_same, word_at
from storage.schema import CHANGE, SNAPSHOT, UNKNOWN_SIDE

# What a step reads before its literal, the text that must follow, is compared.
NOTHING: Final = 0
OPTIONAL: Final = 1
REPEAT: Final = 2
AGAIN: Final = 3
TEXT: Final = 4
ANY: Final = 5
NAME: Final = 6
SAME_NAME: Final = 7
INTEGER: Final = 8
CHECKSUM: Final = 9
TIME: Final = 10
ISO_TIME: Final = 11
SECONDS_TIME: Final = 12
VALUE: Final = 13
SIGNED_SIZE: Final = 14
CHOICE: Final = 15
MAKER: Final = 16
TAKER: Final = 17
TRADE_UUID: Final = 18
LEVEL_COUNT: Final = 19
LEVEL_SIZE: Final = 20
LEVEL_AMOUNT: Final = 21

#: `register` is where a value goes, `more` and `jump` (a step) depend on what the step does. Of its literal there are
#: the length, the first and the last eight bytes, and where it begins in the text of all literals; `pattern` is its
#: first byte eight times.
STEP: Final = np.dtype(
    [
        (name, np.int64)
        for name in ("what", "register", "more", "jump", "length", "head", "mask", "tail", "start", "pattern")
    ]
)
#: Its steps, what it gives, and whether levels keep their decimals, the frame itself is the row, and the symbol comes
#: after rows.
LAYOUT: Final = np.dtype(
    [(name, np.int64) for name in ("first", "last", "kind", "with_decimals", "one_row", "late_name")]
)
#: A text of at most eight bytes, and the value it stands for.
WORD: Final = np.dtype([(name, np.int64) for name in ("word", "mask", "length", "value")])
#: A name a frame can hold: in which of the feed's lists, where its text is, and its code.
NAME_ROW: Final = np.dtype([(name, np.int64) for name in ("list", "start", "length", "code")])

# Registers of integers.
CODE: Final = 0
TS_EVENT: Final = 1
TRADE_ID: Final = 2
FIRST_SEQUENCE: Final = 3
SEQUENCE: Final = 4
PREVIOUS_SEQUENCE: Final = 5
CHECKSUM_VALUE: Final = 6
SIDE: Final = 7
NEXT_FUNDING_TIME: Final = 8
LEVEL_SIDE: Final = 9
LEVEL_REMOVED: Final = 10
#: What they hold before a frame is read; the registers of floats hold NaN.
_BLANK: Final = np.array([-1, 0, 0, -1, -1, -1, -1, UNKNOWN_SIDE, 0, 0, 0])

# Registers of floats.
PRICE: Final = 0
SIZE: Final = 1
BID_PRICE: Final = 2
BID_SIZE: Final = 3
ASK_PRICE: Final = 4
ASK_SIZE: Final = 5
LAST_PRICE: Final = 6
LAST_SIZE: Final = 7
MARK_PRICE: Final = 8
INDEX_PRICE: Final = 9
OPEN_INTEREST: Final = 10
FUNDING_RATE: Final = 11
PREDICTED_FUNDING_RATE: Final = 12
LEVEL_PRICE: Final = 13
_FLOATS: Final = 14

#: How many zero bytes must follow the last frame.
PADDING: Final = 64


@njit(cache=True)
def read_frames(  # type: ignore[no-untyped-def]
    text, frames, steps, layouts, words, literal_text, names, name_text, slots,
    trades, history, quotes, derivatives, books, levels, sequences, others,
):  # fmt: skip
    """Read this many frames, each followed by a zero byte.

    Gives the length of their text, how many trades, history rows, quotes, derivatives, books, levels and others
    there are, and how many frames are ignored.
    """
    trade_count = history_count = quote_count = derivative_count = book_count = level_count = other_count = 0
    ignored = 0
    integers = np.empty(len(_BLANK), np.int64)
    floats = np.empty(_FLOATS, np.float64)
    # The maker's, the taker's and a trade's.
    order_ids = np.empty((3, 2), np.int64)
    known = np.empty(2, np.bool_)
    price_decimals = 0
    text_begin, literals = address_of(text), address_of(literal_text)
    at = text_begin
    for i in range(frames):
        begin = at
        found = False
        for layout in layouts:
            step = steps[layout.first]
            at = _literal(begin, step, literals)
            if at == 0:
                continue
            kind = layout.kind
            integers[:] = _BLANK
            floats[:] = np.nan
            first_trade, first_history, first_level = trade_count, history_count, level_count
            name_begin = name_end = 0
            known[:] = False
            place = layout.first + 1
            while place < layout.last:
                step = steps[place]
                what = step.what
                if what == ANY:
                    at = readers.any_value(at)
                elif what == VALUE:
                    at, floats[step.register], decimals = readers.number(at, step.more)
                    if step.register == LEVEL_PRICE:
                        price_decimals = decimals
                elif what in (LEVEL_SIZE, LEVEL_AMOUNT):
                    at, size, decimals = readers.number(at, readers.ALWAYS_THERE)
                    if what == LEVEL_AMOUNT:
                        # Zero has no sign that could say the side.
                        if size == 0.0:
                            at = 0
                        integers[LEVEL_SIDE] = size < 0.0
                        size = abs(size)
                    if at == 0 or level_count == len(levels):
                        at = 0
                        break
                    level = levels[level_count]
                    level.level_price = floats[LEVEL_PRICE]
                    level.level_size = 0.0 if integers[LEVEL_REMOVED] else size
                    level.level_side = integers[LEVEL_SIDE]
                    level.level_price_decimals = price_decimals if layout.with_decimals else -1
                    level.level_size_decimals = decimals if layout.with_decimals else -1
                    level_count += 1
                elif what == TEXT:
                    at = readers.plain_text(at, step.pattern)
                elif what == NAME:
                    name_begin, name_end = at, find(at, step.pattern)
                    integers[CODE] = _code(at, name_end, step.more, names, name_text, slots)
                    at = name_end if integers[CODE] >= 0 else 0
                elif what == SAME_NAME:
                    at = at + name_end - name_begin if is_same(name_begin, name_end, at) else 0
                elif what == CHOICE:
                    at, integers[step.register] = _choice(at, words, step.more, step.jump)
                elif what == INTEGER:
                    at, integers[step.register] = readers.integer(at)
                elif what == CHECKSUM:
                    at, integers[CHECKSUM_VALUE] = readers.checksum(at)
                elif what == TIME:
                    at, integers[step.register] = readers.time_of(at, step.more)
                elif what == SECONDS_TIME:
                    at, time = readers.seconds_time(at)
                    integers[TS_EVENT] = max(integers[TS_EVENT], time)
                elif what == ISO_TIME:
                    at, integers[TS_EVENT] = readers.iso_time(at)
                elif what == LEVEL_COUNT:
                    at, count = readers.integer(at)
                    integers[LEVEL_REMOVED] = count == 0
                elif what == SIGNED_SIZE:
                    at, size, _ = readers.number(at, readers.ALWAYS_THERE)
                    integers[SIDE] = size < 0.0
                    floats[SIZE] = abs(size)
                elif what == MAKER:
                    at, order_ids[0, 0], order_ids[0, 1] = readers.uuid(at)
                    known[0] = True
                elif what == TAKER:
                    at, order_ids[1, 0], order_ids[1, 1] = readers.uuid(at)
                    known[1] = True
                elif what == TRADE_UUID:
                    at, order_ids[2, 0], order_ids[2, 1] = readers.uuid(at)
                    integers[TRADE_ID] = readers.first_bits(order_ids[2, 0])
                elif what == OPTIONAL:
                    after = _literal(at, step, literals)
                    at = after if after else at
                    place = place + 1 if after else step.jump
                    continue
                elif what == REPEAT:
                    integers[LEVEL_SIDE] = step.more
                    if byte_at(at) != step.pattern & 0xFF:
                        place = step.jump
                        continue
                elif what == AGAIN:
                    added = True
                    if kind & TRADE:
                        added = _add_trade(trades, trade_count, i, integers, floats, order_ids, known)
                        trade_count += added
                    elif kind & HISTORY:
                        added = _add_trade(history, history_count, i, integers, floats, order_ids, known)
                        history_count += added
                    if not added:
                        at = 0
                        break
                    if byte_at(at) == ord(","):
                        at += 1
                        place = step.jump
                        continue
                if at == 0:
                    break
                if step.length:
                    at = _literal(at, step, literals)
                    if at == 0:
                        break
                place += 1
            found = at != 0 and byte_at(at) == 0
            if found and layout.one_row:
                if kind & TRADE:
                    trade_count += _add_trade(trades, trade_count, i, integers, floats, order_ids, known)
                elif kind & HISTORY:
                    history_count += _add_trade(history, history_count, i, integers, floats, order_ids, known)
            # A list of trades must hold one.
            if kind & (TRADE | HISTORY) and trade_count == first_trade and history_count == first_history:
                found = False
            if not found:
                trade_count, history_count, level_count = first_trade, first_history, first_level
                continue

            if layout.late_name:
                for row in range(first_trade, trade_count):
                    trades[row].code = integers[CODE]
                for row in range(first_history, history_count):
                    history[row].code = integers[CODE]
            if kind & QUOTE:
                _fill_quote(quotes[quote_count], i, integers, floats)
                quote_count += 1
            if kind & DERIVATIVE:
                _fill_derivative(derivatives[derivative_count], i, integers, floats)
                derivative_count += 1
            if kind & (BOOK | BOOK_SNAPSHOT):
                _fill_book(books[book_count], i, integers, kind, level_count - first_level)
                book_count += 1
            ignored += kind == IGNORED
            sequences[i] = integers[SEQUENCE]
            break
        if not found:
            at = find(begin, 0)
            sequences[i] = -1
            others[other_count] = i
            other_count += 1
        at += 1
    return (
        at - text_begin,
        (trade_count, history_count, quote_count, derivative_count, book_count, level_count, other_count, ignored),
    )


@njit(cache=True)
def _add_trade(table, count, i, integers, floats, order_ids, known):  # type: ignore[no-untyped-def]
    """Whether there was room for it."""
    if count == len(table):
        return False
    trade = table[count]
    trade.at = i
    trade.code = integers[CODE]
    trade.ts_event = integers[TS_EVENT]
    trade.trade_id = integers[TRADE_ID]
    trade.side = integers[SIDE]
    trade.price = floats[PRICE]
    trade.size = floats[SIZE]
    trade.maker_known = known[0]
    trade.taker_known = known[1]
    for k in range(2):
        trade.maker_order_id[k] = order_ids[0, k]
        trade.taker_order_id[k] = order_ids[1, k]
    return True


@njit(cache=True)
def _fill_quote(quote, i, integers, floats):  # type: ignore[no-untyped-def]
    quote.at = i
    quote.code = integers[CODE]
    quote.ts_event = integers[TS_EVENT]
    quote.sequence = integers[SEQUENCE]
    quote.side = integers[SIDE]
    quote.bid_price = floats[BID_PRICE]
    quote.bid_size = floats[BID_SIZE]
    quote.ask_price = floats[ASK_PRICE]
    quote.ask_size = floats[ASK_SIZE]
    quote.last_price = floats[LAST_PRICE]
    quote.last_size = floats[LAST_SIZE]


@njit(cache=True)
def _fill_derivative(derivative, i, integers, floats):  # type: ignore[no-untyped-def]
    derivative.at = i
    derivative.code = integers[CODE]
    derivative.ts_event = integers[TS_EVENT]
    derivative.mark_price = floats[MARK_PRICE]
    derivative.index_price = floats[INDEX_PRICE]
    derivative.open_interest = floats[OPEN_INTEREST]
    derivative.funding_rate = floats[FUNDING_RATE]
    derivative.predicted_funding_rate = floats[PREDICTED_FUNDING_RATE]
    derivative.next_funding_time = integers[NEXT_FUNDING_TIME]


@njit(cache=True)
def _fill_book(book, i, integers, kind, levels):  # type: ignore[no-untyped-def]
    book.at = i
    book.code = integers[CODE]
    book.kind = CHANGE if kind & BOOK else SNAPSHOT
    book.ts_event = integers[TS_EVENT]
    book.first_sequence = integers[FIRST_SEQUENCE]
    book.sequence = integers[SEQUENCE]
    book.previous_sequence = integers[PREVIOUS_SEQUENCE]
    book.checksum = integers[CHECKSUM_VALUE]
    book.levels = levels


@njit(cache=True)
def _literal(at, step, literals):  # type: ignore[no-untyped-def]
    """The address after the literal of a step, 0 where it does not stand here."""
    if (word_at(at) ^ step.head) & step.mask:
        return 0
    length = step.length
    if length > 8:
        if word_at(at + length - 8) != step.tail:
            return 0
        for done in range(8, length - 8, 8):
            if word_at(at + done) != word_at(literals + step.start + done):
                return 0
    return at + length


@njit(cache=True)
def _choice(at, words, first, last):  # type: ignore[no-untyped-def]
    for k in range(first, last):
        word = words[k]
        if (word_at(at) ^ word.word) & word.mask == 0:
            return at + word.length, word.value
    return 0, 0


@njit(cache=True)
def _code(at, end, which, names, name_text, slots):  # type: ignore[no-untyped-def]
    """The code of a name in that list, -1 when there is none."""
    slot = (hash_of(at, end) + which) & (len(slots) - 1)
    while slots[slot] >= 0:
        name = names[slots[slot]]
        if name.list == which and name.length == end - at and is_same(at, end, address_of(name_text) + name.start):
            return name.code
        slot = (slot + 1) & (len(slots) - 1)
    return -1


@njit(cache=True)
def fill_slots(names, name_text, slots):  # type: ignore[no-untyped-def]
    """Put the numbers of names where `_code` looks for them; the number of slots is a power of two."""
    slots[:] = -1
    for number in range(len(names)):
        name = names[number]
        begin = address_of(name_text) + name.start
        slot = (hash_of(begin, begin + name.length) + name.list) & (len(slots) - 1)
        while slots[slot] >= 0:
            slot = (slot + 1) & (len(slots) - 1)
        slots[slot] = number
