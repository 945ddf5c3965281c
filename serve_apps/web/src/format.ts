// How numbers and times are written: prices with the decimals their data has, times in the reader's time zone.
import type { Bar } from "./source";

const MOST_DECIMALS = 12;

/** Decimals a price needs to be written as the exchange wrote it: 60000.12 needs 2, 1.305e-5 needs 8. */
export function decimalsOf(price: number): number {
  const [digits = "", exponent = "0"] = String(price).split("e");
  return Math.max(0, (digits.split(".")[1]?.length ?? 0) - Number(exponent));
}

/** Decimals to show for all prices of these bars, never fewer than two for prices of one and more. */
export function priceDecimals(bars: readonly Bar[]): number {
  let decimals = 0;
  for (const { open, high, low, close } of bars) {
    const least = high >= 1 ? 2 : 0;
    decimals = Math.max(decimals, least, decimalsOf(open), decimalsOf(high), decimalsOf(low), decimalsOf(close));
  }
  return Math.min(decimals, MOST_DECIMALS);
}

export function priceFormat(decimals: number): Intl.NumberFormat {
  return new Intl.NumberFormat(undefined, { minimumFractionDigits: decimals, maximumFractionDigits: decimals });
}

export const volumeFormat = new Intl.NumberFormat(undefined, { notation: "compact", maximumSignificantDigits: 4 });

export const percentFormat = new Intl.NumberFormat(undefined, {
  style: "percent",
  minimumFractionDigits: 2,
  maximumFractionDigits: 2,
  signDisplay: "exceptZero",
});

const clock = { hour: "2-digit", minute: "2-digit", hourCycle: "h23" } as const;
export const timeFormat = new Intl.DateTimeFormat(undefined, clock);
export const secondsFormat = new Intl.DateTimeFormat(undefined, { ...clock, second: "2-digit" });
export const dayFormat = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short" });
export const monthFormat = new Intl.DateTimeFormat(undefined, { month: "short" });
export const yearFormat = new Intl.DateTimeFormat(undefined, { year: "numeric" });
export const momentFormat = new Intl.DateTimeFormat(undefined, { ...clock, day: "numeric", month: "short", year: "numeric" });
export const zonedFormat = new Intl.DateTimeFormat(undefined, {
  ...clock,
  day: "numeric",
  month: "short",
  timeZoneName: "short",
});
