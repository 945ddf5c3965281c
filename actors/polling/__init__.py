"""Bars from REST providers of stock prices: the decisions and the wire formats, pure; `market_poller.py` carries them
out. Times are passed in: `now` is seconds of a steady clock, `clock_ns` ns since the epoch, UTC.
"""
