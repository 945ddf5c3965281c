// What `/api/crypto/dashboard-summary` says, as far as it is understood: each figure with its source and age, or that
// nobody knows it. Pure.
import { finite, isRecord, string } from "../requests.ts";

export interface Figure {
  readonly value: number | undefined;
  readonly source: string;
  /** ms since the epoch; undefined where it is not said. */
  readonly asOf: number | undefined;
  readonly stale: boolean;
}

export interface Stock {
  readonly name: string;
  readonly price: number | undefined;
  readonly change: number | undefined;
  /** 0.01 is 1 %. */
  readonly ratio: number | undefined;
  readonly status: string;
}

export interface Summary {
  readonly figures: ReadonlyMap<string, Figure>;
  /** Undefined where nobody knows them. */
  readonly stocks: readonly Stock[] | undefined;
  readonly stocksFigure: Figure;
  readonly partial: boolean;
}

export const STOCKS = ["DIA", "SPY", "QQQM"] as const;
export const NOT_KNOWN: Figure = { value: undefined, source: "", asOf: undefined, stale: false };

/** Throws `SyntaxError` for what is no summary. */
export function readSummary(body: unknown): Summary {
  if (!isRecord(body)) throw new SyntaxError("no summary");
  const fields = isRecord(body["fields"]) ? body["fields"] : {};
  const about = (name: string): Omit<Figure, "value"> => {
    const field = isRecord(fields[name]) ? fields[name] : {};
    return { source: string(field["source"]), asOf: moment(field["as_of"]), stale: field["stale"] === true };
  };
  const figures = Object.entries(body).filter(([, value]) => value === null || typeof value === "number");
  return {
    figures: new Map(figures.map(([name, value]) => [name, { value: finite(value), ...about(name) }])),
    stocks: isRecord(body["us_stock_indices"]) ? stocks(body["us_stock_indices"]) : undefined,
    stocksFigure: { value: undefined, ...about("us_stock_indices") },
    partial: body["partial_failure"] === true,
  };
}

function stocks(said: Record<string, unknown>): Stock[] {
  return STOCKS.flatMap((name) => {
    const one = said[name];
    if (!isRecord(one)) return [];
    const percent = finite(one["change_percent"]);
    return [{ name, price: finite(one["price"]), change: finite(one["change"]), ratio: percent === undefined ? undefined : percent / 100, status: string(one["status"]) }];
  });
}

/** A time as a text or as a number of s, ms, us or ns since the epoch, in ms. */
export function moment(said: unknown): number | undefined {
  if (typeof said === "string") return finite(Date.parse(said));
  const number = finite(said);
  if (number === undefined || number <= 0) return undefined;
  const digits = Math.floor(Math.log10(number)) + 1;
  return number * 10 ** (3 - 3 * Math.floor(Math.max(0, digits - 9) / 3));
}
