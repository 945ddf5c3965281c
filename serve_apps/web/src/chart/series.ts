// The bars of one symbol, kept up to date: the newest as the live feed has them, all of them as soon as they are loaded,
// then moved by the live feed, and caught up over HTTP whenever that was away. One that is replaced by another just ends.
import type { Instrument } from "../instruments.ts";
import type { LiveFeed, Message } from "../live/feed.ts";
import { backOff, finite, pause, Refused } from "../requests.ts";
import type { Bar, BarStore } from "./bar_store.ts";
import { NOTHING, PRICES } from "./bar_store.ts";
import { loadBars, loadTrades, LONGEST, MOST_TRADES, TIMEFRAMES, TRADES, type Loaded, type LoadedTrades, type Timeframe } from "./bars_source.ts";
import { OpenBar, type Trade } from "./open_bar.ts";

export type Problem = "" | "empty" | "away";

export interface Watcher {
  /** All bars are others than before. */
  replaced(): void;
  /** Older bars came, or several changed. */
  refilled(): void;
  /** The last bar changed or is new. */
  moved(): void;
  problem(problem: Problem, detail: string): void;
}

const AT_FIRST = 1500;
/** Bars a minute may revise, besides those that came. */
const RECENT = 5;
const TRADES_LOADED = 86_400;
/** Updates a second of the open bar. */
const RATE = 4;
const TRADE_RATE = 0;
/** Between trades of one moment (ms). */
const APART = 1e-3;

export class Series {
  readonly timeframe: Timeframe;
  readonly store: BarStore;
  private instrument: Instrument;
  private readonly feed: LiveFeed;
  private readonly watcher: Watcher;
  private readonly ended = new AbortController();
  private unsubscribe: (() => void)[] = [];
  private open: OpenBar;
  private readonly bucket: number;
  private nextBefore: number | undefined;
  private loading = false;
  /** What the feed says while bars are loaded: it may be newer than they are. */
  private held: Message[] | undefined;
  private missed = false;
  /** When the newest trade was that the feed has told (s). */
  private toldAt = 0;
  /** Of the newest trade, where each is a bar. */
  private newest = { ms: 0, ids: new Set<number>() };

  constructor(instrument: Instrument, timeframe: Timeframe, store: BarStore, feed: LiveFeed, watcher: Watcher) {
    this.instrument = instrument;
    this.timeframe = timeframe;
    this.store = store;
    this.feed = feed;
    this.watcher = watcher;
    this.bucket = timeframe === TRADES ? 1 : TIMEFRAMES[timeframe];
    this.open = new OpenBar(this.bucket);
    store.replace(NOTHING);
    this.subscribe();
    void this.start();
  }

  end(): void {
    this.ended.abort();
    this.unsubscribeAll();
  }

  /** The feed has come back: bars may have been missed. `told` comes after what is loaded. */
  async catchUp(told: readonly Message[] = []): Promise<void> {
    this.missed = true;
    // What is loaded now may be from before: it is done again after that.
    if (this.held) return;
    let whole = false;
    await this.again(
      async () => {
        const newest = this.store.last?.time ?? 0;
        if (this.timeframe === TRADES) {
          this.take(await this.loadTrades(this.newest.ms / 1000));
        } else {
          const missed = Math.ceil((Date.now() - newest) / this.bucket);
          // In a replay the clock is another: then as many as there may be.
          const limit = missed > 0 && missed < LONGEST ? Math.max(RECENT, missed + RECENT) : LONGEST;
          const got = await loadBars(this.instrument, this.timeframe, Math.min(LONGEST, limit), this.ended.signal);
          // Nothing overlaps: there are more bars in between than are given at once.
          whole = got.fields.time.length > 0 && got.fields.time[0]! > newest;
          if (whole) {
            this.nextBefore = got.nextBefore;
            this.store.replace(got);
          } else this.store.merge(got);
        }
      },
      () => (whole ? this.watcher.replaced() : this.watcher.refilled()),
      told,
    );
  }

