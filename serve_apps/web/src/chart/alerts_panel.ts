// Alerts of the symbol: those that fire while the page is open, and with the instance's token those that are defined, to be
// made, paused and removed.
import { make } from "../elements.ts";
import { clockSeconds } from "../format.ts";
import type { Instrument } from "../instruments.ts";
import { text } from "../language.ts";
import type { LiveFeed, Message } from "../live/feed.ts";
import { finite, getJson, isRecord, Refused, send, string } from "../requests.ts";
import { Ring } from "../ring.ts";
import { read, write } from "../storage.ts";
import { AlertForm, type Definition, inWords } from "./alert_form.ts";

const ALERTS = "/api/v1/alerts";
const FIRED_SHOWN = 20;
const TOKEN = "rayfeed.token";

/** A price that an alert waits for. */
export interface Level {
  readonly price: number;
  readonly above: boolean;
}

interface Chart {
  readonly last: () => number | undefined;
  readonly timeframe: () => string;
  readonly mark: (levels: readonly Level[]) => void;
}

export class AlertsPanel {
  private readonly fired = new Ring<{ ms: number; said: string }>(FIRED_SHOWN);
  private defined: readonly Record<string, unknown>[] | undefined;
  private instrument: Instrument | undefined;
  private unsubscribe = (): void => {};
  private problem = "";
  private asked = 0;
  private readonly list: HTMLElement;
  private readonly firedList: HTMLElement;
  private readonly note: HTMLElement;
  private readonly input: HTMLInputElement;
  private readonly form: AlertForm;

  constructor(
    section: HTMLElement,
    private readonly feed: LiveFeed,
    private readonly chart: Chart,
  ) {
    this.list = section.querySelector<HTMLElement>(".defined")!;
    this.firedList = section.querySelector<HTMLElement>(".fired")!;
    this.note = section.querySelector<HTMLElement>(".note")!;
    this.input = section.querySelector<HTMLInputElement>(".token input")!;
    this.input.value = read(TOKEN, "sessionStorage") ?? "";
    this.form = new AlertForm(section.querySelector("form")!, chart, (wanted) => this.add(wanted));
    const use = (): void => {
      // For this tab only: it may do more than look.
      write(TOKEN, this.input.value.trim(), "sessionStorage");
      void this.ask();
    };
    section.querySelector(".token button")!.addEventListener("click", use);
    this.input.addEventListener("keydown", (event) => event.key === "Enter" && use());
  }

  follow(instrument: Instrument): void {
    this.unsubscribe();
    this.instrument = instrument;
    this.fired.clear();
    this.form.begin();
    const take = (message: Message): void => {
      for (const row of message.data) this.fired.push({ ms: (finite(row["fired_at"]) ?? 0) / 1e6, said: string(row["message"]) });
      if (message.data.length) this.drawFired();
    };
    const begin = (message: Message): void => {
      this.fired.clear();
      take(message);
    };
    const update = (message: Message): void => {
      take(message);
      // One that fires once is inactive now.
      if (this.defined) void this.ask();
    };
    this.unsubscribe = this.feed.subscribe(`alerts:${instrument.exchange}:${instrument.symbol}`, 0, { snapshot: begin, update });
    this.problem = "";
    this.drawFired();
    this.drawDefined();
    if (this.input.value) void this.ask();
  }

  draw(): void {
    this.form.draw();
    this.drawFired();
    this.drawDefined();
  }

  /** The bars of the symbol are there: what a new alert begins with depends on them. */
  ready(): void {
    this.form.renew();
  }

  private drawFired(): void {
    this.firedList.replaceChildren(...this.fired.newest().map(({ ms, said }) => make("li", {}, make("time", { text: clockSeconds(ms), data: true }), " ", make("span", { text: said, data: true }))));
  }

  private drawDefined(): void {
    const own = (this.defined ?? []).filter((alert) => alert["symbol"] === this.instrument?.symbol && (!alert["exchange"] || alert["exchange"] === this.instrument?.exchange));
    const focused = this.list.contains(document.activeElement) ? (document.activeElement as HTMLElement).id : "";
    this.list.replaceChildren(...own.map((alert) => this.definition(alert)));
    if (focused) (document.getElementById(focused) ?? this.note).focus();
    this.note.textContent = this.problem || (this.defined ? (own.length ? "" : text("alerts.none_defined")) : text("alerts.token_says"));
    this.form.allow(this.defined !== undefined);
    const prices = own.filter((alert) => alert["is_active"] !== false && string(alert["condition"]).startsWith("price_"));
    this.chart.mark(prices.map((alert) => ({ price: finite(alert["threshold"]) ?? NaN, above: alert["condition"] === "price_above" })));
  }

  private definition(alert: Record<string, unknown>): HTMLElement {
    const [id, said, active] = [string(alert["alert_id"]), inWords(alert), alert["is_active"] !== false];
    const button = (what: "remove" | "switch", key: "alerts.remove" | "alerts.pause" | "alerts.resume", act: () => void): HTMLElement => {
      const made = make("button", { class: "link", text: text(key), attributes: { type: "button", id: `${what}-${id}`, "aria-label": `${text(key)}: ${said}` } });
      made.addEventListener("click", act);
      return made;
    };
    const path = `${ALERTS}/${encodeURIComponent(id)}`;
    return make(
      "li",
      {},
      make("span", {}, ...(active ? [said] : [`${said} `, make("small", { text: text("alerts.off") })])),
      button("switch", active ? "alerts.pause" : "alerts.resume", () => void this.change("PUT", path, { is_active: !active })),
      button("remove", "alerts.remove", () => void this.change("DELETE", path)),
    );
  }

  private add(wanted: Definition): Promise<boolean> {
    return this.change("POST", ALERTS, { ...wanted, exchange: this.instrument?.exchange, symbol: this.instrument?.symbol, channels: ["websocket"] });
  }

  /** Whether it was done. */
  private async change(method: string, path: string, body?: object): Promise<boolean> {
    try {
      await send(method, path, this.authorization, body);
    } catch (error) {
      this.problem = problemOf(error, text("alerts.not_changed"));
      this.drawDefined();
      return false;
    }
    await this.ask();
    return true;
  }

  private async ask(): Promise<void> {
    const number = ++this.asked;
    let [defined, problem]: [Record<string, unknown>[] | undefined, string] = [undefined, ""];
    if (this.input.value.trim()) {
      try {
        const body = await getJson(ALERTS, undefined, this.authorization);
        defined = (Array.isArray(body) ? body : []).filter(isRecord);
      } catch (error) {
        problem = problemOf(error, text("alerts.away"));
      }
    }
    if (number !== this.asked) return;
    [this.defined, this.problem] = [defined, problem];
    this.drawDefined();
  }

  private get authorization(): Record<string, string> {
    return { authorization: `Bearer ${this.input.value.trim()}` };
  }
}

/** What to tell the reader: what is wrong with what they asked, else `otherwise`. */
function problemOf(error: unknown, otherwise: string): string {
  if (!(error instanceof Refused)) return otherwise;
  if (error.status === 401) return text("alerts.refused");
  return error.status === 400 && error.detail ? error.detail : otherwise;
}
