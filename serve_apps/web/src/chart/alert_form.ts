// What an alert is to look for: the conditions there are, in words, and the form for a new one.
import { element } from "../elements.ts";
import { decimal, decimalsOf } from "../format.ts";
import { type Key, text } from "../language.ts";
import { finite, string } from "../requests.ts";

export interface Definition {
  readonly condition: string;
  readonly threshold?: number;
  readonly timeframe?: string;
  readonly one_time: boolean;
}

interface Choice {
  readonly condition: string;
  readonly says: Key;
  /** What the threshold is at first; `last`: the last price. */
  readonly begins?: number | "last";
  /** A threshold that the reader need not know of. */
  readonly fixed?: number;
  /** Of bars that closed, not of trades. */
  readonly bars?: true;
}

const CHOICES: readonly Choice[] = [
  { condition: "price_above", says: "alert.price_above", begins: "last" },
  { condition: "price_below", says: "alert.price_below", begins: "last" },
  { condition: "rsi_above", says: "alert.rsi_above", begins: 70, bars: true },
  { condition: "rsi_below", says: "alert.rsi_below", begins: 30, bars: true },
  { condition: "macd_crossover", says: "alert.macd_up", fixed: 1, bars: true },
  { condition: "macd_crossover", says: "alert.macd_down", fixed: 0, bars: true },
  { condition: "bollinger_above", says: "alert.bollinger_above", bars: true },
  { condition: "bollinger_below", says: "alert.bollinger_below", bars: true },
  { condition: "volume_spike", says: "alert.volume_spike", begins: 3, bars: true },
];

/** What an alert looks for, as the form says it. */
export function inWords(alert: Readonly<Record<string, unknown>>): string {
  const threshold = finite(alert["threshold"]);
  const upwards = (threshold ?? 0) > 0;
  const choice = CHOICES.find(({ condition, fixed }) => condition === alert["condition"] && (fixed === undefined || fixed > 0 === upwards));
  const parts = [choice ? text(choice.says) : string(alert["condition"])];
  if (threshold !== undefined && choice?.fixed === undefined) parts.push(decimal(threshold, decimalsOf(threshold)));
  if (alert["timeframe"]) parts.push(`· ${string(alert["timeframe"])}`);
  if (alert["note"]) parts.push(`· ${string(alert["note"])}`);
  return parts.join(" ");
}

export class AlertForm {
  private readonly condition = element<HTMLSelectElement>("alert-condition");
  private readonly threshold = element<HTMLInputElement>("alert-threshold");
  private readonly timeframe = element<HTMLSelectElement>("alert-timeframe");
  private readonly once = element<HTMLInputElement>("alert-once");
  private typed = false;

  /** `make` gets what was asked for, and answers whether there is such an alert now. */
  constructor(
    private readonly form: HTMLFormElement,
    private readonly chart: { readonly last: () => number | undefined; readonly timeframe: () => string },
    make: (wanted: Definition) => Promise<boolean>,
  ) {
    this.draw();
    this.condition.addEventListener("change", () => this.begin());
    form.addEventListener("input", () => (this.typed = true));
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      const button = form.querySelector("button")!;
      if (button.disabled) return;
      button.disabled = true;
      void make(this.wanted())
        .then((made) => made && this.begin())
        .finally(() => (button.disabled = false));
    });
  }

  /** Shows it to those who may make alerts. */
  allow(allowed: boolean): void {
    this.form.hidden = !allowed;
  }

  /** The chart has other bars: what the reader has typed stays. */
  renew(): void {
    if (!this.typed) this.begin();
  }

  /** What it begins with for the symbol and the condition chosen. */
  begin(): void {
    const { begins, bars } = this.choice;
    this.typed = false;
    const value = begins === "last" ? this.chart.last() : begins;
    this.threshold.value = value === undefined ? "" : String(value);
    this.threshold.hidden = this.threshold.disabled = begins === undefined;
    this.timeframe.hidden = !bars;
    const shown = this.chart.timeframe();
    if ([...this.timeframe.options].some((option) => option.value === shown)) this.timeframe.value = shown;
  }

  /** In the reader's language. */
  draw(): void {
    const { selectedIndex } = this.condition;
    this.condition.replaceChildren(...CHOICES.map(({ says }) => new Option(text(says))));
    this.condition.selectedIndex = Math.max(0, selectedIndex);
  }

  private get choice(): Choice {
    return CHOICES[this.condition.selectedIndex]!;
  }

  private wanted(): Definition {
    const { condition, begins, fixed, bars } = this.choice;
    const threshold = begins === undefined ? fixed : this.threshold.valueAsNumber;
    return { condition, one_time: this.once.checked, ...(threshold !== undefined && { threshold }), ...(bars && { timeframe: this.timeframe.value }) };
  }
}
