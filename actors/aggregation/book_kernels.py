"""The compiled pass that applies book messages to the books of one connection.

Where a region or the buffer is full the pass stops before anything is lost; the caller (`actors.aggregation.books`)
makes room or refuses it, and the pass goes on where it stopped.
"""

import numpy as np
from numba import njit

from actors.aggregation.book_checksums import (
    DIFFERS,
    MATCHES,
    NO_CHECKSUM_RULE,
    TEXT_ROOM,
    UNKNOWN,
    crc_of_level,
    verify,
)
from actors.aggregation.book_levels import NO_FREE_PLACE, NOT_THERE, cut, is_crossed, load_side, set_level
from actors.aggregation.book_records import (
    AWAITS,
    BROKEN_MESSAGE,
    BUFFER_REFUSED,
    CROSSED,
    DONE,
    FITS,
    GAPPED,
    HOLE,
    NEEDS_BUFFER,
    NEEDS_REGION,
    NEXT,
    NO_CHAIN,
    NO_REASON,
    NO_ROOM,
    NO_SEQUENCE,
    NOTHING,
    PREVIOUS,
    RANGE,
    REGION_REFUSED,
    SILENT,
    STALE,
    STAYED_CROSSED,
    SYNCED,
    SYNCING,
    TOO_OLD,
    WRONG_CHECKSUM,
)
from storage.schema import BROKEN, CHANGE, SNAPSHOT


@njit(cache=True)
def apply_messages(messages, store, rules, tables, requested, now, progress_row, events):  # type: ignore[no-untyped-def]
    """Apply `messages` in order, from where `progress_row[0]` stands; gives how it ended. `events` has a row for each.

    `requested`: the snapshots among them were asked for, so they say nothing about the place in the stream.
    """
    # numba counts references to what it takes out of a tuple: here once, not in the loop.
    book_of, kinds, ts_event, ts_recv, first, sequences, previous, checksums, begins, ends = messages[:10]
    level_side, price, size, price_decimals, size_decimals = messages[10:]
    books, sides, levels, held = store[:4]
    keys, sizes, crcs, lengths = levels
    byte, shift, power = tables
    text = np.empty(TEXT_ROOM, np.uint8)
    progress = progress_row[0]
    for i in range(progress.message, len(kinds)):
        progress.message = i
        number = book_of[i]
        if number < 0:
            progress.strangers += 1
            continue
        book, bids, asks = books[number], sides[2 * number], sides[2 * number + 1]
        kind, sequence, level, end = kinds[i], sequences[i], progress.level, ends[i]
        reason, expected, found = NO_REASON, NOTHING, NOTHING
        loaded, changes, repeated = False, level >= 0, False
        if not changes:
            # Nothing of this message is done yet, so this is the place to stop.
            level = begins[i]
            if rules.holds and not progress.refused & BUFFER_REFUSED:
                room = len(held.kind) - progress.held_messages, len(held.price) - progress.held_levels
                if room[0] < 1 or room[1] < end - level:
                    progress.needed = end - level
                    return NEEDS_BUFFER
            if not _is_sensible(price, size, level_side, level, end):
                kind = BROKEN
            if kind == SNAPSHOT and not progress.refused & REGION_REFUSED:
                for row in range(2 * number, 2 * number + 2):
                    progress.side, progress.needed = row, np.sum(level_side[level:end] == row % 2)
                    if progress.needed > sides[row].capacity:
                        return NEEDS_REGION
            book.heard_at, book.silent = now, False
            book.ts_event, book.ts_recv = ts_event[i], ts_recv[i]
            if kind == BROKEN:
                reason = BROKEN_MESSAGE
                book.heard, book.doubtful = NOTHING, True
                if book.floor != NOTHING:
                    book.floor += 1
                _let_go_all(book)
            elif kind == SNAPSHOT and progress.refused & REGION_REFUSED:
                reason = NO_ROOM
            elif kind == SNAPSHOT:
                loaded = True
                load_side(messages, level, end, 0, levels, bids, rules.checksum, text, tables)
                load_side(messages, level, end, 1, levels, asks, rules.checksum, text, tables)
                book.state = SYNCED
                book.epoch += 1
                book.sequence, book.ahead, book.doubtful = sequence, requested, False
                if not requested:
                    book.heard = book.floor = sequence
            elif kind == CHANGE and rules.chain == RANGE and NOTHING < sequence <= book.heard:
                # Said before: the exchange tells us to pass over it, and a journal of two connections holds it twice.
                book.older += 1
                repeated = True
            elif kind == CHANGE:
                expected, found = _hole(book, rules.chain, previous[i], first[i], sequence)
                book.heard = sequence
                if sequence != NOTHING:
                    book.floor = sequence
                if found != NOTHING:
                    reason = HOLE
                    _let_go_all(book)
                elif book.state == SYNCED:
                    if book.ahead and NOTHING < sequence <= book.sequence:
                        book.older += 1
                    else:
                        book.ahead = False
                        changes = True
        if changes:
            for j in range(level, end):
                if progress.refused & REGION_REFUSED:
                    reason = NO_ROOM
                    break
                crc, length = 0, 0
                if rules.checksum != NO_CHECKSUM_RULE and size[j] != 0.0:
                    crc, length = crc_of_level(
                        rules.checksum,
                        level_side[j],
                        price[j],
                        price_decimals[j],
                        size[j],
                        size_decimals[j],
                        text,
                        byte,
                        power,
                    )
                is_bid = level_side[j] == 0
                side, key = (bids, price[j]) if is_bid else (asks, -price[j])
                outcome = set_level(keys, sizes, crcs, lengths, side, key, size[j], crc, length)
                if outcome == NO_FREE_PLACE:
                    progress.level = j
                    progress.side, progress.needed = 2 * number + level_side[j], side.count + 1
                    return NEEDS_REGION
                book.unknown_removals += outcome == NOT_THERE
            if sequence != NOTHING:
                book.sequence = sequence
        if changes or loaded:
            book.messages += 1
            book.changed = True
            if rules.depth > 0:
                cut(bids, rules.depth)
                cut(asks, rules.depth)
            if not is_crossed(bids, asks, keys):
                book.crossed_since = 0
            elif book.crossed_since == 0:
                book.crossed_since = max(book.ts_recv, 1)
        if (
            rules.checksum != NO_CHECKSUM_RULE
            and reason == NO_REASON
            and book.state == SYNCED
            and checksums[i] != NOTHING
        ):
            outcome = verify(
                rules.checksum,
                checksums[i],
                crcs,
                lengths,
                (bids.first, bids.first + bids.count),
                (asks.first, asks.first + asks.count),
                byte,
                shift,
            )
            book.checksums += outcome == MATCHES
            book.checksums_unknown += outcome == UNKNOWN
            if outcome == DIFFERS:
                book.checksum_failures += 1
                reason, expected = WRONG_CHECKSUM, checksums[i]
        failed = reason != NO_REASON and (book.state == SYNCED or reason == NO_ROOM)
        if failed:
            _fail(book, bids, asks)
        begins_now = False
        if rules.holds and kind == CHANGE and not repeated and book.state != SYNCED:
            begins_now = book.unheard
            if book.state == STALE:
                book.state = SYNCING
            _hold(messages, i, store, book, progress)
        book.unheard = False
        _report(book, number, reason, expected, found, loaded, failed or begins_now, events, progress)
        progress.level, progress.refused = -1, 0
    return DONE


