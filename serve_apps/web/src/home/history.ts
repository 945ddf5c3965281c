// The last day of a symbol in a quarter of an hour each, for lines as big as a word. Few are asked for at a time.
import type { Instrument } from "../instruments.ts";
import { get, Refused } from "../requests.ts";
import { readColumns } from "../chart/binary.ts";

const AT_ONCE = 4;
const DAY = 86_400_000;

/** What is drawn of a day: where it began, and each close. */
export function drawn({ open, closes }: History): Float64Array {
  return Float64Array.of(open, ...closes);
}

export interface History {
  readonly closes: Float64Array;
  /** Open of the first bar. */
  readonly open: number;
  /** Begin of the first bar (ms), and of the last. */
  readonly from: number;
  readonly to: number;
  readonly low: number;
  readonly high: number;
}

let running = 0;
const waiting: (() => void)[] = [];

/** Undefined where there are no bars. */
export async function lastDay({ exchange, symbol }: Instrument): Promise<History | undefined> {
  await turn();
  try {
    return (await bars(exchange, symbol, "15m", 97)) ?? undefined;
  } finally {
    running--;
    waiting.shift()?.();
  }
}

async function bars(exchange: string, symbol: string, timeframe: string, limit: number): Promise<History | undefined> {
  const query = new URLSearchParams({ exchange, timeframe, limit: String(limit), format: "binary" });
  let body: ArrayBuffer;
  try {
    body = await (await get(`/api/v1/charts/${encodeURIComponent(symbol)}?${query}`)).arrayBuffer();
  } catch (error) {
    if (error instanceof Refused && error.status === 404) return undefined;
    throw error;
  }
  const { columns } = readColumns(body);
  const column = (name: string): Float64Array => columns.get(name) as Float64Array;
  const times = column("time");
  const newest = times.at(-1);
  if (newest === undefined) return undefined;
  // A quiet symbol's bars may be days old.
  const first = times.findIndex((time) => time > newest - DAY);
  // The first minutes of a symbol are better told by minutes.
  if (timeframe === "15m" && times.length - first < 4) return bars(exchange, symbol, "1m", 120);
  const part = (name: string): Float64Array => column(name).subarray(first);
  return { closes: part("close"), open: part("open")[0]!, from: times[first]!, to: newest, low: Math.min(...part("low")), high: Math.max(...part("high")) };
}

/** Of bars as the live feed says them. */
export function historyOf(bars: readonly Record<string, unknown>[]): History | undefined {
  const column = (name: string): Float64Array => Float64Array.from(bars, (bar) => Number(bar[name]));
  const [times, closes] = [column("time"), column("close")];
  if (closes.length === 0) return undefined;
  return { closes, open: column("open")[0]!, from: times[0]! / 1e6, to: times.at(-1)! / 1e6, low: Math.min(...column("low")), high: Math.max(...column("high")) };
}

async function turn(): Promise<void> {
  if (running >= AT_ONCE) await new Promise<void>((resolve) => waiting.push(resolve));
  running++;
}
