// The other symbol of a comparison: its closes, loaded as those of the chart are.
import type { Instrument } from "../instruments.ts";
import type { LiveFeed } from "../live/feed.ts";
import { BarStore } from "./bar_store.ts";
import type { Timeframe } from "./bars_source.ts";
import { Series } from "./series.ts";

export class Comparison {
  readonly store = new BarStore();
  private series: Series | undefined;
  private other: Instrument | undefined;

  /** Calls `changed` when its bars changed. */
  constructor(
    private readonly feed: LiveFeed,
    private readonly changed: () => void,
  ) {}

  get instrument(): Instrument | undefined {
    return this.other;
  }

  with(other: Instrument | undefined, timeframe: Timeframe): void {
    this.series?.end();
    this.series = undefined;
    this.other = other;
    if (!other) return this.changed();
    const changed = (): void => this.changed();
    this.series = new Series(other, timeframe, this.store, this.feed, { replaced: changed, refilled: changed, moved: changed, problem: () => undefined });
  }

  catchUp(): void {
    void this.series?.catchUp();
  }

  /** Older bars of it, as far back as the chart goes. */
  reach(time: number): void {
    const first = this.store.at(this.store.begin);
    if (first && first.time > time) void this.series?.older(this.store.begin);
  }
}
