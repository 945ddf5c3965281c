// The home page: coins, the whole market, and every symbol we follow.
import { element, write } from "../elements.ts";
import { money, percent } from "../format.ts";
import { listedSymbols } from "../instruments.ts";
import { onLanguage, text } from "../language.ts";
import { LiveFeed } from "../live/feed.ts";
import { getJson, poll } from "../requests.ts";
import { showConnection, showFeeds, startShell } from "../shell.ts";
import { CoinCards } from "./coins.ts";
import { readSummary, type Summary } from "./summary.ts";
import { SymbolTable } from "./symbols.ts";
import { MarketTiles } from "./tiles.ts";

const SUMMARY = "/api/crypto/dashboard-summary";
const SUMMARY_INTERVAL = 5000;
const SYMBOLS_INTERVAL = 15_000;
// A screen reader should hear the price, not nothing but the price.
const ANNOUNCE_INTERVAL = 60_000;

startShell();
const feed = new LiveFeed();
let announcedAt = performance.now() - ANNOUNCE_INTERVAL + 5000;
let summary: Summary | undefined;
let failed = false;

const coins = new CoinCards(element("coins"), feed, (coin, price, ratio) => {
  if (coin !== "btc" || performance.now() - announcedAt < ANNOUNCE_INTERVAL) return;
  announcedAt = performance.now();
  write("announcement", text("home.says", { price: money(price), change: ratio === undefined ? "—" : percent(ratio) }));
});
const tiles = new MarketTiles(element("tiles"), element("stocks"));
const symbols = new SymbolTable(element("symbols"), element("symbols-summary"), element("symbols-note"), element<HTMLInputElement>("filter"), feed);

function draw(): void {
  coins.draw();
  tiles.draw();
  symbols.draw();
  showNotice();
}

function showNotice(): void {
  const notice = element("notice");
  const said = failed ? text(summary ? "home.away" : "home.no_summary") : summary?.partial ? text("home.partial") : "";
  write(notice, said);
  notice.hidden = said === "";
}

showConnection(feed);
onLanguage(() => {
  announcedAt = -Infinity;
  draw();
});
draw();
void showFeeds();
void poll(listedSymbols, SYMBOLS_INTERVAL, (listed) => {
  coins.offer(listed);
  symbols.offer(listed);
}, () => undefined);
void poll(
  async () => readSummary(await getJson(SUMMARY)),
  SUMMARY_INTERVAL,
  (said) => {
    summary = said;
    failed = false;
    coins.show(summary);
    tiles.show(summary);
    showNotice();
  },
  () => {
    failed = true;
    // Nobody waits for a first figure that does not come.
    if (!summary) {
      const nothing: Summary = readSummary({});
      coins.show(nothing);
      tiles.show(nothing);
    }
    showNotice();
  },
);
