// Which symbols there are, and how far each can be trusted.
import { getJson, isRecord, string } from "./requests.ts";

export interface Instrument {
  readonly exchange: string;
  readonly symbol: string;
}

export interface Listed extends Instrument {
  /** The normalised name (`BTC-USDT`), "" where the exchange's list is not known. */
  readonly instrument: string;
  readonly kind: string;
  readonly collected: boolean;
}

/** All symbols that are collected or stored, by exchange and name. Throws when the server does not answer. */
export async function listedSymbols(signal?: AbortSignal): Promise<Listed[]> {
  const body = await getJson("/api/v1/symbols", signal);
  const exchanges = isRecord(body) && isRecord(body["exchanges"]) ? body["exchanges"] : {};
  const rows = Object.entries(exchanges).flatMap(([exchange, symbols]) =>
    (Array.isArray(symbols) ? symbols : []).filter(isRecord).map((row) => ({
      exchange,
      symbol: string(row["symbol"]),
      instrument: string(row["instrument"]),
      kind: string(row["kind"]),
      collected: row["collected"] === true,
    })),
  );
  return rows.filter(({ symbol }) => symbol !== "").sort((a, b) => compare(a.exchange, b.exchange) || compare(a.symbol, b.symbol));
}

/** The chart of an instrument. */
export function chartAddress({ exchange, symbol }: Instrument): string {
  return `/chart?${new URLSearchParams({ symbol, exchange })}`;
}

export function keyOf({ exchange, symbol }: Instrument): string {
  return `${exchange} ${symbol}`;
}

export function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
