// The pure parts of the pages, run by `node --test` (see tests/serve_apps/test_web_sources.py).
import assert from "node:assert/strict";
import { test } from "node:test";
import { BarStore, FIELDS, type Block, type Field } from "../src/chart/bar_store.ts";
import { readColumns } from "../src/chart/binary.ts";
import { asOf, candles, factorFor, lastOfEach, windowFor } from "../src/chart/candles.ts";
import { readLevels } from "../src/chart/levels.ts";
import { OpenBar } from "../src/chart/open_bar.ts";
import { MOST_TRADES } from "../src/chart/bars_source.ts";
import { Series } from "../src/chart/series.ts";
import type { Message } from "../src/live/feed.ts";
import { found } from "../src/chart/symbol_search.ts";
import { atLatest, latest, moved, showsLatest, zoomed } from "../src/chart/view.ts";
import { moment, readSummary } from "../src/home/summary.ts";
import { covers, parts } from "../src/live/topics.ts";
import { backOff, Refused } from "../src/requests.ts";
import { Ring } from "../src/ring.ts";
import { path } from "../src/sparkline.ts";
import { en } from "../src/texts/en.ts";
import { vi } from "../src/texts/vi.ts";

function block(times: number[], closes = times, indicators: Record<string, number[]> = {}): Block {
  const fields = Object.fromEntries(FIELDS.map((field) => [field, Float64Array.from(field === "time" ? times : closes)]));
  return { fields: fields as Record<Field, Float64Array>, indicators: new Map(Object.entries(indicators).map(([name, values]) => [name, Float64Array.from(values)])) };
}

function bar(time: number, close: number): Record<Field, number> {
  return { time, open: close, high: close, low: close, close, volume: 1 };
}

test("both languages have the same keys, and neither has an empty text", () => {
  assert.deepEqual(Object.keys(en).sort(), Object.keys(vi).sort());
  for (const table of [en, vi]) for (const [key, said] of Object.entries(table)) assert.notEqual(said.trim(), "", key);
});

test("a text names the same values in both languages", () => {
  const values = (said: string): string[] => (said.match(/\{\w+\}/g) ?? []).sort();
  for (const key of Object.keys(en) as (keyof typeof en)[]) assert.deepEqual(values(vi[key]), values(en[key]), key);
});

test("bars keep their place when older ones come before them", () => {
  const store = new BarStore();
  store.replace(block([30, 40]));
  const place = store.place(40);
  store.prepend(block([10, 20]));
  assert.equal(store.at(place)?.time, 40);
  assert.equal(store.at(store.begin)?.time, 10);
  assert.deepEqual([...store.column("time")], [10, 20, 30, 40]);
});

test("the oldest bars are forgotten, and the others stay where they are", () => {
  const store = new BarStore();
  store.replace(block([10, 20, 30, 40], [1, 2, 3, 4], { rsi: [50, 60, 70, 80] }));
  const place = store.place(30);
  store.forget(2);
  assert.equal(store.at(place)?.close, 3);
  assert.deepEqual([store.begin, store.end, store.length], [2, 4, 2]);
  assert.ok(store.put(bar(50, 5)));
  assert.deepEqual([...store.column("time")], [30, 40, 50]);
  assert.deepEqual([...store.indicator("rsi")!], [70, 80, NaN]);
  store.prepend(block([20]));
  assert.equal(store.at(place)?.time, 30);
});

