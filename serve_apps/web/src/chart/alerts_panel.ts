// Alerts of the symbol: those that fire while the page is open, and with the instance's token those that are defined.
import { make } from "../elements.ts";
import { clockSeconds } from "../format.ts";
import type { Instrument } from "../instruments.ts";
import { text } from "../language.ts";
import type { LiveFeed, Message } from "../live/feed.ts";
import { finite, getJson, isRecord, Refused, string } from "../requests.ts";
import { Ring } from "../ring.ts";
import { read, write } from "../storage.ts";

const FIRED_SHOWN = 20;
const TOKEN = "rayfeed.token";

export class AlertsPanel {
  private readonly fired = new Ring<{ ms: number; said: string }>(FIRED_SHOWN);
  private defined: readonly Record<string, unknown>[] | undefined;
  private instrument: Instrument | undefined;
  private unsubscribe = (): void => {};
  private problem = "";
  private readonly list: HTMLElement;
  private readonly firedList: HTMLElement;
  private readonly note: HTMLElement;
  private readonly input: HTMLInputElement;

  constructor(
    section: HTMLElement,
    private readonly feed: LiveFeed,
  ) {
    this.list = section.querySelector<HTMLElement>(".defined")!;
    this.firedList = section.querySelector<HTMLElement>(".fired")!;
    this.note = section.querySelector<HTMLElement>(".note")!;
    this.input = section.querySelector<HTMLInputElement>("input")!;
    this.input.value = read(TOKEN, "sessionStorage") ?? "";
    const use = (): void => {
      // For this tab only: it may do more than look.
      write(TOKEN, this.input.value.trim(), "sessionStorage");
      void this.ask();
    };
    section.querySelector("button")!.addEventListener("click", use);
    this.input.addEventListener("keydown", (event) => event.key === "Enter" && use());
  }

  follow(instrument: Instrument): void {
    this.unsubscribe();
    this.instrument = instrument;
    this.fired.clear();
    const take = (message: Message): void => {
      for (const row of message.data) this.fired.push({ ms: (finite(row["fired_at"]) ?? 0) / 1e6, said: string(row["message"]) });
      if (message.data.length) this.draw();
    };
    const begin = (message: Message): void => {
      this.fired.clear();
      take(message);
    };
    this.unsubscribe = this.feed.subscribe(`alerts:${instrument.exchange}:${instrument.symbol}`, 0, { snapshot: begin, update: take });
    this.draw();
    if (this.input.value) void this.ask();
  }

  draw(): void {
    this.firedList.replaceChildren(...this.fired.newest().map(({ ms, said }) => make("li", {}, make("time", { text: clockSeconds(ms), data: true }), " ", make("span", { text: said, data: true }))));
    const own = (this.defined ?? []).filter((alert) => alert["symbol"] === this.instrument?.symbol && (!alert["exchange"] || alert["exchange"] === this.instrument?.exchange));
    this.list.replaceChildren(...own.map((alert) => make("li", {}, definition(alert))));
    this.note.textContent = this.problem || (this.defined ? (own.length ? "" : text("alerts.none_defined")) : text("alerts.token_says"));
  }

  private async ask(): Promise<void> {
    this.problem = "";
    this.defined = undefined;
    const token = this.input.value.trim();
    if (token) {
      try {
        const body = await getJson("/api/v1/alerts", undefined, { authorization: `Bearer ${token}` });
        this.defined = (Array.isArray(body) ? body : isRecord(body) && Array.isArray(body["alerts"]) ? body["alerts"] : []).filter(isRecord);
      } catch (error) {
        this.problem = error instanceof Refused && error.status === 401 ? text("alerts.refused") : text("alerts.away");
      }
    }
    this.draw();
  }
}

function definition(alert: Record<string, unknown>): HTMLElement {
  const said = [alert["condition"], alert["threshold"], alert["timeframe"], alert["note"]];
  const known = said.filter((value) => (typeof value === "string" && value !== "") || typeof value === "number");
  const state = text(alert["is_active"] === false ? "alerts.off" : "alerts.on");
  return make("span", {}, make("span", { text: known.join(" "), data: true }), " ", make("small", { text: state }));
}
