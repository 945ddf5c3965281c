// The table of all symbols: price and change, the day as a line, and how far each can be trusted. Only rows in view are
// asked for and followed, so that thousands cost no more than a screen of them.
import { arrange, make, shape, write } from "../elements.ts";
import { decimalsOfAll, direction, percent, price, whole } from "../format.ts";
import { chartAddress, keyOf, type Instrument, type Listed } from "../instruments.ts";
import { text } from "../language.ts";
import type { LiveFeed } from "../live/feed.ts";
import { finite } from "../requests.ts";
import { drawSparkline } from "../sparkline.ts";
import { badge, readTrust, showBadge, type Trust } from "../trust.ts";
import { lineInWords } from "./coins.ts";
import { drawn, historyOf, lastDay, type History } from "./history.ts";

/** More than anyone reads; the rest is found by the filter. */
const MOST_ROWS = 300;
/** The server allows a hundred topics on a connection, of which others are used elsewhere. */
const MOST_FOLLOWED = 60;
const HISTORY_INTERVAL = 60_000;

export class SymbolTable {
  private readonly rows = new Map<string, Row>();
  private readonly trusts = new Map<string, Trust>();
  private listed: readonly Listed[] = [];
  private known = false;
  private readonly seen = new IntersectionObserver((entries) => this.looked(entries), { rootMargin: "200px" });
  private readonly byElement = new WeakMap<Element, Row>();
  private followed = 0;

  constructor(
    private readonly body: HTMLElement,
    private readonly summary: HTMLElement,
    private readonly note: HTMLElement,
    private readonly filter: HTMLInputElement,
    private readonly feed: LiveFeed,
  ) {
    filter.addEventListener("input", () => this.draw());
    const take = (message: { exchange: string; symbol: string; data: readonly unknown[] }): void => {
      const trust = readTrust(message.data.at(-1), message.exchange, message.symbol);
      if (!trust) return;
      this.trusts.set(keyOf(trust), trust);
      this.rows.get(keyOf(trust))?.showTrust(trust);
    };
    feed.subscribe("integrity", 0, { snapshot: take, update: take });
    feed.onState((state) => {
      if (state !== "reconnecting") return;
      this.trusts.clear();
      for (const row of this.rows.values()) row.showTrust(undefined);
    });
    setInterval(() => {
      if (!document.hidden) for (const row of this.rows.values()) if (row.inView) void row.ask();
    }, HISTORY_INTERVAL);
  }

  offer(listed: readonly Listed[]): void {
    this.listed = listed;
    this.known = true;
    this.draw();
  }

  draw(): void {
    const query = this.filter.value;
    const words = query.split(/\s+/).map(bare).filter(Boolean);
    const matching = this.listed.filter(({ exchange, symbol, instrument }) => {
      const all = bare(exchange + symbol + instrument);
      return words.every((word) => all.includes(word));
    });
    const shown = matching.slice(0, MOST_ROWS).map((one) => this.row(one));
    const lines = shown.map(({ line }) => line);
    for (const [key, row] of this.rows) {
      if (shown.includes(row)) continue;
      this.leave(row);
      this.seen.unobserve(row.line);
      this.rows.delete(key);
    }
    arrange(this.body, lines);
    for (const row of shown) {
      row.draw();
      this.seen.observe(row.line);
    }
    const counts = { shown: whole(shown.length), all: whole(this.listed.length) };
    write(this.summary, !this.known ? "" : shown.length < this.listed.length ? text("home.shown", counts) : text("home.all_shown", counts));
    const said = !this.known ? text("field.waiting") : this.listed.length === 0 ? text("home.no_symbols") : matching.length === 0 ? text("home.no_match", { query }) : "";
    write(this.note, said);
    this.note.hidden = said === "";
  }

  private row(one: Listed): Row {
    const key = keyOf(one);
    const known = this.rows.get(key);
    if (known) return known;
    const row = new Row(one, this.trusts.get(key));
    this.rows.set(key, row);
    this.byElement.set(row.line, row);
    return row;
  }

  private looked(entries: readonly IntersectionObserverEntry[]): void {
    for (const { target, isIntersecting } of entries) {
      const row = this.byElement.get(target);
      if (!row || row.inView === isIntersecting) continue;
      if (!isIntersecting) this.leave(row);
      else if (this.followed < MOST_FOLLOWED) {
        this.followed++;
        row.enter(this.feed);
      }
    }
  }

  private leave(row: Row): void {
    if (row.inView) this.followed--;
    row.leave();
  }
}

class Row {
  readonly line: HTMLTableRowElement;
  inView = false;
  private readonly price = make("td", { class: "number", data: true });
  private readonly change = make("td", { class: "number change", data: true });
  private readonly svg = shape("svg", { class: "spark" }) as SVGSVGElement;
  private readonly badge = badge();
  private history: History | undefined;
  private minutes: History | undefined;
  private live: number | undefined;
  private decimals = 0;
  private unsubscribe = (): void => {};

  constructor(
    private readonly instrument: Instrument,
    private trust: Trust | undefined,
  ) {
    const link = make("a", { text: instrument.symbol, data: true });
    link.href = chartAddress(instrument);
    const { exchange } = instrument;
    this.line = make("tr", {}, make("th", { attributes: { scope: "row" } }, link, make("small", { text: exchange, data: true, attributes: { "aria-hidden": "true" } })), make("td", { text: exchange, data: true }), this.price, this.change, make("td", { class: "sparkline" }, this.svg), make("td", {}, this.badge));
  }

  enter(feed: LiveFeed): void {
    this.inView = true;
    const { exchange, symbol } = this.instrument;
    this.unsubscribe = feed.subscribe(`bars:${exchange}:${symbol}:1m`, 1, {
      // Until the day is known, its newest minutes are.
      snapshot: ({ data }) => {
        this.minutes = historyOf(data);
        this.draw();
      },
      update: ({ data }) => {
        this.live = finite(data.at(-1)?.["close"]) ?? this.live;
        this.draw();
      },
    });
    if (!this.history) void this.ask();
  }

  leave(): void {
    this.inView = false;
    this.unsubscribe();
    this.unsubscribe = () => {};
  }

  async ask(): Promise<void> {
    try {
      this.history = (await lastDay(this.instrument)) ?? this.history;
      this.live = undefined;
      this.draw();
    } catch {
      // what is shown stays
    }
  }

  showTrust(trust: Trust | undefined): void {
    this.trust = trust;
    showBadge(this.badge, trust);
  }

  draw(): void {
    const history = this.history ?? this.minutes;
    showBadge(this.badge, this.trust);
    const newest = this.live ?? history?.closes.at(-1);
    if (newest === undefined) {
      write(this.price, "—");
      return;
    }
    this.decimals = Math.max(this.decimals, decimalsOfAll(Float64Array.of(newest)), history ? decimalsOfAll(history.closes) : 0);
    write(this.price, price(newest, this.decimals));
    const ratio = history && newest / history.open - 1;
    write(this.change, ratio === undefined ? "" : percent(ratio));
    this.change.dataset["direction"] = direction(ratio ?? 0);
    if (history) {
      drawSparkline(this.svg, drawn(history), direction(ratio ?? 0), lineInWords(this.instrument.symbol, history, (value) => price(value, this.decimals)));
    }
  }
}

function bare(text: string): string {
  return text.toLowerCase().replace(/[^\p{L}\p{N}]/gu, "");
}
