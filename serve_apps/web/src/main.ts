// The home page: puts the chosen instrument's bars on the chart and says in words what the chart shows.
import { PriceChart } from "./chart";
import { SymbolChooser } from "./chooser";
import { percentFormat, timeFormat, volumeFormat, zonedFormat } from "./format";
import { showIntegrity } from "./integrity";
import { followTheme, rememberedInstrument, rememberInstrument } from "./preferences";
import { showFeeds } from "./readiness";
import { follow, pause, symbolsByExchange, type Connection, type Instrument } from "./source";

const STATES: Record<Connection, string> = {
  connecting: "Connecting",
  live: "Live",
  empty: "No data yet",
  reconnecting: "Reconnecting",
};
const SYMBOLS_INTERVAL = 3000;
// A screen reader should hear the price, not nothing but the price.
const ANNOUNCE_INTERVAL = 15_000;
// Four prices of more characters do not fit beside each other on a phone.
const LONG_PRICE = 10;

let instrument: Instrument | undefined;
let unfollow = (): void => {};
let announcedAt = -Infinity;

const chart = new PriceChart(element("chart"), showNumbers);
const chooser = new SymbolChooser(element("chooser"), choose, () => void refreshSymbols());
followTheme(element<HTMLButtonElement>("theme"), () => chart.paint());
element("latest").addEventListener("click", () => chart.showLatest());
window.addEventListener("hashchange", () => {
  const wanted = rememberedInstrument();
  if (wanted) choose(wanted);
});
void showFeeds(element("feeds"));
void showIntegrity(element("integrity"));
void start();

async function start(): Promise<void> {
  const remembered = rememberedInstrument();
  if (remembered) choose(remembered);
  const forever = new AbortController().signal;
  while (!(await refreshSymbols())) await pause(SYMBOLS_INTERVAL, forever);
}

/** Asks for the symbols and chooses the first one if nothing is chosen; false while there are none. */
async function refreshSymbols(): Promise<boolean> {
  try {
    const symbols = await symbolsByExchange(new AbortController().signal);
    chooser.offer(symbols);
    const [first] = symbols;
    if (first && !instrument) choose({ exchange: first[0], symbol: first[1][0]! });
    if (!first && !instrument) showConnection("empty");
    return first !== undefined;
  } catch {
    if (!instrument) showConnection("reconnecting", "The server does not answer");
    return false;
  }
}

function choose(wanted: Instrument): void {
  if (wanted.exchange === instrument?.exchange && wanted.symbol === instrument.symbol) return;
  unfollow();
  instrument = wanted;
  rememberInstrument(wanted);
  chooser.show(wanted);
  write("name", wanted.symbol);
  write("exchange", wanted.exchange);
  chart.replace([]);
  announcedAt = -Infinity;
  unfollow = follow(wanted, {
    replaced: (bars) => chart.replace(bars),
    changed: (bars) => chart.change(bars),
    connection: showConnection,
  });
}

function showNumbers(): void {
  const { last, pointed, firstVisible } = chart;
  const price = chart.price;
  const change = last && firstVisible ? last.close - firstVisible.open : 0;
  const direction = change > 0 ? "up" : change < 0 ? "down" : "flat";
  write("price", last ? price.format(last.close) : "—");
  element("price").dataset["direction"] = element("change").dataset["direction"] = direction;
  write("change", last && firstVisible ? `${signed(price, change)} (${percentFormat.format(change / firstVisible.open)}) since ${timeFormat.format(firstVisible.time)}` : "");
  write("time", pointed ? zonedFormat.format(pointed.time) : "—");
  for (const field of ["open", "high", "low", "close"] as const) write(field, pointed ? price.format(pointed[field]) : "—");
  write("volume", pointed ? volumeFormat.format(pointed.volume) : "—");
  element("bar").dataset["direction"] = pointed && pointed.close < pointed.open ? "down" : "up";
  element("bar").classList.toggle("long", pointed !== undefined && price.format(pointed.high).length > LONG_PRICE);
  element("latest").hidden = !last || chart.showsLast;
  document.title = last && instrument ? `${price.format(last.close)} · ${instrument.symbol} · rayfeed` : "rayfeed";
  if (last && instrument && performance.now() - announcedAt > ANNOUNCE_INTERVAL) {
    announcedAt = performance.now();
    write("announcement", `${instrument.symbol} ${price.format(last.close)}, ${element("change").textContent}`);
  }
}

function showConnection(state: Connection, reason = ""): void {
  element("connection").dataset["state"] = state;
  write("connection", STATES[state]);
  const message = element("message");
  write("message", sentence(state, reason));
  message.hidden = message.textContent === "";
  message.classList.toggle("over-chart", chart.last !== undefined);
}

function sentence(state: Connection, reason: string): string {
  if (state === "empty" && !instrument) return "No symbols yet. They appear here once an exchange has sent its first trade.";
  if (state === "empty") return `No bar of ${instrument?.symbol} on ${instrument?.exchange} yet. The first one appears here with its first trade.`;
  if (state !== "reconnecting") return "";
  const shown = chart.last ? ` Until then the chart ends at ${timeFormat.format(chart.last.time)}.` : "";
  return `${reason}. Trying again by itself.${shown}`;
}

function signed(format: Intl.NumberFormat, value: number): string {
  return (value > 0 ? "+" : "") + format.format(value);
}

function write(id: string, text: string): void {
  const target = element(id);
  if (target.textContent !== text) target.textContent = text;
}

function element<T extends HTMLElement = HTMLElement>(id: string): T {
  const found = document.getElementById(id);
  if (!found) throw new Error(`index.html has no #${id}`);
  return found as T;
}
