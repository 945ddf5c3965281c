// The values of the indicators at the bar under the pointer, else at the newest that has them.
import { arrange, make, write } from "../elements.ts";
import { compact, decimal, price } from "../format.ts";
import { text } from "../language.ts";
import type { BarStore } from "./bar_store.ts";
import { INDICATORS, type Indicator } from "./indicators.ts";

/** The open bar has none yet. */
const LOOKED_BACK = 2;

export class Legend {
  private readonly entries = new Map<string, { item: HTMLElement; name: HTMLElement; values: HTMLElement[] }>();

  constructor(private readonly list: HTMLElement) {}

  show(store: BarStore, names: readonly string[], place: number, decimals: number): void {
    const shown = INDICATORS.filter(({ name }) => names.includes(name));
    for (const indicator of shown) {
      const { name, values } = this.entry(indicator);
      write(name, text(indicator.label));
      indicator.lines.forEach(({ column }, at) => write(values[at]!, told(indicator, valueAt(store, column, place), decimals)));
    }
    arrange(this.list, shown.map(({ name }) => this.entries.get(name)!.item));
  }

  private entry(indicator: Indicator): { name: HTMLElement; values: HTMLElement[] } {
    const known = this.entries.get(indicator.name);
    if (known) return known;
    const name = make("span", { class: "name" });
    const values = indicator.lines.map(({ colour }) => {
      const value = make("b", { data: true });
      value.style.setProperty("--sample", `var(${colour})`);
      return value;
    });
    const made = { item: make("li", {}, name, " ", ...values.flatMap((value) => [value, " "])), name, values };
    this.entries.set(indicator.name, made);
    return made;
  }
}

function valueAt(store: BarStore, column: string, place: number): number {
  const values = store.indicator(column);
  for (let back = 0; values && back < LOOKED_BACK; back++) {
    const value = values[place - store.begin - back];
    if (value !== undefined && !Number.isNaN(value)) return value;
  }
  return NaN;
}

function told({ pane }: Indicator, value: number, decimals: number): string {
  if (Number.isNaN(value)) return "—";
  if (pane === "volume") return compact(value);
  if (pane === "rsi" || pane === "stochastic") return decimal(value, 1);
  return price(value, pane === "macd" ? decimals + 1 : decimals);
}
