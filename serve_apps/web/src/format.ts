// How numbers and times are written in the reader's language and time zone: prices with the decimals their data has.
import { language, text } from "./language.ts";

const MOST_DECIMALS = 12;
const MADE = new Map<string, Intl.NumberFormat | Intl.DateTimeFormat>();
const CLOCK = { hour: "2-digit", minute: "2-digit", hourCycle: "h23" } as const;
const SHORT_DAY = { day: "numeric", month: "short" } as const;

/** The browser's own English (US, UK), where that is what the reader has. */
function locale(): string {
  const wanted = language();
  return navigator.languages.find((tag) => tag.startsWith(wanted)) ?? wanted;
}

function numbers(options: Intl.NumberFormatOptions): Intl.NumberFormat {
  const key = `${locale()}n${JSON.stringify(options)}`;
  if (!MADE.has(key)) MADE.set(key, new Intl.NumberFormat(locale(), options));
  return MADE.get(key) as Intl.NumberFormat;
}

function times(options: Intl.DateTimeFormatOptions): Intl.DateTimeFormat {
  const key = `${locale()}t${JSON.stringify(options)}`;
  if (!MADE.has(key)) MADE.set(key, new Intl.DateTimeFormat(locale(), options));
  return MADE.get(key) as Intl.DateTimeFormat;
}

/** Decimals a price needs to be written as the exchange wrote it: 60000.12 needs 2, 1.305e-5 needs 8. */
export function decimalsOf(price: number): number {
  const [digits = "", exponent = "0"] = String(price).split("e");
  return Math.min(MOST_DECIMALS, Math.max(0, (digits.split(".")[1]?.length ?? 0) - Number(exponent)));
}

/** Decimals for all prices of a column, never fewer than two for prices of one and more. */
export function decimalsOfAll(prices: Float64Array, from = 0): number {
  let decimals = 0;
  for (let at = from; at < prices.length; at++) {
    const price = prices[at]!;
    if (Number.isFinite(price)) decimals = Math.max(decimals, price >= 1 ? 2 : 0, decimalsOf(price));
  }
  return decimals;
}

export function price(value: number, decimals: number): string {
  return numbers({ minimumFractionDigits: decimals, maximumFractionDigits: decimals }).format(value);
}

/** Of a price whose decimals nobody says: two, more below one. */
export function money(value: number): string {
  const decimals = Math.abs(value) >= 1 || value === 0 ? 2 : Math.min(10, 3 - Math.floor(Math.log10(Math.abs(value))));
  return numbers({ style: "currency", currency: "USD", currencyDisplay: "narrowSymbol", minimumFractionDigits: 2, maximumFractionDigits: decimals }).format(value);
}

export function compactMoney(value: number): string {
  return numbers({ style: "currency", currency: "USD", currencyDisplay: "narrowSymbol", notation: "compact", maximumFractionDigits: 2, minimumFractionDigits: 2 }).format(value);
}

export function compact(value: number): string {
  return numbers({ notation: "compact", maximumSignificantDigits: 4 }).format(value);
}

export function whole(value: number): string {
  return numbers({ maximumFractionDigits: 0 }).format(value);
}

export function decimal(value: number, digits: number): string {
  return numbers({ minimumFractionDigits: digits, maximumFractionDigits: digits }).format(value);
}

/** `ratio` 0.01 is 1 %. */
export function percent(ratio: number, sign: "exceptZero" | "auto" = "exceptZero", digits = 2): string {
  return numbers({ style: "percent", minimumFractionDigits: digits, maximumFractionDigits: digits, signDisplay: sign }).format(ratio);
}

export function signed(value: number, decimals: number): string {
  return numbers({ minimumFractionDigits: decimals, maximumFractionDigits: decimals, signDisplay: "exceptZero" }).format(value);
}

export function clock(ms: number): string {
  return times(CLOCK).format(ms);
}

export function clockSeconds(ms: number): string {
  return times({ ...CLOCK, second: "2-digit" }).format(ms);
}

export function clockMilliseconds(ms: number): string {
  return times({ ...CLOCK, second: "2-digit", fractionalSecondDigits: 3 }).format(ms);
}

export function day(ms: number): string {
  return times(SHORT_DAY).format(ms);
}

export function month(ms: number): string {
  return times({ month: "short" }).format(ms);
}

export function year(ms: number): string {
  return times({ year: "numeric" }).format(ms);
}

export function moment(ms: number): string {
  return times({ ...CLOCK, ...SHORT_DAY, year: "numeric" }).format(ms);
}

export function zonedMoment(ms: number): string {
  return times({ ...CLOCK, ...SHORT_DAY, timeZoneName: "short" }).format(ms);
}

/** The clock of today, else with the day. */
export function recently(ms: number): string {
  return Date.now() - ms < 86_400_000 ? clockSeconds(ms) : moment(ms);
}

export function duration(ms: number): string {
  if (ms < 1000) return text("duration.ms", { n: Math.max(0, Math.round(ms)) });
  if (ms < 60_000) return text("duration.s", { n: decimal(ms / 1000, 1) });
  if (ms < 3_600_000) return text("duration.min", { n: Math.round(ms / 60_000) });
  if (ms < 86_400_000) return text("duration.h", { n: decimal(ms / 3_600_000, 1) });
  return text("duration.d", { n: decimal(ms / 86_400_000, 1) });
}

export function direction(change: number): "up" | "down" | "flat" {
  return change > 0 ? "up" : change < 0 ? "down" : "flat";
}