  /** Loads older bars when the view comes near the first. */
  async older(from: number): Promise<void> {
    if (this.loading || this.nextBefore === undefined || from > this.store.begin + 500) return;
    this.loading = true;
    try {
      const got = await loadBars(this.instrument, this.timeframe, LONGEST, this.ended.signal, this.nextBefore);
      if (this.ended.signal.aborted) return;
      this.nextBefore = got.fields.time.length ? got.nextBefore : undefined;
      this.store.prepend(got);
      this.watcher.refilled();
    } catch (error) {
      if (!this.ended.signal.aborted) await pause(backOff(3, error), this.ended.signal);
    } finally {
      this.loading = false;
    }
  }

  private async start(): Promise<void> {
    await this.again(
      async () => {
        const load = (): Promise<Loaded | LoadedTrades> => (this.timeframe === TRADES ? this.loadTrades() : this.loadBars());
        let got = await load();
        while (got.fields.time.length === 0 && !this.ended.signal.aborted) {
          if (this.store.length === 0) this.watcher.problem("empty", "");
          await pause(1000, this.ended.signal);
          this.held = [];
          got = await load();
        }
        if (this.ended.signal.aborted) return;
        this.nextBefore = got.nextBefore;
        this.store.replace(got);
        if ("ids" in got) {
          const ms = got.fields.time.at(-1)!;
          this.newest = { ms, ids: new Set(got.ids.subarray(got.fields.time.indexOf(ms))) };
        }
        if (got.symbol === this.instrument.symbol) return;
        // The live feed calls it as its exchange does.
        this.instrument = { ...this.instrument, symbol: got.symbol };
        this.unsubscribeAll();
        this.subscribe();
      },
      () => this.watcher.replaced(),
    );
  }

  /** Until it succeeds, what fails is told; then what the feed said meanwhile is taken again. */
  private async again(doing: () => Promise<void>, done: () => void, told: readonly Message[] = []): Promise<void> {
    for (let failures = 1; !this.ended.signal.aborted; failures++) {
      this.held = [...told];
      this.missed = false;
      try {
        await doing();
        break;
      } catch (error) {
        if (this.ended.signal.aborted) return;
        this.watcher.problem("away", error instanceof Refused ? error.detail : "");
        await pause(backOff(failures, error), this.ended.signal);
      }
    }
    if (this.ended.signal.aborted) return;
    this.watcher.problem("", "");
    done();
    const held = this.held ?? [];
    this.held = undefined;
    this.open = new OpenBar(this.bucket);
    for (const message of held) this.heard(message);
    if (this.missed) void this.catchUp();
  }

  private loadBars(): Promise<Loaded> {
    return loadBars(this.instrument, this.timeframe, AT_FIRST, this.ended.signal);
  }

  private loadTrades(from?: number): Promise<LoadedTrades> {
    const now = Date.now() / 1000;
    // In a replay the clock is another, and some symbols were not traded for days.
    const newest = this.toldAt > 0 ? Math.min(this.toldAt, now) : now;
    return loadTrades(this.instrument, from ?? newest - TRADES_LOADED, now + 60, this.ended.signal);
  }

  private take({ fields, ids }: LoadedTrades): void {
    fields.time.forEach((ms, at) => this.append(ms, ids[at]!, fields.close[at]!, fields.volume[at]!));
  }

  /** A trade as a bar. Bars are told apart by their times: each of one moment has its own. A chart that is left open for
   * days has no more of them than one that is opened anew, and a quarter. */
  private add(ms: number, price: number, volume: number): boolean {
    const time = Math.max(ms, (this.store.last?.time ?? -Infinity) + APART);
    const added = this.store.put({ time, open: price, high: price, low: price, close: price, volume });
    if (this.store.length > MOST_TRADES * 1.25) {
      this.store.forget(this.store.length - MOST_TRADES);
      this.watcher.refilled();
    }
    return added;
  }

  private unsubscribeAll(): void {
    for (const one of this.unsubscribe) one();
    this.unsubscribe = [];
  }

  private subscribe(): void {
    const { exchange, symbol } = this.instrument;
    const heard = (message: Message): void => this.heard(message);
    this.unsubscribe.push(this.feed.subscribe(`trades:${exchange}:${symbol}`, TRADE_RATE, { snapshot: heard, update: heard }));
    if (this.timeframe === TRADES) return;
    this.unsubscribe.push(
      this.feed.subscribe(`bars:${exchange}:${symbol}:${this.timeframe}`, RATE, { snapshot: heard, update: heard }),
      this.feed.subscribe(`indicators:${exchange}:${symbol}:${this.timeframe}`, RATE, { snapshot: () => undefined, update: heard }),
    );
  }

