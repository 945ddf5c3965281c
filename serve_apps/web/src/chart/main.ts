// The chart page: puts the chosen symbol's bars on the chart, and says in words and numbers what is on it.
import { element, write } from "../elements.ts";
import { clock, compact, direction, percent, price, signed, zonedMoment } from "../format.ts";
import { compare, keyOf, listedSymbols, type Instrument } from "../instruments.ts";
import { isKey, onLanguage, text } from "../language.ts";
import { LiveFeed } from "../live/feed.ts";
import { pause } from "../requests.ts";
import { showConnection, showFeeds, startShell } from "../shell.ts";
import { AlertsPanel } from "./alerts_panel.ts";
import { BarStore, type Bar } from "./bar_store.ts";
import { TRADES, type Timeframe } from "./bars_source.ts";
import { BookPanel } from "./book_panel.ts";
import { SymbolChooser } from "./chooser.ts";
import { Comparison } from "./compare.ts";
import { followGestures } from "./gestures.ts";
import { INDICATORS } from "./indicators.ts";
import { IndicatorMenu } from "./indicator_menu.ts";
import { Legend } from "./legend.ts";
import { Plot } from "./plot.ts";
import { Series, type Problem } from "./series.ts";
import { address, asked, chosenIndicators, isTimeframe, remember, remembered } from "./settings.ts";
import { TapePanel } from "./tape_panel.ts";
import { TrustPanel } from "./trust_panel.ts";
import { all, atLatest, latest, showsLatest, type Extent, type View } from "./view.ts";

const SYMBOLS_INTERVAL = 3000;
// A screen reader should hear the price, not nothing but the price.
const ANNOUNCE_INTERVAL = 15_000;
/** In rem: the wider, the fewer bars there are. */
const SPACING = 0.5;
const WIDEST_SPACING = 1.5;
/** Four prices of more characters do not fit beside each other on a phone. */
const LONG_PRICE = 10;

const settings = remembered();
const store = new BarStore();
let instrument: Instrument | undefined;
let series: Series | undefined;
let view: View = { from: 0, to: 100 };
let pointed: number | undefined;
let problem: { problem: Problem; detail: string } = { problem: "", detail: "" };
let announcedAt = -Infinity;
let drawing = false;

startShell(() => plot?.paint());
const feed = new LiveFeed();
const comparison = new Comparison(feed, () => {
  plot.refillLines();
  if (store.length) comparison.reach(store.at(store.begin)!.time);
  write("compared-name", comparison.instrument ? `${comparison.instrument.exchange} ${comparison.instrument.symbol}` : "");
  element("comparison").hidden = !comparison.instrument;
});
const plot = new Plot(element("chart"), store, comparison.store, (place) => {
  pointed = place;
  showNumbers();
});
const legend = new Legend(element("legend"));
const chooser = new SymbolChooser(element("chooser"), (wanted) => choose(wanted), () => void refreshSymbols(), "/");
const otherChooser = new SymbolChooser(element("other-chooser"), (wanted) => compareWith(wanted), () => void refreshSymbols(), "c");
const book = new BookPanel(element("book"), feed);
const tape = new TapePanel(element("tape"), feed);
const trust = new TrustPanel(element("trust"), [element("badge"), element("trust-badge")], feed);
const alerts = new AlertsPanel(element("alerts"), feed, {
  last: () => store.last?.close,
  timeframe: () => settings.timeframe,
  mark: (levels) => plot.mark(levels),
});
const menu = new IndicatorMenu(element("indicators"), chosenIndicators(settings), (names) => {
  settings.indicators = names.join();
  remember(settings);
  useIndicators();
});

followGestures(element("chart"), () => ({ view, extent: extent(), width: plot.width }), look);
element("latest").addEventListener("click", () => look(atLatest(view, extent())));
element("fit").addEventListener("click", () => look(all(extent())));
element("clear-comparison").addEventListener("click", () => compareWith(undefined));
for (const button of document.querySelectorAll<HTMLButtonElement>("#timeframes button")) {
  button.addEventListener("click", () => useTimeframe(button.value));
}
window.addEventListener("popstate", start);
new ResizeObserver(() => store.length && look(showsLatest(view, extent()) ? atLatest(view, extent()) : view)).observe(element("chart"));
onLanguage(() => {
  for (const panel of [book, tape, trust, alerts]) panel.draw();
  menu.draw();
  announcedAt = -Infinity;
  plot.refill(view);
  showNumbers();
  showProblem();
});
showConnection(feed);
let away = false;
feed.onState((state) => {
  if (state === "reconnecting") away = true;
  else if (state === "live" && away) {
    away = false;
    void series?.catchUp();
    comparison.catchUp();
  }
  showProblem();
});
showTimeframe();
void showFeeds();
start();
void offerSymbols();

