// Where bars come from. The rest of the page only sees `follow`: today it polls the HTTP API, one request in
// flight, backing off while the server is away; a live feed can take its place without the page noticing.

export interface Instrument {
  readonly exchange: string;
  readonly symbol: string;
}

/** One bucket of trades; `time` is its start in milliseconds since the epoch, UTC. */
export interface Bar {
  readonly time: number;
  readonly open: number;
  readonly high: number;
  readonly low: number;
  readonly close: number;
  readonly volume: number;
  readonly closed: boolean;
}

export type Connection = "connecting" | "live" | "empty" | "reconnecting";

export interface Listener {
  /** All bars there are, ascending: at the start, after a reconnect, and when some may have been missed. */
  replaced(bars: readonly Bar[]): void;
  /** The newest bars, ascending; they replace those of the same time. */
  changed(bars: readonly Bar[]): void;
  connection(state: Connection, reason?: string): void;
}

const INTERVAL = 1000;
const LONGEST_PAUSE = 8000;
const LONGEST_ASKED_PAUSE = 60_000;
const REQUEST_TIMEOUT = 5000;
const HISTORY = 1000;
const RECENT = 3;
// A late trade may revise a bar older than the recent ones.
const RELOAD_AFTER = 60_000;

class Refused extends Error {
  constructor(
    readonly status: number,
    readonly retryAfter: number,
  ) {
    super(`The server refused the request (${status})`);
  }
}

export async function getJson(path: string, signal: AbortSignal): Promise<unknown> {
  const response = await fetch(path, {
    headers: { accept: "application/json" },
    cache: "no-store",
    signal: AbortSignal.any([signal, AbortSignal.timeout(REQUEST_TIMEOUT)]),
  });
  if (!response.ok) throw new Refused(response.status, Number(response.headers.get("retry-after")) || 0);
  return response.json();
}

/** Symbols by exchange, both sorted. Throws when the server does not answer with such a list. */
export async function symbolsByExchange(signal: AbortSignal): Promise<Map<string, string[]>> {
  const body = await getJson("/api/symbols", signal);
  const exchanges = isRecord(body) && isRecord(body["exchanges"]) ? body["exchanges"] : {};
  const listed = Object.entries(exchanges).map(([exchange, symbols]): [string, string[]] => [
    exchange,
    Array.isArray(symbols) ? symbols.filter((symbol) => typeof symbol === "string").sort() : [],
  ]);
  return new Map(listed.filter(([, symbols]) => symbols.length > 0).sort(([a], [b]) => (a < b ? -1 : 1)));
}

/** Reports the bars of an instrument until the returned function is called. */
export function follow(instrument: Instrument, listener: Listener): () => void {
  const ended = new AbortController();
  void poll(instrument, listener, ended.signal);
  return () => ended.abort();
}

async function poll(instrument: Instrument, listener: Listener, signal: AbortSignal): Promise<void> {
  let failures = 0;
  let loadedAt = -Infinity;
  let newest = -Infinity;
  listener.connection("connecting");
  while (!signal.aborted) {
    let bars: Bar[];
    let whole = performance.now() - loadedAt > RELOAD_AFTER;
    try {
      bars = await fetchBars(instrument, whole ? HISTORY : RECENT, signal);
      if (!whole && bars[0] && bars[0].time > newest) {
        whole = true; // nothing overlaps what is shown: there are bars in between
        bars = await fetchBars(instrument, HISTORY, signal);
      }
    } catch (error) {
      if (signal.aborted) return;
      loadedAt = -Infinity;
      const missing = error instanceof Refused && error.status === 404;
      failures = missing ? 0 : failures + 1;
      if (missing) listener.connection("empty");
      else listener.connection("reconnecting", reasonOf(error));
      await pause(missing ? INTERVAL : backOff(failures, error), signal);
      continue;
    }
    if (signal.aborted) return;
    failures = 0;
    if (whole) listener.replaced(bars);
    else listener.changed(bars);
    if (whole && bars.length > 0) loadedAt = performance.now();
    newest = bars.at(-1)?.time ?? -Infinity;
    listener.connection(bars.length > 0 ? "live" : "empty");
    await pause(INTERVAL, signal);
  }
}

/** Milliseconds to wait after the n-th failure in a row: doubling with jitter, and as long as the server asks for. */
function backOff(failures: number, error: unknown): number {
  const wait = Math.min(INTERVAL * 2 ** (failures - 1), LONGEST_PAUSE) * (0.5 + Math.random() / 2);
  const asked = error instanceof Refused ? error.retryAfter * 1000 : 0;
  return Math.max(wait, Math.min(asked, LONGEST_ASKED_PAUSE));
}

async function fetchBars({ exchange, symbol }: Instrument, limit: number, signal: AbortSignal): Promise<Bar[]> {
  const query = new URLSearchParams({ exchange, timeframe: "1m", limit: String(limit) });
  const body = await getJson(`/api/v1/charts/${encodeURIComponent(symbol)}?${query}`, signal);
  const bars = isRecord(body) ? body["bars"] : undefined;
  if (!Array.isArray(bars) || !bars.every(isBar)) throw new SyntaxError("not a list of bars");
  if (bars.some((bar, index) => bar.time <= (bars[index - 1]?.time ?? -Infinity))) throw new SyntaxError("bars out of order");
  return bars;
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function isBar(value: unknown): value is Bar {
  return (
    isRecord(value) &&
    ["time", "open", "high", "low", "close", "volume"].every((key) => Number.isFinite(value[key])) &&
    typeof value["closed"] === "boolean"
  );
}

function reasonOf(error: unknown): string {
  if (error instanceof Refused) return error.message;
  if (error instanceof SyntaxError) return "The server sent an answer this page does not understand";
  return "The server does not answer";
}

/** Waits, but not longer than until the network or the tab comes back. */
export function pause(milliseconds: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const ended = new AbortController();
    const end = (): void => {
      clearTimeout(timer);
      ended.abort();
      resolve();
    };
    const timer = setTimeout(end, milliseconds);
    signal.addEventListener("abort", end, { signal: ended.signal });
    window.addEventListener("online", end, { signal: ended.signal });
    document.addEventListener("visibilitychange", () => document.hidden || end(), { signal: ended.signal });
  });
}
