// The newest trades, as they come.
import { make, write } from "../elements.ts";
import { clockSeconds, compact, decimalsOf, price } from "../format.ts";
import type { Instrument } from "../instruments.ts";
import { text } from "../language.ts";
import type { LiveFeed, Message } from "../live/feed.ts";

const SHOWN = 24;

interface Traded {
  readonly id: string;
  readonly ms: number;
  readonly price: number;
  readonly size: number;
  readonly side: string;
}

export class TapePanel {
  /** Ascending by time. */
  private trades: readonly Traded[] = [];
  private readonly rows: { line: HTMLTableRowElement; cells: HTMLElement[] }[];
  private readonly note: HTMLElement;
  private unsubscribe = (): void => {};
  private drawing = false;
  private decimals = 0;

  constructor(
    private readonly section: HTMLElement,
    private readonly feed: LiveFeed,
  ) {
    this.note = section.querySelector<HTMLElement>(".note")!;
    this.rows = Array.from({ length: SHOWN }, () => {
      const cells = Array.from({ length: 3 }, () => make("td", { data: true }));
      return { line: make("tr", {}, ...cells), cells };
    });
    section.querySelector("tbody")!.replaceChildren(...this.rows.map(({ line }) => line));
  }

  follow({ exchange, symbol }: Instrument): void {
    this.unsubscribe();
    this.trades = [];
    this.decimals = 0;
    this.draw();
    const take = (message: Message): void => {
      const shown = new Set(this.trades.map(({ id }) => id));
      const more = message.data
        .map((row): Traded => ({ id: String(row["trade_id"]), ms: Number(row["ts_event"]) / 1e6, price: Number(row["price"]), size: Number(row["size"]), side: String(row["side"] ?? "") }))
        .filter(({ id }) => !shown.has(id));
      for (const trade of more) this.decimals = Math.max(this.decimals, decimalsOf(trade.price));
      // A snapshot reaches further back than what is shown.
      this.trades = [...this.trades, ...more].sort((a, b) => a.ms - b.ms).slice(-SHOWN);
      this.soon();
    };
    this.unsubscribe = this.feed.subscribe(`trades:${exchange}:${symbol}`, 0, { snapshot: take, update: take });
  }

  draw(): void {
    const newest = this.trades.toReversed();
    this.section.classList.toggle("without", newest.length === 0);
    this.note.hidden = newest.length > 0;
    write(this.note, newest.length > 0 ? "" : text("tape.none"));
    this.rows.forEach(({ line, cells }, at) => {
      const trade = newest[at];
      line.dataset["side"] = trade?.side ?? "";
      const side = trade?.side === "buy" || trade?.side === "sell" ? text(`side.${trade.side}`) : "";
      line.title = side;
      const texts = trade ? [price(trade.price, this.decimals), compact(trade.size), clockSeconds(trade.ms)] : ["", "", ""];
      texts.forEach((said, index) => write(cells[index]!, said));
    });
  }

  /** Once a frame at most. */
  private soon(): void {
    if (this.drawing) return;
    this.drawing = true;
    requestAnimationFrame(() => {
      this.drawing = false;
      this.draw();
    });
  }
}
