// What the page remembers: the instrument in the address (`#binance:BTCUSDT`) and both it and the theme in
// localStorage. A browser that forbids storage only loses the memory.
import type { Instrument } from "./source";

export type Theme = "light" | "dark";

const INSTRUMENT = "rayfeed.instrument";
const THEME = "rayfeed.theme";

export function rememberedInstrument(): Instrument | undefined {
  return parse(location.hash.slice(1)) ?? parse(read(INSTRUMENT) ?? "");
}

export function rememberInstrument(instrument: Instrument): void {
  const text = [instrument.exchange, instrument.symbol].map(encodeURIComponent).join(":");
  write(INSTRUMENT, text);
  if (location.hash !== `#${text}`) history.replaceState(null, "", `#${text}`);
}

function parse(text: string): Instrument | undefined {
  try {
    const [exchange, symbol] = text.split(":").map(decodeURIComponent);
    return exchange && symbol ? { exchange, symbol } : undefined;
  } catch (error) {
    if (error instanceof URIError) return undefined; // a mistyped address
    throw error;
  }
}

/** Follows the system until the reader switches; calls `changed` after every change of what is seen. */
export function followTheme(button: HTMLButtonElement, changed: () => void): void {
  const system = matchMedia("(prefers-color-scheme: dark)");
  const remembered = read(THEME);
  let own: Theme | undefined = remembered === "light" || remembered === "dark" ? remembered : undefined;
  const apply = (): void => {
    const theme = own ?? (system.matches ? "dark" : "light");
    document.documentElement.dataset["theme"] = theme;
    button.setAttribute("aria-label", theme === "dark" ? "Switch to the light theme" : "Switch to the dark theme");
    changed();
  };
  system.addEventListener("change", apply);
  button.addEventListener("click", () => {
    own = document.documentElement.dataset["theme"] === "dark" ? "light" : "dark";
    write(THEME, own);
    apply();
  });
  apply();
}

function read(key: string): string | null {
  try {
    return localStorage.getItem(key);
  } catch {
    return null;
  }
}

function write(key: string, value: string): void {
  try {
    localStorage.setItem(key, value);
  } catch {
    // forbidden or full
  }
}