test("a chart of trades that is left open has a bounded number of them", async () => {
  const loaded = MOST_TRADES;
  const head = JSON.stringify({
    columns: [["time", 4], ["nanos", 4], ["id", 8], ["price64", 8], ["size64", 8]].map(([name, size]) => ({ name, record_size: size, data_length: loaded * Number(size) })),
  });
  const whole = (value: (at: number) => number): ArrayBuffer => Uint32Array.from({ length: loaded }, (_, at) => value(at)).buffer;
  const floats = new Float64Array(loaded).fill(7).buffer;
  const ids = BigUint64Array.from({ length: loaded }, (_, at) => BigInt(at)).buffer;
  const body = new Blob([`${head}\n`, whole((at) => 1_000 + Math.floor(at / 1000)), whole((at) => (at % 1000) * 1000), ids, floats, floats]);
  const fetched = globalThis.fetch;
  globalThis.fetch = async () => new Response(body);
  try {
    let heard: ((message: Message) => void) | undefined;
    const feed = { subscribe: (_: string, __: number, { update }: { update: (message: Message) => void }) => ((heard = update), () => undefined) };
    const { promise: drawn, resolve } = Promise.withResolvers<void>();
    const watcher = { replaced: resolve, refilled: () => undefined, moved: () => undefined, problem: () => undefined };
    const store = new BarStore();
    const series = new Series({ exchange: "binance", symbol: "BTCUSDT" } as never, "trades", store, feed as never, watcher);
    await drawn;
    await Promise.resolve();
    assert.equal(store.length, loaded);
    const newest = store.last!.time;
    const told = (from: number, count: number): unknown[] =>
      Array.from({ length: count }, (_, at) => ({ ts_event: newest * 1e6 + (from + at) * 1000, trade_id: loaded + from + at, price: 8, size: 1, side: "buy" }));
    const say = (data: unknown[]): void => heard!({ topic: "trades", type: "update", data } as never);
    // What was loaded is known by its id.
    say([{ ts_event: newest * 1e6, trade_id: loaded - 1, price: 7, size: 7, side: "buy" }]);
    assert.equal(store.length, loaded);
    say(told(1, loaded / 4));
    assert.equal(store.length, loaded * 1.25);
    const before = store.end;
    say(told(1 + loaded / 4, 10));
    assert.deepEqual([store.length, store.end, store.last!.close], [loaded + 9, before + 10, 8]);
    series.end();
  } finally {
    globalThis.fetch = fetched;
  }
});

test("bars are added at the end, replaced where they are, and merged in between", () => {
  const store = new BarStore();
  store.replace(block([10, 30], [1, 3], { rsi: [50, 60] }));
  assert.ok(store.put(bar(40, 4)));
  assert.ok(store.put(bar(30, 33)));
  assert.equal(store.put(bar(20, 2)), false);
  store.merge(block([20], [2]));
  assert.deepEqual([...store.column("time")], [10, 20, 30, 40]);
  assert.deepEqual([...store.column("close")], [1, 2, 33, 4]);
  assert.deepEqual([...store.indicator("rsi")!], [50, NaN, 60, NaN]);
  assert.ok(store.putIndicators(20, { rsi: 55, other: 1 }));
  assert.equal(store.indicator("rsi")![1], 55);
  store.merge(block([30, 40, 50], [3, 4, 5], { rsi: [61, 62, NaN] }));
  assert.deepEqual([...store.indicator("rsi")!], [50, 55, 61, 62, NaN]);
});

test("a store grows one bar at a time without losing any, and shares the column of prices that are one", () => {
  const store = new BarStore();
  const prices = Float64Array.from([1, 2]);
  store.replace({ fields: { time: Float64Array.from([1, 2]), open: prices, high: prices, low: prices, close: prices, volume: Float64Array.from([1, 1]) }, indicators: new Map() });
  for (let time = 3; time <= 5000; time++) assert.ok(store.put(bar(time, time)));
  assert.equal(store.length, 5000);
  assert.ok(store.column("high").every((value, at) => value === at + 1));
  assert.equal(store.column("high").buffer, store.column("low").buffer);
  assert.notEqual(store.column("high").buffer, store.column("time").buffer);
});

test("candles of a window have the extremes of all their bars, whatever their number", () => {
  const store = new BarStore();
  const random = (seed: number): number => ((seed * 16807) % 2147483647) / 2147483647;
  const closes = Array.from({ length: 1000 }, (_, at) => random(at + 1));
  store.replace(block(closes.map((_, at) => at), closes));
  store.prepend(block([-3, -2, -1], [5, 0.5, -5]));
  const window = windowFor(store, store.begin, store.end, 100);
  assert.equal(window.factor, 16);
  const made = candles(store, window);
  assert.equal(Math.max(...made.map(({ high }) => high)), 5);
  assert.equal(Math.min(...made.map(({ low }) => low)), -5);
  assert.equal(made.reduce((sum, { volume }) => sum + volume, 0).toFixed(9), store.column("volume").reduce((sum, one) => sum + one, 0).toFixed(9));
  assert.deepEqual([made[0]!.open, made.at(-1)!.close], [5, closes.at(-1)]);
});