@njit(cache=True)
def _report(book, number, reason, expected, found, loaded, notable, events, progress):  # type: ignore[no-untyped-def]
    shown = _shown_state(book)
    if shown == book.shown and not loaded and not notable:
        return
    event = events[progress.events]
    progress.events += 1
    event.book, event.epoch, event.ts_recv = number, book.epoch, book.ts_recv
    event.state, event.awaits, event.loaded = shown & ~AWAITS, shown & AWAITS != 0, loaded
    event.reason = CROSSED if reason == NO_REASON and shown == GAPPED else reason
    event.expected, event.found = expected, found
    book.shown = shown
    book.changed = True


@njit(cache=True)
def _shown_state(book):  # type: ignore[no-untyped-def]
    """The state a book is reported in, plus `AWAITS` while it needs a snapshot."""
    if book.state != SYNCED:
        return book.state + AWAITS
    if book.crossed_since != 0:
        return GAPPED
    return STALE if book.silent else SYNCED


@njit(cache=True)
def report_all(store, reason, progress_row, events):  # type: ignore[no-untyped-def]
    """An event for each book whose state is not the one last reported; `events` has a row for each book."""
    for number in range(len(store.books)):
        if store.books[number].used:
            _report(store.books[number], number, reason, NOTHING, NOTHING, False, False, events, progress_row[0])


@njit(cache=True)
def expire(store, silent_before, crossed_before, progress_row, events):  # type: ignore[no-untyped-def]
    """Take trust from books without a message since `silent_before` (s) or crossed since `crossed_before` (ns)."""
    for number in range(len(store.books)):
        book = store.books[number]
        if not book.used or book.state != SYNCED:
            continue
        reason = NO_REASON
        stays_crossed = 0 < book.crossed_since < crossed_before
        if stays_crossed:
            _fail(book, store.sides[2 * number], store.sides[2 * number + 1])
            reason = STAYED_CROSSED
        elif book.heard_at < silent_before:
            book.silent = True
            reason = SILENT
        _report(book, number, reason, NOTHING, NOTHING, False, stays_crossed, events, progress_row[0])


