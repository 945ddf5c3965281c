// What the chart page remembers: the symbol in the address (`/chart?symbol=...&exchange=...`) and, with timeframe and
// indicators, in localStorage.
import type { Instrument } from "../instruments.ts";
import { readSettings, writeSettings } from "../storage.ts";
import { TIMEFRAMES, TRADES, type Timeframe } from "./bars_source.ts";
import { AT_FIRST, INDICATORS } from "./indicators.ts";

const KEPT = "chart-settings";

export interface Settings {
  exchange: string;
  symbol: string;
  timeframe: string;
  /** Names with commas. */
  indicators: string;
}

const DEFAULTS: Settings = { exchange: "", symbol: "", timeframe: "1m", indicators: AT_FIRST.join() };

export function remembered(): Settings {
  const settings = readSettings(KEPT, DEFAULTS);
  if (!isTimeframe(settings.timeframe)) settings.timeframe = DEFAULTS.timeframe;
  return settings;
}

export function remember(settings: Settings): void {
  writeSettings(KEPT, settings);
}

export function isTimeframe(name: string): name is Timeframe {
  return Object.hasOwn(TIMEFRAMES, name) || name === TRADES;
}

export function chosenIndicators({ indicators }: Settings): string[] {
  const chosen = new Set(indicators.split(","));
  return INDICATORS.map(({ name }) => name).filter((name) => chosen.has(name));
}

/** The instrument of the address, and the one it is compared with. */
export function asked(): { shown: Instrument | undefined; compared: Instrument | undefined; timeframe: string | null } {
  const query = new URLSearchParams(location.search);
  const instrument = (symbol: string, exchange: string): Instrument | undefined => {
    const named = { symbol: query.get(symbol) ?? "", exchange: query.get(exchange) ?? "" };
    return named.symbol && named.exchange ? named : undefined;
  };
  return { shown: instrument("symbol", "exchange"), compared: instrument("with", "with_exchange"), timeframe: query.get("timeframe") };
}

/** The address of what is shown, to be kept and passed on. */
export function address(shown: Instrument, compared: Instrument | undefined): string {
  const query = new URLSearchParams({ symbol: shown.symbol, exchange: shown.exchange });
  if (compared) {
    query.set("with", compared.symbol);
    query.set("with_exchange", compared.exchange);
  }
  return `${location.pathname}?${query}`;
}
