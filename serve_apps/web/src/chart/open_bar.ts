// The bar that is open now, ahead of what the server says once a second: each trade moves its price at once. What the
// server says of a closed bar holds; of the open one its volume does, and its price unless a trade is newer. Pure.
import type { Bar } from "./bar_store.ts";

export interface Trade {
  /** ns since the epoch, which JavaScript rounds to about a quarter of a microsecond. */
  readonly ns: number;
  readonly id: number;
  readonly price: number;
  readonly size: number;
  readonly side: string;
}

/** The server is behind trades by this much at most (ms). */
const BEHIND = 2500;

export class OpenBar {
  private newest: Trade | undefined;
  private takenAt = -Infinity;

  private readonly bucket: number;

  /** `bucket`: its length in ms. */
  constructor(bucket: number) {
    this.bucket = bucket;
  }

  /** The bar with a trade in it; undefined for one of an older bucket, which the server's own bar will have. */
  withTrade(last: Bar | undefined, trade: Trade, now: number): Bar | undefined {
    const time = Math.floor(trade.ns / 1e6 / this.bucket) * this.bucket;
    if (last && time < last.time) return undefined;
    const newer = !this.newest || trade.ns > this.newest.ns || (trade.ns === this.newest.ns && trade.id > this.newest.id);
    if (newer) [this.newest, this.takenAt] = [trade, now];
    const { price, size } = trade;
    if (!last || time > last.time) return { time, open: price, high: price, low: price, close: price, volume: size };
    return { ...last, high: Math.max(last.high, price), low: Math.min(last.low, price), close: newer ? price : last.close };
  }

  /** The bar as the server says it is, with what it cannot know yet. */
  asSaid(known: Bar | undefined, said: Bar, closed: boolean, now: number): Bar {
    if (closed || !known || known.time !== said.time || now - this.takenAt > BEHIND) return said;
    return { ...said, high: Math.max(known.high, said.high), low: Math.min(known.low, said.low), close: known.close };
  }
}
