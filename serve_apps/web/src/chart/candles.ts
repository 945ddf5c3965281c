// Candles of a part of the bars: each of `factor` bars, so that a million fit on a screen and no extreme is lost. Pure.
import type { BarStore, Bar } from "./bar_store.ts";

/** Candles number `first` to before `first + count`; number n is of the places n * factor to before (n + 1) * factor. */
export interface Window {
  readonly factor: number;
  readonly first: number;
  readonly count: number;
}

const STEP = 4;
/** Candles are merged when they are narrower than this (px), and split when they are wider. */
const NARROWEST = 1.5;
const WIDEST = 8;
/** Screens of candles that are kept ready on each side of what is seen; less than this on one is too little. */
const AROUND = 1;
const TOO_LITTLE = 0.25;
const LEAST_AROUND = 300;

/** What to keep ready for the places `from` to `to` on a chart that is `width` px wide; `now` again where that does. */
export function windowFor(store: BarStore, from: number, to: number, width: number, now?: Window): Window {
  const factor = factorFor(to - from, width, now?.factor ?? 1);
  const screen = (to - from) / factor;
  const [begin, end] = [Math.floor(store.begin / factor), Math.ceil(store.end / factor)];
  const [left, right] = [from / factor, to / factor];
  if (now && now.factor === factor) {
    const margin = screen * TOO_LITTLE;
    const [least, most] = [Math.max(begin, left - margin), Math.min(end, right + margin)];
    const tooLong = now.count > (screen * (1 + 2 * AROUND) + 2 * LEAST_AROUND) * 2;
    if (now.first <= least && now.first + now.count >= most && !tooLong) return now;
  }
  const around = Math.max(screen * AROUND, LEAST_AROUND);
  const first = Math.max(begin, Math.floor(left - around));
  const last = Math.min(end, Math.ceil(right + around));
  return { factor, first: Math.min(first, end), count: Math.max(0, last - first) };
}

export function factorFor(bars: number, width: number, now: number): number {
  let factor = now;
  while ((width * factor) / bars < NARROWEST) factor *= STEP;
  while (factor > 1 && (width * factor) / bars > WIDEST) factor /= STEP;
  return factor;
}

/** The candle of a number; undefined where it has no bars. */
export function candle(store: BarStore, factor: number, number: number): Bar | undefined {
  const begin = Math.max(number * factor, store.begin) - store.begin;
  const end = Math.min((number + 1) * factor, store.end) - store.begin;
  if (begin >= end) return undefined;
  const [highs, lows, volumes] = [store.column("high"), store.column("low"), store.column("volume")];
  let high = -Infinity;
  let low = Infinity;
  let volume = 0;
  for (let at = begin; at < end; at++) {
    if (highs[at]! > high) high = highs[at]!;
    if (lows[at]! < low) low = lows[at]!;
    volume += volumes[at]!;
  }
  return { time: store.column("time")[begin]!, open: store.column("open")[begin]!, high, low, close: store.column("close")[end - 1]!, volume };
}

/** Of each candle of a window, in order. */
export function candles(store: BarStore, window: Window): Bar[] {
  const made: Bar[] = [];
  for (let number = window.first; number < window.first + window.count; number++) {
    const one = candle(store, window.factor, number);
    if (one) made.push(one);
  }
  return made;
}

/** The last value of each candle of a column that goes with the bars; NaN where there is none. */
export function lastOfEach(store: BarStore, column: Float64Array, window: Window): Float64Array {
  const made = new Float64Array(window.count).fill(NaN);
  for (let index = 0; index < window.count; index++) {
    const begin = Math.max((window.first + index) * window.factor, store.begin) - store.begin;
    for (let at = Math.min((window.first + index + 1) * window.factor, store.end) - store.begin - 1; at >= begin; at--) {
      if (Number.isNaN(column[at]!)) continue;
      made[index] = column[at]!;
      break;
    }
  }
  return made;
}

/** For each of `times` the value whose own time is the last one not after it; NaN before the first. Both ascend. */
export function asOf(times: Float64Array, ownTimes: Float64Array, values: Float64Array): Float64Array {
  const made = new Float64Array(times.length).fill(NaN);
  for (let at = 0, own = -1; at < times.length; at++) {
    while (own + 1 < ownTimes.length && ownTimes[own + 1]! <= times[at]!) own++;
    if (own >= 0) made[at] = values[own]!;
  }
  return made;
}
