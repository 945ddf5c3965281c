// Cards of the seven coins: price and change over a day, and the day as a line of our own bars.
import { make, shape, write } from "../elements.ts";
import { direction, duration, money, percent } from "../format.ts";
import { chartAddress, type Listed } from "../instruments.ts";
import { text } from "../language.ts";
import type { LiveFeed } from "../live/feed.ts";
import { finite } from "../requests.ts";
import { drawSparkline } from "../sparkline.ts";
import { showAge } from "./figures.ts";
import { drawn, historyOf, lastDay, type History } from "./history.ts";
import { NOT_KNOWN, type Figure, type Summary } from "./summary.ts";

const COINS = {
  btc: "Bitcoin",
  eth: "Ethereum",
  bnb: "BNB",
  sol: "Solana",
  xrp: "XRP",
  ada: "Cardano",
  link: "Chainlink",
} as const;
type Coin = keyof typeof COINS;

const HISTORY_INTERVAL = 60_000;
/** What is live is newer than what the summary says for as long (ms). */
const FRESH = 15_000;
/** A bar that began longer ago (ms) does not say what the price is now: two of a day's line. */
const OLD = 1_800_000;
const QUOTES = ["USDT", "USD", "USDC"];

export class CoinCards {
  private readonly cards: CoinCard[];
  private summary: Summary | undefined;

  constructor(
    list: HTMLElement,
    feed: LiveFeed,
    private readonly changed: (coin: Coin, price: number, ratio: number | undefined) => void,
  ) {
    this.cards = (Object.keys(COINS) as Coin[]).map((coin) => new CoinCard(coin, feed, () => this.draw()));
    list.replaceChildren(...this.cards.map(({ item }) => item));
    setInterval(() => this.cards.forEach((card) => void card.ask()), HISTORY_INTERVAL);
  }

  show(summary: Summary | undefined): void {
    this.summary = summary;
    this.draw();
  }

  /** Which of these symbols' bars stand for each coin. */
  offer(listed: readonly Listed[]): void {
    for (const card of this.cards) card.offer(listed);
  }

  draw(): void {
    for (const card of this.cards) {
      const shown = card.draw(this.summary);
      if (shown) this.changed(card.coin, shown.price, shown.ratio);
    }
  }
}

class CoinCard {
  readonly item: HTMLLIElement;
  private readonly link = make("a", { class: "card coin" });
  private readonly price = make("strong", { data: true });
  private readonly change = make("span", { class: "change", data: true });
  private readonly age = make("small", { class: "age" });
  private readonly svg = shape("svg", { class: "spark" }) as SVGSVGElement;
  private readonly none = make("small", { class: "none" });
  private own: Listed | undefined;
  private history: History | undefined;
  private live: { price: number; at: number } | undefined;

  constructor(
    readonly coin: Coin,
    private readonly feed: LiveFeed,
    private readonly redraw: () => void,
  ) {
    const name = make("span", { class: "name", data: true }, make("b", { text: coin.toUpperCase() }), " ", make("span", { text: COINS[coin] === coin.toUpperCase() ? "" : COINS[coin] }));
    this.link.dataset["coin"] = coin;
    this.link.append(make("span", { class: "top" }, name, this.change), this.price, this.svg, this.none, this.age);
    this.item = make("li", {}, this.link);
  }

  offer(listed: readonly Listed[]): void {
    const own = QUOTES.flatMap((quote) => listed.filter((one) => one.kind === "spot" && one.collected && one.instrument === `${this.coin.toUpperCase()}-${quote}`))[0];
    if (!own || this.own) return;
    this.own = own;
    this.link.href = chartAddress(own);
    this.feed.subscribe(`bars:${own.exchange}:${own.symbol}:1m`, 2, {
      // Until the day is known, its newest minutes are.
      snapshot: ({ data }) => {
        this.history ??= historyOf(data);
        this.redraw();
      },
      update: ({ data }) => {
        const price = finite(data.at(-1)?.["close"]);
        if (price === undefined) return;
        this.live = { price, at: performance.now() };
        this.redraw();
      },
    });
    void this.ask();
  }

  async ask(): Promise<void> {
    if (!this.own || document.hidden) return;
    try {
      this.history = (await lastDay(this.own)) ?? this.history;
      this.redraw();
    } catch {
      // the line stays as it was
    }
  }

  /** What is shown, where something is known. */
  draw(summary: Summary | undefined): { price: number; ratio: number | undefined } | undefined {
    const said = summary?.figures.get(`${this.coin}_price_usd`) ?? (summary ? NOT_KNOWN : undefined);
    const change = summary?.figures.get(`${this.coin}_change_24h`);
    const live = this.live && performance.now() - this.live.at < FRESH ? this.live.price : undefined;
    // While nobody says more, our own bars do.
    const own = live ?? (said?.value === undefined ? this.history?.closes.at(-1) : undefined);
    const price = own ?? said?.value;
    const ratio = change?.value !== undefined ? change.value / 100 : price !== undefined && this.history ? price / this.history.open - 1 : undefined;
    write(this.price, price === undefined ? "—" : money(price));
    write(this.change, ratio === undefined ? "" : percent(ratio));
    this.change.dataset["direction"] = direction(ratio ?? 0);
    const asOf = live === undefined ? this.history?.to : undefined;
    const figure: Figure | undefined = own === undefined ? said : { value: own, source: "own", asOf, stale: asOf !== undefined && Date.now() - asOf > OLD };
    showAge(this.age, figure);
    this.drawLine();
    return price === undefined ? undefined : { price, ratio };
  }

  private drawLine(): void {
    const { history } = this;
    const there = history !== undefined;
    this.svg.classList.toggle("empty", !there);
    write(this.none, there ? "" : text("coin.no_line"));
    if (!there) return;
    drawSparkline(this.svg, drawn(history), this.change.dataset["direction"] ?? "", lineInWords(COINS[this.coin], history, money));
  }
}

/** What the line of a symbol shows. */
export function lineInWords(coin: string, history: History, format: (price: number) => string): string {
  const words = { first: history.open, last: history.closes.at(-1)!, low: history.low, high: history.high };
  const prices = Object.fromEntries(Object.entries(words).map(([name, price]) => [name, format(price)]));
  return text("coin.line", { coin, hours: duration(Date.now() - history.from), ...prices });
}