/** What the address asks for, else what was looked at last. */
function start(): void {
  const { shown, compared, timeframe } = asked();
  if (timeframe && isTimeframe(timeframe)) settings.timeframe = timeframe;
  showTimeframe();
  const kept = settings.symbol && settings.exchange ? { symbol: settings.symbol, exchange: settings.exchange } : undefined;
  const wanted = shown ?? kept;
  if (wanted) choose(wanted);
  if (compared && keyOf(compared) !== (comparison.instrument && keyOf(comparison.instrument))) compareWith(compared);
}

async function offerSymbols(): Promise<void> {
  while (!(await refreshSymbols())) await pause(SYMBOLS_INTERVAL);
}

/** Asks for the symbols and chooses the first one if nothing is chosen; false while there are none. */
async function refreshSymbols(): Promise<boolean> {
  try {
    const listed = await listedSymbols();
    const byExchange = Map.groupBy(listed, ({ exchange }) => exchange);
    const names = new Map([...byExchange].sort(([a], [b]) => compare(a, b)).map(([exchange, rows]) => [exchange, rows.map(({ symbol }) => symbol)]));
    for (const one of [chooser, otherChooser]) one.offer(names);
    const [first] = listed;
    if (first && !instrument) choose(first);
    if (!first && !instrument) say("empty", "");
    return first !== undefined;
  } catch {
    if (!instrument) say("away", "");
    return false;
  }
}

function choose({ exchange, symbol }: Instrument): void {
  const wanted = { exchange, symbol };
  if (instrument && keyOf(wanted) === keyOf(instrument)) return;
  instrument = wanted;
  Object.assign(settings, wanted);
  remember(settings);
  history.replaceState(null, "", address(wanted, comparison.instrument));
  chooser.show(wanted);
  write("name", symbol);
  write("exchange", exchange);
  announcedAt = -Infinity;
  for (const panel of [book, tape, trust, alerts]) panel.follow(wanted);
  follow();
}

function compareWith(wanted: Instrument | undefined): void {
  const other = wanted && instrument && keyOf(wanted) === keyOf(instrument) ? undefined : wanted;
  comparison.with(other, settings.timeframe as Timeframe);
  otherChooser.show(other);
  plot.compare(other !== undefined);
  useIndicators();
  if (instrument) history.replaceState(null, "", address(instrument, other));
}

function useTimeframe(wanted: string): void {
  if (!isTimeframe(wanted) || wanted === settings.timeframe) return;
  settings.timeframe = wanted;
  remember(settings);
  showTimeframe();
  follow();
  if (comparison.instrument) compareWith(comparison.instrument);
}

function showTimeframe(): void {
  for (const button of document.querySelectorAll<HTMLButtonElement>("#timeframes button")) {
    button.setAttribute("aria-pressed", String(button.value === settings.timeframe));
  }
}

/** Follows what is chosen, instead of what was. */
function follow(): void {
  series?.end();
  if (!instrument) return;
  pointed = undefined;
  element("chart").dataset["loading"] = "true";
  series = new Series(instrument, settings.timeframe as Timeframe, store, feed, {
    replaced: () => {
      delete element("chart").dataset["loading"];
      view = latest(extent(), plot.width, spacing());
      endSeen = store.end;
      useIndicators();
      plot.reset(view);
      alerts.ready();
      looked();
    },
    refilled: () => {
      followEnd();
      plot.refill(view);
      looked();
    },
    moved: () => soon(),
    problem: say,
  });
  plot.reset(view);
  showNumbers();
}

function useIndicators(): void {
  const trades = settings.timeframe === TRADES;
  menu.limit(trades);
  // In percent, each line would begin at its own zero: beside another symbol those over the candles would mislead.
  const hidden = comparison.instrument ? INDICATORS.filter(({ pane }) => pane === "price").map(({ name }) => name) : [];
  const wanted = trades ? ["volume"] : chosenIndicators(settings).filter((name) => !hidden.includes(name));
  plot.use(wanted, trades);
  plot.show(view);
  showNumbers();
}

