// Tiles of the whole market: capitalisation, volume, dominance, fear & greed, RSI, and indices of US stocks.
import { band, bandName, type Indicator } from "../bands.ts";
import { make, shape, write } from "../elements.ts";
import { compactMoney, decimal, direction, money, percent, signed } from "../format.ts";
import { isKey, text, type Key } from "../language.ts";
import { showAge } from "./figures.ts";
import { Gauge } from "./gauge.ts";
import { NOT_KNOWN, STOCKS, type Figure, type Summary } from "./summary.ts";

interface Tile {
  readonly element: HTMLElement;
  draw(figure: (name: string) => Figure | undefined, summary: Summary | undefined): void;
}

export class MarketTiles {
  private readonly tiles: readonly Tile[] = [
    amount("tile.market_cap", "market_cap_usd", "market_cap_change_percentage_24h_usd"),
    amount("tile.volume", "volume_24h_usd"),
    dominance(),
    gauge("tile.fear_greed", "fng_value", "fear_greed", 0),
    gauge("tile.rsi", "btc_rsi_14", "rsi", 1),
  ];
  private readonly stocks = STOCKS.map(stock);
  private summary: Summary | undefined;

  constructor(market: HTMLElement, stocks: HTMLElement) {
    market.replaceChildren(...this.tiles.map(({ element }) => element));
    stocks.replaceChildren(...this.stocks.map(({ element }) => element));
  }

  show(summary: Summary | undefined): void {
    this.summary = summary;
    this.draw();
  }

  draw(): void {
    const { summary } = this;
    const figure = (name: string): Figure | undefined => (summary ? (summary.figures.get(name) ?? NOT_KNOWN) : undefined);
    for (const tile of [...this.tiles, ...this.stocks]) tile.draw(figure, summary);
  }
}

function card(name: string): { element: HTMLElement; heading: HTMLElement; value: HTMLElement; change: HTMLElement; age: HTMLElement } {
  const heading = make("h3");
  const value = make("strong", { class: "value" });
  const change = make("span", { class: "change", data: true });
  const age = make("small", { class: "age" });
  const element = make("article", { class: "card tile", attributes: { "data-tile": name } }, heading, make("p", { class: "figure" }, value, " ", change), age);
  return { element, heading, value, change, age };
}

function showChange(target: HTMLElement, percentage: number | undefined): void {
  write(target, percentage === undefined ? "" : percent(percentage / 100));
  target.dataset["direction"] = direction(percentage ?? 0);
}

function amount(label: Key, name: string, changeName?: string): Tile {
  const { element, heading, value, change, age } = card(name);
  return {
    element,
    draw(figure) {
      const own = figure(name);
      write(heading, text(label));
      write(value, own?.value === undefined ? text("field.unknown") : compactMoney(own.value));
      value.classList.toggle("unknown", own?.value === undefined);
      showChange(change, changeName ? figure(changeName)?.value : undefined);
      showAge(age, own);
    },
  };
}

function gauge(label: Key, name: string, indicator: Indicator, digits: number): Tile {
  const { element, heading, value, change, age } = card(name);
  const drawing = new Gauge(indicator);
  heading.after(drawing.svg);
  return {
    element,
    draw(figure) {
      const own = figure(name);
      write(heading, text(label));
      drawing.show(text(label), own?.value, digits);
      write(value, own?.value === undefined ? text("field.unknown") : decimal(own.value, digits));
      value.classList.toggle("unknown", own?.value === undefined);
      write(change, own?.value === undefined ? "" : bandName(band(indicator, own.value)));
      change.translate = true;
      if (own?.value !== undefined) change.dataset["band"] = band(indicator, own.value).name;
      showAge(age, own);
    },
  };
}

function dominance(): Tile {
  const { element, heading, value, change, age } = card("dominance");
  value.remove();
  change.remove();
  const parts = ["btc", "eth", "others"] as const;
  const bar = shape("svg", { class: "shares", viewBox: "0 0 100 8", preserveAspectRatio: "none", "aria-hidden": "true" });
  const rects = parts.map((part) => shape("rect", { class: part, y: "0", height: "8" }));
  bar.append(...rects);
  const list = make("dl", { class: "shares-list" });
  const figures = parts.map((part) => {
    const name = make("dt");
    const share = make("dd", { data: true });
    list.append(make("div", { class: part }, name, share));
    return { name, share };
  });
  heading.after(bar, list);
  return {
    element,
    draw(figure) {
      const [btc, eth] = [figure("btc_market_cap_percentage"), figure("eth_market_cap_percentage")];
      write(heading, text("tile.dominance"));
      const known = btc?.value !== undefined && eth?.value !== undefined;
      const shares = [btc?.value, eth?.value, known ? 100 - btc.value! - eth.value! : undefined];
      let x = 0;
      parts.forEach((part, at) => {
        const share = shares[at];
        write(figures[at]!.name, part === "others" ? text("tile.others") : part.toUpperCase());
        figures[at]!.name.translate = part === "others";
        write(figures[at]!.share, share === undefined ? "—" : percent(share / 100, "auto", 1));
        rects[at]!.setAttribute("x", String(x));
        rects[at]!.setAttribute("width", String(Math.max(0, (share ?? 0) - 0.6)));
        x += share ?? 0;
      });
      showAge(age, btc?.value === undefined ? btc : btc.stale ? btc : (eth ?? btc));
    },
  };
}

function stock(name: (typeof STOCKS)[number]): Tile {
  const { element, heading, value, change, age } = card(name);
  heading.translate = value.translate = false;
  return {
    element,
    draw(_, summary) {
      const one = summary?.stocks?.find((other) => other.name === name);
      write(heading, name);
      write(value, one?.price === undefined ? text("field.unknown") : money(one.price));
      value.translate = one?.price === undefined;
      value.classList.toggle("unknown", one?.price === undefined);
      write(change, one?.change === undefined ? "" : `${signed(one.change, 2)}${one.ratio === undefined ? "" : ` (${percent(one.ratio)})`}`);
      change.dataset["direction"] = direction(one?.change ?? 0);
      const key = `stock.${one?.status}`;
      if (one && isKey(key) && !summary?.stocksFigure.stale) write(age, text(key));
      else showAge(age, summary ? { ...summary.stocksFigure, value: one?.price } : undefined);
    },
  };
}