test("a window is kept while it has what is seen, and is bounded by the screen whatever is stored", () => {
  const store = new BarStore();
  const times = Array.from({ length: 200_000 }, (_, at) => at);
  store.replace(block(times));
  const first = windowFor(store, 100_000, 100_200, 1000);
  assert.equal(windowFor(store, 100_050, 100_250, 1000, first), first);
  const next = windowFor(store, 101_000, 101_200, 1000, first);
  assert.notEqual(next, first);
  assert.ok(next.first <= 101_000 && next.first + next.count >= 101_200);
  for (const bars of [10, 300, 5000, 80_000, 200_000]) {
    const window = windowFor(store, 200_000 - bars, 200_000, 1000);
    assert.ok(window.count < 3000, `${window.count} candles for ${bars} bars`);
  }
  assert.equal(factorFor(600, 1000, 1), 1);
  assert.equal(factorFor(100_000, 1000, 1), 256);
  assert.equal(factorFor(100, 1000, 64), 1);
});

test("values go with the candle they end in, and another symbol's with the time they were known at", () => {
  const store = new BarStore();
  store.replace(block([0, 1, 2, 3, 4, 5]));
  const window = { factor: 4, first: 0, count: 2 };
  assert.deepEqual([...lastOfEach(store, Float64Array.from([1, 2, 3, NaN, NaN, NaN]), window)], [3, NaN]);
  assert.deepEqual([...asOf(Float64Array.from([1, 5, 9]), Float64Array.from([2, 5, 6]), Float64Array.from([20, 50, 60]))], [NaN, 50, 60]);
});

test("the view is moved and zoomed within the bars, and follows the newest", () => {
  const extent = { begin: 0, end: 1000 };
  const view = latest(extent, 800, 8);
  assert.equal(view.to - view.from, 100);
  assert.ok(showsLatest(view, extent));
  assert.ok(!showsLatest(moved(view, -50, extent), extent));
  assert.deepEqual(atLatest(moved(view, -500, extent), extent), view);
  const far = moved(view, -1e9, extent);
  assert.ok(far.to > 0 && far.from < 0 && far.to - far.from === 100);
  const wide = zoomed(view, 2, 950, extent);
  const at = (950 - wide.from) / (wide.to - wide.from);
  assert.equal(at.toFixed(9), ((950 - view.from) / (view.to - view.from)).toFixed(9));
  const all = zoomed(view, 1e9, 950, extent);
  assert.equal(Math.round(all.to - all.from), 1150);
  assert.equal(zoomed(view, 1e-9, 950, extent).to - zoomed(view, 1e-9, 950, extent).from, 8);
});

test("a trade moves the open bar at once, and what the server says of it later does not take that back", () => {
  const open = new OpenBar(60_000);
  const known = bar(60_000, 10);
  const after = open.withTrade(known, { ns: 61e9, id: 1, price: 12, size: 2, side: "buy" }, 1000)!;
  assert.deepEqual([after.high, after.low, after.close, after.volume], [12, 10, 12, 1]);
  const said = { ...bar(60_000, 11), volume: 5 };
  const merged = open.asSaid(after, said, false, 1100);
  assert.deepEqual([merged.high, merged.low, merged.close, merged.volume], [12, 10, 12, 5]);
  assert.equal(open.asSaid(after, said, false, 5000), said);
  assert.equal(open.asSaid(after, said, true, 1100), said);
  assert.equal(open.withTrade(after, { ns: 59e9, id: 0, price: 1, size: 1, side: "sell" }, 1200), undefined);
  const late = open.withTrade(after, { ns: 60.5e9, id: 0, price: 9, size: 1, side: "sell" }, 1300)!;
  assert.deepEqual([late.low, late.close], [9, 12]);
  assert.equal(open.withTrade(late, { ns: 120e9, id: 2, price: 20, size: 1, side: "buy" }, 1400)!.time, 120_000);
});

