// The order book: the best levels of each side with what lies up to each, as a table whose rows are bars of depth.
import { make, write } from "../elements.ts";
import { compact, decimalsOf, percent, price } from "../format.ts";
import type { Instrument } from "../instruments.ts";
import { text } from "../language.ts";
import type { LiveFeed, Message } from "../live/feed.ts";
import { readLevels, type Level } from "./levels.ts";

const LEVELS = 10;
const RATE = 4;

interface Row {
  readonly line: HTMLTableRowElement;
  readonly cells: readonly HTMLElement[];
}

export class BookPanel {
  private readonly sides: Readonly<Record<"asks" | "bids", readonly Row[]>>;
  private readonly spread: HTMLElement;
  private readonly note: HTMLElement;
  private unsubscribe = (): void => {};
  private shown: Message | undefined;
  /** The connection went away, and nothing has come since. */
  private away = false;
  private drawing = false;

  constructor(
    private readonly section: HTMLElement,
    private readonly feed: LiveFeed,
  ) {
    const body = (side: string): HTMLElement => section.querySelector<HTMLElement>(`tbody[data-side=${side}]`)!;
    this.spread = section.querySelector<HTMLElement>(".spread")!;
    this.note = section.querySelector<HTMLElement>(".note")!;
    this.sides = { asks: rows(body("asks")), bids: rows(body("bids")) };
    feed.onState((state) => {
      if (state !== "reconnecting") return;
      this.away = true;
      this.draw();
    });
  }

  follow({ exchange, symbol }: Instrument): void {
    this.unsubscribe();
    this.shown = undefined;
    this.draw();
    const take = (message: Message): void => {
      this.shown = message;
      this.away = false;
      this.soon();
    };
    this.unsubscribe = this.feed.subscribe(`book:${exchange}:${symbol}`, RATE, { snapshot: take, update: take });
  }

  draw(): void {
    const row = this.shown?.data.at(-1);
    const state = row?.["state"];
    const [bids, asks] = [readLevels(row?.["bids"], LEVELS), readLevels(row?.["asks"], LEVELS)];
    const there = !this.away && state === "synced" && bids.length > 0 && asks.length > 0;
    this.section.classList.toggle("without", !there);
    write(this.note, there ? "" : !row ? text("book.none") : text("book.untrusted"));
    this.note.hidden = there;
    if (!there) return;
    const decimals = Math.max(...[...bids, ...asks].map((level) => decimalsOf(level.price)));
    const deepest = Math.max(bids.at(-1)!.total, asks.at(-1)!.total);
    fill(this.sides.bids, bids, decimals, deepest);
    // The best of both sides meet in the middle.
    fill(this.sides.asks, [...Array<undefined>(LEVELS - asks.length).fill(undefined), ...asks.toReversed()], decimals, deepest);
    const [bid, ask] = [bids[0]!.price, asks[0]!.price];
    write(this.spread, text("book.spread", { spread: price(ask - bid, decimals), ratio: percent((ask - bid) / ((ask + bid) / 2), "auto", 3) }));
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

function rows(body: HTMLElement): Row[] {
  const made = Array.from({ length: LEVELS }, () => {
    const cells = Array.from({ length: 3 }, () => make("td", { data: true }));
    return { line: make("tr", {}, ...cells), cells };
  });
  body.replaceChildren(...made.map(({ line }) => line));
  return made;
}

function fill(rows: readonly Row[], levels: readonly (Level | undefined)[], decimals: number, deepest: number): void {
  rows.forEach(({ line, cells }, at) => {
    const level = levels[at];
    line.style.setProperty("--depth", level ? `${Math.round((level.total / deepest) * 100)}%` : "0%");
    const texts = level ? [price(level.price, decimals), compact(level.size), compact(level.total)] : ["", "", ""];
    texts.forEach((said, index) => write(cells[index]!, said));
  });
}
