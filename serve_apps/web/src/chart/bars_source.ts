// Bars and trades of the past as columns, from the binary answers of the server.
import type { Instrument } from "../instruments.ts";
import { finite, get, Refused, string } from "../requests.ts";
import { FIELDS, type Block, type Field } from "./bar_store.ts";
import { readColumns } from "./binary.ts";
import { COLUMNS } from "./indicators.ts";

export const TIMEFRAMES = { "1m": 60_000, "5m": 300_000, "15m": 900_000, "1h": 3_600_000, "4h": 14_400_000, "1d": 86_400_000 } as const;
/** Every trade by itself, instead of bars. */
export const TRADES = "trades";
export type Timeframe = keyof typeof TIMEFRAMES | typeof TRADES;

export const LONGEST = 5000;
/** Of more trades than this the server leaves those out that are neither the highest nor the lowest nearby. */
export const MOST_TRADES = 1_000_000;

export interface Loaded extends Block {
  /** As the exchange calls it, which is what the live feed does too. */
  readonly symbol: string;
  /** What `before` has to be for the next older bars (ms); undefined where there are none. */
  readonly nextBefore: number | undefined;
  /** Older bars cannot be had now. */
  readonly incomplete: boolean;
}

/** The newest bars before a time (ms), ascending; none where there are none. */
export async function loadBars(
  { exchange, symbol }: Instrument,
  timeframe: string,
  limit: number,
  signal: AbortSignal,
  before?: number,
): Promise<Loaded> {
  const query = new URLSearchParams({ exchange, timeframe, limit: String(limit), indicators: COLUMNS.join(), format: "binary" });
  if (before !== undefined) query.set("before", String(before));
  let body: ArrayBuffer;
  try {
    body = await (await get(`/api/v1/charts/${encodeURIComponent(symbol)}?${query}`, signal)).arrayBuffer();
  } catch (error) {
    if (error instanceof Refused && error.status === 404) return nothing(symbol);
    throw error;
  }
  const { head, columns } = readColumns(body);
  const floats = (name: string): Float64Array => {
    const column = columns.get(name);
    if (!(column instanceof Float64Array)) throw new SyntaxError(`no column ${name}`);
    return column;
  };
  const fields = Object.fromEntries(FIELDS.map((field) => [field, floats(field)])) as Record<Field, Float64Array>;
  if (fields.time.some((time, at) => at > 0 && time <= fields.time[at - 1]!)) throw new SyntaxError("bars out of order");
  const known = ["vwap_200", ...COLUMNS.filter((name) => name !== "vwap")];
  return {
    fields,
    indicators: new Map(known.map((name) => [name, floats(name)])),
    symbol: string(head["symbol"]) || symbol,
    nextBefore: finite(head["next_before"]),
    incomplete: head["complete"] === false,
  };
}

export interface LoadedTrades extends Loaded {
  /** Of each. */
  readonly ids: Float64Array;
}

/** The trades from `start` to `end` (s), each a bar of one price. */
export async function loadTrades({ exchange, symbol }: Instrument, start: number, end: number, signal: AbortSignal): Promise<LoadedTrades> {
  const query = new URLSearchParams({
    exchange,
    symbol: symbol.replaceAll("/", "_"),
    type: "TRADES",
    start: String(Math.floor(start)),
    end: String(Math.ceil(end)),
    columns: "time,nanos,id,price64,size64",
    max_points: String(MOST_TRADES),
    decimate: "minmax",
  });
  const { columns } = readColumns(await (await get(`/api/data?${query}`, signal)).arrayBuffer());
  const [seconds, nanos] = [columns.get("time"), columns.get("nanos")];
  const [ids, price, size] = ["id", "price64", "size64"].map((name) => columns.get(name));
  if (!(ids instanceof Float64Array && price instanceof Float64Array && size instanceof Float64Array && seconds && nanos))
    return { ...nothing(symbol), ids: new Float64Array() };
  const time = new Float64Array(seconds.length);
  // Rounded as what the live feed says of the same trade is.
  for (let at = 0; at < time.length; at++) time[at] = (seconds[at]! * 1e9 + nanos[at]!) / 1e6;
  return {
    fields: { time, open: price, high: price, low: price, close: price, volume: size },
    ids,
    indicators: new Map(),
    symbol,
    nextBefore: undefined,
    incomplete: false,
  };
}

function nothing(symbol: string): Loaded {
  const fields = Object.fromEntries(FIELDS.map((field) => [field, new Float64Array()])) as Record<Field, Float64Array>;
  return { fields, indicators: new Map(), symbol, nextBefore: undefined, incomplete: false };
}