test("binary answers are read as they are, and one that is cut off is refused", async () => {
  const head = JSON.stringify({ columns: [{ name: "time", record_size: 4, data_length: 8 }, { name: "close", record_size: 8, data_length: 16 }], next_before: 7 });
  const body = new Uint8Array([...new TextEncoder().encode(`${head}\n`), ...new Uint8Array(Uint32Array.of(1, 2).buffer), ...new Uint8Array(Float64Array.of(1.5, NaN).buffer)]);
  const { head: said, columns } = readColumns(body.buffer);
  assert.equal(said["next_before"], 7);
  assert.deepEqual([...columns.get("time")!], [1, 2]);
  assert.deepEqual([...columns.get("close")!], [1.5, NaN]);
  const ids = [7n, 2n ** 53n + 1n, 2n ** 63n - 1n];
  const ofIds = new Blob([JSON.stringify({ columns: [{ name: "id", record_size: 8, data_length: 24 }] }), "\n", BigUint64Array.from(ids)]);
  assert.deepEqual([...readColumns(await ofIds.arrayBuffer()).columns.get("id")!], ids.map(Number));
  assert.throws(() => readColumns(body.slice(0, -3).buffer), SyntaxError);
  assert.throws(() => readColumns(new Uint8Array([1, 2]).buffer), SyntaxError);
});

test("topics cover what they name, also symbols with a colon", () => {
  const update = parts("bars:bitfinex:tAAVE:USD:5m");
  assert.deepEqual(update, { topic: "bars", exchange: "bitfinex", symbol: "tAAVE:USD", timeframe: "5m" });
  assert.ok(covers(parts("bars:*:tAAVE*:*"), update));
  assert.ok(!covers(parts("bars:bitfinex:tAAVE:USD"), update));
  assert.ok(covers(parts("integrity"), parts("integrity:okx:BTC-USDT")));
  assert.equal(parts("dashboard:BTC-USDT").symbol, "BTC-USDT");
});

test("one waits longer after each failure, up to a bound, never as long as others, and as long as is asked for", () => {
  assert.deepEqual([1, 2, 3].map((failures) => backOff(failures, undefined, () => 1)), [500, 1000, 2000]);
  assert.equal(backOff(50, undefined, () => 1), 15_000);
  assert.equal(backOff(50, undefined, () => 0), 7500);
  assert.equal(backOff(1, new Refused(503, 20, ""), () => 1), 20_000);
});

test("a ring has the newest, bounded", () => {
  const ring = new Ring<number>(3);
  for (const one of [1, 2, 3, 4, 5]) ring.push(one);
  assert.deepEqual(ring.newest(), [5, 4, 3]);
  assert.deepEqual(ring.newest(2), [5, 4]);
  ring.clear();
  assert.deepEqual(ring.newest(), []);
});

test("a symbol is found by what is typed, whatever its punctuation", () => {
  const symbols = new Map([["binance", ["ETHBTC", "BTCUSDT"]], ["coinbase", ["BTC-USD"]]]);
  assert.deepEqual(found(symbols, "btcusd").map(({ symbol }) => symbol), ["BTCUSDT", "BTC-USD"]);
  assert.deepEqual(found(symbols, "btc").map(({ symbol }) => symbol), ["BTCUSDT", "ETHBTC", "BTC-USD"]);
  assert.deepEqual(found(symbols, "coin usd"), [{ exchange: "coinbase", symbol: "BTC-USD" }]);
});

test("levels of a book add up, and what is no level is left out", () => {
  assert.deepEqual(readLevels([[10, 1], [9, 2], null, ["x", 1]], 10), [{ price: 10, size: 1, total: 1 }, { price: 9, size: 2, total: 3 }]);
  assert.deepEqual(readLevels(null, 10), []);
});

test("figures say their source and age, or that nobody knows them", () => {
  const summary = readSummary({ btc_price_usd: 1.5, fng_value: null, us_stock_indices: { SPY: { price: 5, change: -1, change_percent: -2, status: "closed" } }, fields: { btc_price_usd: { source: "binance", as_of: "2026-01-31T12:00:00Z", stale: true } } });
  assert.deepEqual(summary.figures.get("btc_price_usd"), { value: 1.5, source: "binance", asOf: Date.UTC(2026, 0, 31, 12), stale: true });
  assert.equal(summary.figures.get("fng_value")?.value, undefined);
  assert.deepEqual(summary.stocks, [{ name: "SPY", price: 5, change: -1, ratio: -0.02, status: "closed" }]);
  assert.throws(() => readSummary([]), SyntaxError);
  for (const said of [1769860800, 1769860800e3, 1769860800e6, 1769860800e9, "2026-01-31T12:00:00Z"]) assert.equal(moment(said), Date.UTC(2026, 0, 31, 12));
});

test("a sparkline fits its box", () => {
  assert.equal(path([5]), "");
  assert.equal(path([1, 3, 2]), "M0,26L50,2L100,14");
  assert.equal(path([2, 2]), "M0,14L100,14");
});
