// What values of indicators are called: the table that the server reads too.
import table from "../../bands.json" with { type: "json" };
import { language } from "./language.ts";

export type Indicator = keyof typeof table;

export interface Band {
  readonly below: number | null;
  readonly name: string;
  readonly vi: string;
  readonly en: string;
}

export function bands(indicator: Indicator): readonly Band[] {
  return table[indicator];
}

export function band(indicator: Indicator, value: number): Band {
  return bands(indicator).find(({ below }) => below === null || value < below)!;
}

export function bandName(band: Band): string {
  return band[language()];
}