/** Once a frame at most, with all that came meanwhile. */
function soon(): void {
  if (drawing) return;
  drawing = true;
  requestAnimationFrame(() => {
    drawing = false;
    followEnd();
    plot.changeLast(view);
    showNumbers();
  });
}

let endSeen = 0;
/** When the newest bar is in view, new ones push it to the left; who looks elsewhere stays there. */
function followEnd(): void {
  const added = store.end - endSeen;
  if (view.to >= endSeen && added > 0) view = { from: view.from + added, to: view.to + added };
  endSeen = store.end;
}

function look(wanted: View): void {
  if (store.length === 0) return;
  view = wanted;
  plot.show(view);
  looked();
}

function looked(): void {
  void series?.older(view.from);
  showNumbers();
}

function extent(): Extent {
  return { begin: store.begin, end: store.end };
}

function spacing(): number {
  const rem = Number.parseFloat(getComputedStyle(document.documentElement).fontSize);
  return Math.max(SPACING, Math.min(WIDEST_SPACING, plot.width / (store.length + 8) / rem)) * rem;
}

function showNumbers(): void {
  const { last } = store;
  const bar: Bar | undefined = pointed === undefined ? last && plot.candleAt(store.end - 1) : plot.candleAt(pointed);
  const first = store.at(Math.max(store.begin, Math.ceil(view.from)));
  const told = (value: number | undefined): string => (value === undefined ? "—" : price(value, plot.decimals));
  const change = last && first ? last.close - first.open : 0;
  write("price", told(last?.close));
  element("price").dataset["direction"] = element("change").dataset["direction"] = direction(change);
  write("change", last && first ? `${signed(change, plot.decimals)} (${percent(change / first.open)})` : "");
  write("since", last && first ? text("chart.since", { time: clock(first.time) }) : "");
  write("time", bar ? zonedMoment(bar.time) : "—");
  for (const field of ["open", "high", "low", "close"] as const) write(field, told(bar?.[field]));
  write("volume", bar ? compact(bar.volume) : "—");
  const long = bar !== undefined && price(bar.high, plot.decimals).length > LONG_PRICE;
  element("bar").classList.toggle("long", long);
  write("of", plot.factor > 1 ? text(settings.timeframe === TRADES ? "chart.candle_of_trades" : "chart.candle_of", { n: plot.factor, timeframe: settings.timeframe }) : "");
  legend.show(store, settings.timeframe === TRADES ? [] : chosenIndicators(settings), pointed ?? store.end - 1, plot.decimals);
  element("latest").hidden = !last || showsLatest(view, extent());
  document.title = last && instrument ? `${told(last.close)} · ${instrument.symbol} · rayfeed` : `${text("chart.title")} · rayfeed`;
  const chart = element("chart");
  // For tests and for those who measure.
  Object.assign(chart.dataset, { bars: String(store.length), held: String(plot.held), factor: String(plot.factor), decimals: String(plot.decimals), close: String(last?.close ?? "") });
  if (last && instrument && performance.now() - announcedAt > ANNOUNCE_INTERVAL) {
    announcedAt = performance.now();
    write("announcement", text("chart.says", { symbol: instrument.symbol, price: told(last.close), change: element("change").textContent }));
    chart.setAttribute("aria-label", text("chart.label", { symbol: instrument.symbol, exchange: instrument.exchange, timeframe: timeframeName(), price: told(last.close) }));
  }
}

function timeframeName(): string {
  const key = `timeframe.${settings.timeframe}`;
  return isKey(key) ? text(key) : settings.timeframe;
}

function say(now: Problem, detail: string): void {
  problem = { problem: now, detail };
  showProblem();
}

function showProblem(): void {
  const message = element("message");
  write(message, sentence());
  message.hidden = message.textContent === "";
  message.classList.toggle("over-chart", store.length > 0);
}

function sentence(): string {
  if (problem.problem === "empty") {
    return instrument ? text("chart.empty", { symbol: instrument.symbol, exchange: instrument.exchange }) : text("chart.no_symbols");
  }
  if (problem.problem === "" && !away) return "";
  const { last } = store;
  const parts = [problem.detail || text("chart.away"), text("chart.again")];
  if (last) parts.push(text("chart.until_then", { time: clock(last.time) }));
  return parts.join(" ");
}
