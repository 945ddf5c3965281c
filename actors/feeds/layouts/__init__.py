"""Frames whose layout is known to the byte, read by one compiled pass straight into columns; see `known`."""

from actors.feeds.layouts.known import (
    BOOK,
    BOOK_SNAPSHOT,
    DERIVATIVE,
    HISTORY,
    IGNORED,
    QUOTE,
    TRADE,
    KnownLayouts,
    Layout,
)

__all__ = ["BOOK", "BOOK_SNAPSHOT", "DERIVATIVE", "HISTORY", "IGNORED", "QUOTE", "TRADE", "KnownLayouts", "Layout"]