  private heard(message: Message): void {
    this.held?.push(message);
    if (message.topic === "trades") this.traded(message);
    else if (message.topic === "bars") this.told(message);
    else this.computed(message);
  }

  private traded(message: Message): void {
    if (this.timeframe === TRADES) {
      this.toldAt = Math.max(this.toldAt, (finite(message.data.at(-1)?.["ts_event"]) ?? 0) / 1e9);
      if (this.held) return;
      if (message.type === "snapshot") {
        // It has a hundred trades: more may have been missed. Those that are loaded may lack its newest, which are told first.
        return void this.catchUp([{ ...message, type: "update" }]);
      }
    }
    // A bar that is begun by what just came would lack what came before.
    if (this.store.length === 0) return;
    const now = performance.now();
    let moved = false;
    for (const row of message.data) {
      const trade: Trade = { ns: Number(row["ts_event"]), id: Number(row["trade_id"]), price: Number(row["price"]), size: Number(row["size"]), side: String(row["side"]) };
      if (!Number.isFinite(trade.price)) continue;
      moved = (this.timeframe === TRADES ? this.append(trade.ns / 1e6, trade.id, trade.price, trade.size) : this.fold(trade, now)) || moved;
    }
    if (moved) this.watcher.moved();
  }

  private fold(trade: Trade, now: number): boolean {
    const bar = this.open.withTrade(this.store.last, trade, now);
    return bar !== undefined && this.store.put(bar);
  }

  /** Ids tell trades of one moment apart. */
  private append(ms: number, id: number, price: number, size: number): boolean {
    if (ms < this.newest.ms) return false;
    if (ms > this.newest.ms) this.newest = { ms, ids: new Set() };
    else if (this.newest.ids.has(id)) return false;
    this.newest.ids.add(id);
    return this.add(ms, price, size);
  }

  private told(message: Message): void {
    const now = performance.now();
    const first = this.store.length === 0;
    let changed: "" | "last" | "older" = "";
    for (const row of message.data) {
      const said = barOf(row);
      if (!said) continue;
      const last = this.store.last;
      const place = this.store.place(said.time);
      const known = this.store.at(place);
      if (known?.time === said.time && place < this.store.end - 1 && same(known, said)) continue;
      const bar = this.open.asSaid(known?.time === said.time ? known : undefined, said, row["closed"] === true, now);
      if (!this.store.put(bar)) this.store.merge(blockOf(bar));
      if (changed !== "older") changed = !last || said.time >= last.time ? "last" : "older";
    }
    if (first && changed) {
      this.watcher.problem("", "");
      this.watcher.replaced();
    } else if (changed === "last") this.watcher.moved();
    else if (changed === "older") this.watcher.refilled();
  }

  private computed(message: Message): void {
    let changed = false;
    for (const row of message.data) {
      const { time, ...values } = row as Record<string, number | null>;
      if (typeof time !== "number") continue;
      changed = this.store.putIndicators(time / 1e6, { ...values, vwap_200: values["vwap"] ?? null }) || changed;
    }
    if (changed) this.watcher.refilled();
  }
}

function barOf(row: Record<string, unknown>): Bar | undefined {
  const numbers = ["time", ...PRICES, "volume"].map((field) => Number(row[field]));
  if (!numbers.every(Number.isFinite)) return undefined;
  const [time, open, high, low, close, volume] = numbers as [number, number, number, number, number, number];
  return { time: time / 1e6, open, high, low, close, volume };
}

function blockOf(bar: Bar): Loaded {
  const fields = Object.fromEntries(Object.entries(bar).map(([field, value]) => [field, Float64Array.of(value)]));
  return { ...NOTHING, fields: fields as unknown as Loaded["fields"], symbol: "", nextBefore: undefined, incomplete: false };
}

function same(a: Bar, b: Bar): boolean {
  return PRICES.every((field) => a[field] === b[field]) && a.volume === b.volume;
}
