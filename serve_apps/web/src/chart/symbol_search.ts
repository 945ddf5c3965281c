// Finding symbols by what is typed. Pure.
import type { Instrument } from "../instruments.ts";

/** Instruments whose exchange and symbol hold every word; punctuation does not count, so `btcusd` finds `BTC-USD`. */
export function found(symbols: ReadonlyMap<string, readonly string[]>, query: string): Instrument[] {
  const words = query.split(/\s+/).map(bare).filter(Boolean);
  const matches: Instrument[] = [];
  for (const [exchange, names] of symbols) {
    const matching = names.filter((symbol) => {
      const text = bare(exchange + symbol);
      return words.every((word) => text.includes(word));
    });
    const starts = (symbol: string): number => Number(bare(symbol).startsWith(words[0] ?? ""));
    matching.sort((a, b) => starts(b) - starts(a));
    matches.push(...matching.map((symbol) => ({ exchange, symbol })));
  }
  return matches;
}

function bare(text: string): string {
  return text.toLowerCase().replace(/[^\p{L}\p{N}]/gu, "");
}