@njit(cache=True)
def place_of(sequence, chain, book, store):  # type: ignore[no-untyped-def]
    """Whether a requested snapshot of this sequence joins the messages held for its book without a hole."""
    if sequence == NOTHING:
        return NO_SEQUENCE
    if book.held == 0:
        return TOO_OLD if book.doubtful or book.floor > sequence else FITS
    i = book.held_first
    for _ in range(book.held):
        # The first message that says more than the snapshot must not begin behind it.
        if store.held.sequence[i] > sequence:
            begins = store.held.first_sequence[i] - 1
            if chain == PREVIOUS:
                begins = store.held.previous_sequence[i]
            elif chain == NEXT:
                begins = store.held.sequence[i] - 1
            return TOO_OLD if begins > sequence else FITS
        i = store.held_next[i]
    return FITS


@njit(cache=True)
def _hole(book, chain, previous, first, sequence):  # type: ignore[no-untyped-def]
    """What was expected and what came instead; `NOTHING` came where there is no evidence of a hole."""
    found, step = previous, 0
    if chain == RANGE:
        found, step = first, 1
    elif chain == NEXT:
        found, step = sequence, 1
    elif chain == NO_CHAIN:
        return NOTHING, NOTHING
    if found != NOTHING and book.heard != NOTHING and found != book.heard + step:
        return book.heard + step, found
    # The first message after a requested snapshot may reach back before it, not begin behind it.
    if book.state == SYNCED and book.ahead and found > book.sequence + step:
        return book.sequence + step, found
    return NOTHING, NOTHING


@njit(cache=True)
def _fail(book, bids, asks):  # type: ignore[no-untyped-def]
    """What is known to be wrong is not kept."""
    if book.state == SYNCED:
        book.gaps += 1
    book.state = GAPPED
    book.crossed_since = 0
    bids.count = asks.count = 0


@njit(cache=True)
def _is_sensible(price, size, side, begin, end):  # type: ignore[no-untyped-def]
    sensible = True
    for j in range(begin, end):
        sensible &= 0.0 < price[j] < np.inf and 0.0 <= size[j] < np.inf and side[j] < 2
    return sensible


@njit(cache=True)
def _hold(messages, i, store, book, progress):  # type: ignore[no-untyped-def]
    """Keep a message until the snapshot comes; the oldest give way."""
    if progress.refused & BUFFER_REFUSED:
        book.not_held += book.held + 1
        _let_go_all(book)
        return
    while book.held >= book.hold:
        oldest = book.held_first
        book.held_first = store.held_next[oldest]
        book.held -= 1
        book.held_levels -= store.held.end[oldest] - store.held.begin[oldest]
        book.not_held += 1
    _copy_message(messages, i, store.held, progress)
    number = progress.held_messages - 1
    if book.held == 0:
        book.held_first = number
    else:
        store.held_next[book.held_last] = number
    book.held_last = number
    book.held += 1
    book.held_levels += messages.end[i] - messages.begin[i]


@njit(cache=True)
def _let_go_all(book):  # type: ignore[no-untyped-def]
    book.held = 0
    book.held_levels = 0


@njit(cache=True)
def _copy_message(source, i, target, progress):  # type: ignore[no-untyped-def]
    """Append a message to the first `progress.held_messages` and `held_levels` of `target`."""
    to, level = progress.held_messages, progress.held_levels
    target.book[to] = source.book[i]
    target.kind[to] = source.kind[i]
    target.ts_event[to] = source.ts_event[i]
    target.ts_recv[to] = source.ts_recv[i]
    target.first_sequence[to] = source.first_sequence[i]
    target.sequence[to] = source.sequence[i]
    target.previous_sequence[to] = source.previous_sequence[i]
    target.checksum[to] = source.checksum[i]
    target.begin[to] = level
    for j in range(source.begin[i], source.end[i]):
        target.side[level] = source.side[j]
        target.price[level] = source.price[j]
        target.size[level] = source.size[j]
        target.price_decimals[level] = source.price_decimals[j]
        target.size_decimals[level] = source.size_decimals[j]
        level += 1
    target.end[to] = level
    progress.held_messages, progress.held_levels = to + 1, level


@njit(cache=True)
def copy_held(store, numbers, target, target_next, progress_row):  # type: ignore[no-untyped-def]
    """Append the messages held for these books to `target`, where the books find them from now on."""
    progress = progress_row[0]
    for number in numbers:
        book = store.books[number]
        i = book.held_first
        book.held_first = progress.held_messages
        for _ in range(book.held):
            _copy_message(store.held, i, target, progress)
            target_next[progress.held_messages - 1] = progress.held_messages
            i = store.held_next[i]
        book.held_last = progress.held_messages - 1


@njit(cache=True)
def copy_levels(store, rows, offsets, price, size):  # type: ignore[no-untyped-def]
    """The best levels of sides `rows`, best first: as many of each as `offsets` has room for."""
    for n in range(len(rows)):
        side = store.sides[rows[n]]
        for i in range(offsets[n + 1] - offsets[n]):
            place = side.first + side.count - 1 - i
            key = store.levels.key[place]
            price[offsets[n] + i] = key if rows[n] % 2 == 0 else -key
            size[offsets[n] + i] = store.levels.size[place]
