"""The promises, once faults have ended and everything is at rest."""

from typing import Any

from actors.aggregation.bars import rebuilt
from actors.placement import shard_of
from actors.stored_bars import STORED, stored_trades, whole
from storage.column_reader import ColumnReader
from tests.dst.exchange import TICK, UNIT
from tests.dst.world import EXCHANGE, World

_ALWAYS = 1 << 62
#: Bars of the others are made the same way.
_TIMEFRAMES = ("1s", "1m", "1d")
_BAR = ("time", "open", "high", "low", "close", "volume", "quote_volume", "trade_count", "buy_volume")


async def running(world: World) -> None:
    """Books are the exchange's; bars are those of the trades."""
    for batch in await world.collector.call("book", (None, None)):
        for depth in batch.to_pylist():
            made = world.exchange.markets[depth["symbol"]].best()
            for name, expected in zip(("bids", "asks"), made, strict=True):
                levels = [(round(level["price"] * TICK), round(level["size"] * UNIT)) for level in depth[name]]
                if levels != expected:
                    world.fail(f"the book of {depth['symbol']} has other {name}: {levels} instead of {expected}")
    for symbol in world.plan.symbols:
        shard = world.shards[shard_of(EXCHANGE, symbol, world.plan.shards)]
        trades = _stored(world, symbol)
        for timeframe in _TIMEFRAMES:
            expected = rebuilt(trades, timeframe).select(_BAR).to_pylist()
            found = await shard.call("bars", (EXCHANGE, symbol, timeframe, 1000))
            bars = found.select(_BAR).to_pylist()
            if bars != expected[-len(bars) :] or not bars:
                world.fail(f"{symbol}: bars of {timeframe} are not those of its trades: {_first(bars, expected)}")


async def stopped(world: World) -> None:
    """Everything is stopped, the power cut, and read again."""
    before = [await shard.call("integrity", (None,)) for shard in world.shards]
    await world.collector.call("stop")
    for shard in world.shards:
        await shard.call("stop")
    for task in world._tasks:
        task.cancel()
    if not await world.database.call("flush", (60.0,)):
        world.fail("ClickHouse does not get what waits for it")
    await world.database.call("stop")
    for actor in world.actors:
        world._kill(actor)
    world.say(f"stopped; the power is cut: {world.disk.cut_power()}")
    for symbol in world.plan.symbols:
        trades = _stored(world, symbol)
        _check_trades(world, symbol, before, trades)
        _check_clickhouse(world, symbol, before, trades)


def _check_trades(world: World, symbol: str, integrity: list[Any], trades: Any) -> None:
    own = next((row for rows in integrity for row in rows if row["symbol"] == symbol), None)
    if own is None:
        world.fail(f"{symbol}: no ledger knows it")
        return
    made = {trade.trade_id: trade for trade in world.exchange.markets[symbol].trades}
    ids = trades.column("trade_id").to_pylist()
    if len(set(ids)) < len(ids):
        world.fail(f"{symbol}: {len(ids) - len(set(ids))} trades are stored twice")
    promised = {number for number in made if number >= own["first_id"]}
    if lost := promised - set(ids):
        world.fail(f"{symbol}: {len(lost)} trades are not stored and no gap is open: {sorted(lost)[:5]}")
    if own["trades"] != len(promised) or own["missing"]:
        world.fail(f"{symbol}: the ledger counts {own['trades']} trades of {len(promised)}, missing {own['missing']}")
    columns = (trades.column(name).to_pylist() for name in ("trade_id", "ts_event", "price", "size", "side"))
    for number, *row in zip(*columns, strict=True):
        trade = made.get(number)
        expected = trade and [trade.ms * 1_000_000, trade.price / TICK, trade.size / UNIT, int(trade.sell)]
        if row != expected:
            world.fail(f"{symbol}: trade {number} is stored as {row}, made as {expected}")
            return
    keys = list(zip(trades.column("ts_event").to_pylist(), ids, strict=True))
    if keys != sorted(keys):
        world.fail(f"{symbol}: trades are not in order")


def _check_clickhouse(world: World, symbol: str, integrity: list[Any], stored: Any) -> None:
    ids = set(stored.column("trade_id").to_pylist())
    there = {number for name, number in world.clickhouse.tables["trades"] if name == symbol}
    if world.power_cuts:
        # What was never synced may have been the first there was.
        first = next(row["first_id"] for rows in integrity for row in rows if row["symbol"] == symbol)
        made = {trade.trade_id for trade in world.exchange.markets[symbol].trades}
        there = {number for number in there if number >= first or number in ids or number not in made}
    if more := there - ids:
        world.fail(f"{symbol}: ClickHouse has {len(more)} trades that are in no file: {sorted(more)[:5]}")
    if less := {number for number in ids - there if (symbol, number) not in world.excused}:
        world.fail(f"{symbol}: ClickHouse lacks {len(less)} trades: {sorted(less)[:5]}")
    if world.bars_lost:
        return
    for timeframe in _TIMEFRAMES:
        expected = rebuilt(stored, timeframe).select(_BAR).to_pylist()
        rows = world.clickhouse.tables["bars"].items()
        kept = sorted((key[2], row) for key, row in rows if key[:2] == (symbol, timeframe))
        found = [{name: row[name] for name in _BAR} for _, row in kept]
        if found != expected:
            world.fail(f"{symbol}: ClickHouse has other bars of {timeframe}: {_first(found, expected)}")
            return


def _stored(world: World, symbol: str) -> Any:
    reader = ColumnReader(world.settings.columns, rescan_s=0)
    return whole(stored_trades(symbol, reader.select(EXCHANGE, symbol, "TRADES", 0, _ALWAYS, STORED)))


def _first(found: list[Any], expected: list[Any]) -> str:
    """Where two lists of bars begin to differ."""
    known = {row["time"]: row for row in found}
    for row in expected:
        if (other := known.get(row["time"])) != row:
            return f"{other} instead of {row}; {len(found)} bars, {len(expected)} expected"
    return f"{len(found)} bars, {len(expected)} expected"
