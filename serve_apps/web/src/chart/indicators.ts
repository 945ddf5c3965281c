// The thirteen indicators of the chart: which columns each has, where it is drawn, and how.
import type { Key } from "../language.ts";

export type Pane = "price" | "volume" | "rsi" | "macd" | "stochastic";

export interface Line {
  readonly column: string;
  /** A colour of the style sheet. */
  readonly colour: string;
  readonly kind?: "line" | "histogram" | "dashed";
}

export interface Indicator {
  readonly name: string;
  readonly label: Key;
  readonly pane: Pane;
  readonly lines: readonly Line[];
  /** Levels that are marked in its panel. */
  readonly levels?: readonly number[];
}

const line = (column: string, colour: string): Line => ({ column, colour });

export const INDICATORS: readonly Indicator[] = [
  { name: "sma_20", label: "indicator.sma_20", pane: "price", lines: [line("sma_20", "--series-1")] },
  { name: "sma_50", label: "indicator.sma_50", pane: "price", lines: [line("sma_50", "--series-2")] },
  { name: "sma_100", label: "indicator.sma_100", pane: "price", lines: [line("sma_100", "--series-3")] },
  { name: "sma_200", label: "indicator.sma_200", pane: "price", lines: [line("sma_200", "--series-4")] },
  { name: "ema_12", label: "indicator.ema_12", pane: "price", lines: [line("ema_12", "--series-5")] },
  { name: "ema_26", label: "indicator.ema_26", pane: "price", lines: [line("ema_26", "--series-6")] },
  { name: "ema_50", label: "indicator.ema_50", pane: "price", lines: [line("ema_50", "--series-7")] },
  {
    name: "bollinger",
    label: "indicator.bollinger",
    pane: "price",
    lines: [line("bb_upper", "--series-8"), { column: "bb_middle", colour: "--series-8", kind: "dashed" }, line("bb_lower", "--series-8")],
  },
  { name: "vwap", label: "indicator.vwap", pane: "price", lines: [line("vwap_200", "--series-9")] },
  { name: "volume", label: "indicator.volume", pane: "volume", lines: [line("volume_sma", "--series-1")] },
  { name: "rsi", label: "indicator.rsi", pane: "rsi", lines: [line("rsi_14", "--series-2")], levels: [30, 70] },
  {
    name: "macd",
    label: "indicator.macd",
    pane: "macd",
    lines: [{ column: "macd_hist", colour: "--muted", kind: "histogram" }, line("macd", "--series-1"), line("macd_signal", "--series-3")],
    levels: [0],
  },
  {
    name: "stochastic",
    label: "indicator.stochastic",
    pane: "stochastic",
    lines: [line("stoch_k", "--series-1"), line("stoch_d", "--series-3")],
    levels: [20, 80],
  },
];

/** What the server calls an indicator that bars have a column of the same name of. */
const ASKED: Readonly<Record<string, string>> = { vwap_200: "vwap" };

/** Every column of them, as the server calls it. */
export const COLUMNS: readonly string[] = INDICATORS.flatMap(({ lines }) => lines.map(({ column }) => ASKED[column] ?? column));

/** Shown until the reader chooses. */
export const AT_FIRST: readonly string[] = ["sma_20", "sma_50", "bollinger", "volume", "rsi", "macd"];
