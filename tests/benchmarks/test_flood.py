import numpy as np

from actors.feeds.binance import Binance
from benchmarks.flood import BLOCK_FRAMES, SYMBOLS, Block, numbers, prices

TIME_MS = 1_800_000_000_123


def test_blocks_of_a_flood_are_trades_with_consecutive_ids() -> None:
    block = Block()
    feed = Binance(SYMBOLS, "ws://127.0.0.1")
    for number in (0, 1, 314):
        # A text message of 126 to 65535 bytes starts with 0x81 0x7e and its length in two bytes.
        frames = [message[2:] for message in block.numbered(number, TIME_MS).split(b"\x81\x7e")[1:]]
        decoded = feed.decode(frames, np.full(BLOCK_FRAMES, TIME_MS * 1_000_000))
        ids = decoded.trades["trade_id"].to_numpy()
        assert not decoded.rejected
        assert (numbers(ids) == number * BLOCK_FRAMES + np.arange(BLOCK_FRAMES)).all()
        assert (decoded.trades["price"].to_numpy() == prices(ids)).all()
        assert (decoded.trades["ts_event"].to_numpy() == TIME_MS * 1_000_000).all()
